//! Which tools there are, and how their tree comes to be.

use std::fs;
use std::path::{Path, PathBuf};

use cairn_unit::Arch;
use serde::Deserialize;

use super::folder::write_folder;
use super::{ToolsError, ToolsTree};
use crate::archive::{Mirror, Suite};
use crate::build::contents;
use crate::cache::{Cache, Digest, FetchOptions, Transport, fetch_all};
use crate::leftovers;
use crate::progress::Progress;
use crate::resolve::{Lock, Request};
use crate::tree::{
    Accounts, Content, Node, PackageFiles, Tree, base_links, cache_entries, certificate_bundle, lay_packages,
    loader_cache, standard_folders,
};

/// The list's path below the project's folder.
pub const LIST_PATH: &str = "imagegen/tools.toml";
const LIST: &str = include_str!("../../tools.toml");
const TOOLS_LOCK: &str = include_str!("../../tools.amd64.lock");
const JUDGES_LOCK: &str = include_str!("../../judges.amd64.lock");
const PEERS_LOCK: &str = include_str!("../../peers.amd64.lock");
const BROWSER_LOCK: &str = include_str!("../../browser.amd64.lock");

/// A set of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolSet {
    /// What a build and `imagegen run` need.
    Tools,
    /// What only tests need: other people's programs that judge an image.
    Judges,
    /// What only benchmarks need: other people's image builders, to run as root with this tree as `/`.
    Peers,
    /// What only the test of the owner's pages needs: a browser, the program that drives it, and fonts.
    Browser,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    tools: Packages,
    judges: Packages,
    peers: Packages,
    browser: Packages,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Packages {
    packages: Vec<String>,
}

impl ToolSet {
    /// All sets.
    pub const ALL: [ToolSet; 4] = [ToolSet::Tools, ToolSet::Judges, ToolSet::Peers, ToolSet::Browser];

    /// The set's name on the command line and in `tools.toml`.
    pub fn name(self) -> &'static str {
        match self {
            ToolSet::Tools => "tools",
            ToolSet::Judges => "judges",
            ToolSet::Peers => "peers",
            ToolSet::Browser => "browser",
        }
    }

    /// Where its packages come from. A browser's updates replace each other every week, and a mirror drops what was replaced:
    /// that set takes what stays until the next point release.
    pub fn suites(self) -> Vec<Suite> {
        let all = Suite::trixie();
        match self {
            ToolSet::Browser => all.into_iter().take(1).collect(),
            _ => all,
        }
    }

    /// The lock's name for messages, below the project's folder.
    pub fn lock_path(self) -> PathBuf {
        format!("imagegen/{}.amd64.lock", self.name()).into()
    }

    /// What the set's lock is made from, by the list that this program carries.
    pub fn request(self) -> Result<Request, ToolsError> {
        self.request_from(LIST)
    }

    /// What the set's lock is made from, by the text of a `tools.toml`.
    pub fn request_from(self, list: &str) -> Result<Request, ToolsError> {
        let list: List = toml::from_str(list).map_err(|e| ToolsError::List {
            path: LIST_PATH.into(),
            why: e.to_string(),
        })?;
        let set = match self {
            ToolSet::Tools => list.tools,
            ToolSet::Judges => list.judges,
            ToolSet::Peers => list.peers,
            ToolSet::Browser => list.browser,
        };
        Ok(Request {
            arch: "amd64".into(),
            units: [("tools".to_owned(), set.packages)].into(),
        })
    }

    /// The lock that this program carries.
    pub fn lock(self) -> Result<Lock, ToolsError> {
        let path = self.lock_path();
        let text = match self {
            ToolSet::Tools => TOOLS_LOCK,
            ToolSet::Judges => JUDGES_LOCK,
            ToolSet::Peers => PEERS_LOCK,
            ToolSet::Browser => BROWSER_LOCK,
        };
        let wrong = |why: String| ToolsError::List {
            path: path.clone(),
            why,
        };
        let lock = Lock::parse(text, &path).map_err(|e| wrong(e.to_string()))?;
        if !lock.is_current(&self.request()?) {
            return Err(wrong(format!(
                "{LIST_PATH} has changed since it was made; run `imagegen lock --tools` in the project's folder and build imagegen anew"
            )));
        }
        Ok(lock)
    }
}

impl ToolSet {
    /// The name of the set's tree in the cache's folder of tools: the hash of its lock.
    pub fn tree_name(self) -> Result<String, ToolsError> {
        let text = self.lock()?.to_text().map_err(|e| ToolsError::Package(e.to_string()))?;
        Ok(Digest::of(text.as_bytes()).to_string())
    }
}

/// The set's tree, fetched and unpacked if it is not in the cache yet. `helper` as in [`ToolsTree::helper`].
pub fn load_tools(
    set: ToolSet,
    cache: &Cache,
    mirror: &dyn Fn() -> Result<Mirror, String>,
    options: &FetchOptions,
    helper: Option<PathBuf>,
    progress: &dyn Progress,
) -> Result<ToolsTree, ToolsError> {
    if Arch::host() != Some(Arch::Amd64) {
        let why = "tools are locked for amd64 machines only: build on one".to_owned();
        return Err(ToolsError::List {
            path: set.lock_path(),
            why,
        });
    }
    let lock = set.lock()?;
    let hash = set.tree_name()?;
    let root = cache.tools().join(&hash);
    let tree = ToolsTree {
        root: root.clone(),
        hash,
        helper,
    };
    if root.is_dir() {
        mark_used(&root);
        return Ok(tree);
    }
    let _in_use = cache.in_use()?;
    let _alone = cache.alone(&tree.hash)?;
    if root.is_dir() {
        return Ok(tree);
    }
    fetch(&lock, cache, mirror, options, progress)?;
    let files = contents::load(cache, &lock.packages.iter().collect::<Vec<_>>(), progress)
        .map_err(|e| ToolsError::Package(e.to_string()))?;
    let content = assemble(&files.into_iter().map(|p| p.files).collect::<Vec<_>>())?;
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| ToolsError::Write { doing, path, source }
    };
    let temporary = tempfile::Builder::new()
        .prefix(".tmp-")
        .tempdir_in(cache.tools())
        .map_err(failed("create a folder in", &cache.tools()))?;
    let _watched = leftovers::watch(temporary.path());
    write_folder(&content, temporary.path())?;
    fs::set_permissions(temporary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(failed("set the mode of", temporary.path()))?;
    // A tree is never looked at again once it is there: a power cut must not leave one of empty files.
    fs::File::open(temporary.path())
        .and_then(|folder| Ok(rustix::fs::syncfs(folder)?))
        .map_err(failed("sync", temporary.path()))?;
    match fs::rename(temporary.path(), &root) {
        Ok(()) => {
            let _ = temporary.keep();
        }
        // Another build was faster; its tree is the same.
        Err(_) if root.is_dir() => {}
        Err(source) => {
            return Err(ToolsError::Write {
                doing: "rename to",
                path: root,
                source,
            });
        }
    }
    Ok(tree)
}

/// Collection goes by when a tree was last used; that this fails (a read-only cache) does no harm.
fn mark_used(root: &Path) {
    if let Ok(folder) = fs::File::open(root) {
        let _ = folder.set_modified(std::time::SystemTime::now());
    }
}

fn fetch(
    lock: &Lock,
    cache: &Cache,
    mirror: &dyn Fn() -> Result<Mirror, String>,
    options: &FetchOptions,
    progress: &dyn Progress,
) -> Result<(), ToolsError> {
    if lock.packages.iter().all(|p| cache.blob(&p.sha256, p.size).is_some()) {
        return Ok(());
    }
    let mirror = mirror().map_err(ToolsError::Package)?;
    fetch_all(
        cache,
        &Transport::new(contents::PATIENCE),
        &lock.wants(&mirror),
        options,
        progress,
    )?;
    Ok(())
}

/// Top-level folders that a host's own paths may lie below: the sandbox must be free to put them there.
const NOT_TOOLS: [&str; 12] = [
    "boot", "dev", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp",
];

fn assemble(packages: &[PackageFiles]) -> Result<Tree, ToolsError> {
    let mut tree = Tree::new("tools");
    lay_packages(&mut tree, packages)?;
    base_links(&mut tree);
    standard_folders(&mut tree);
    let mut accounts = Accounts::base(&tree)?;
    // The sandbox has one id only; who else there is does not matter.
    let _ = accounts.add("tools", &[], &mut |_| None);
    accounts.write(&mut tree);
    certificate_bundle(&mut tree)?;
    let entries = cache_entries(&mut tree, Arch::Amd64)?;
    tree.put(
        "etc/ld.so.cache",
        Node::file(Content::bytes(loader_cache(&entries, Arch::Amd64)), 0o644, "imagegen"),
    );
    for path in [
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
        "usr/share/info",
        "var",
    ]
    .iter()
    .chain(&NOT_TOOLS)
    {
        tree.remove(path);
    }
    Ok(tree)
}
