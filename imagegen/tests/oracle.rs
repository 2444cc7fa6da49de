//! The oracle: the same packages at the same versions, installed the ordinary way with their maintainer scripts, beside
//! our service roots.
//!
//! Every difference must be explained in `oracle.toml`, every explanation must explain something, and an explanation by a
//! maintainer script must quote that script. Accounts are compared by name, libraries by what `ldconfig -p` says.
//!
//! Needs root, mmdebstrap, ldconfig and a Debian mirror; skipped with a reason where they lack. With `CAIRN_ORACLE_KEEP=DIR`
//! the ordinary installations stay in DIR and are used again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_unit::{Arch, Name};
use imagegen::archive::{Area, Mirror, Suite};
use imagegen::build::{self, BuildPlan, Options, Services};
use imagegen::cache::{Cache, FetchOptions};
use imagegen::progress::Silent;
use imagegen::tree::{Content, Glob, Kind, Rules, Tree};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    explained: Vec<Explained>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Explained {
    /// `missing` (only in the ordinary installation), `added` (only in ours), `content`, `mode`, `owner` or `kind`.
    difference: String,
    /// Patterns as in recipes; each must match. Accounts are `/@user/NAME` and `/@group/NAME`.
    paths: Vec<String>,
    /// The units that it holds for; empty: all.
    #[serde(default)]
    units: BTreeSet<String>,
    reason: String,
    /// The maintainer script that makes the difference, `PACKAGE.postinst`, and words that stand in it.
    script: Option<Script>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    name: String,
    says: String,
}

/// What of a node is compared.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    kind: String,
    mode: u32,
    owner: String,
    content: String,
}

/// One root: its nodes by absolute path, its accounts as pseudo paths, and its loader's cache in words.
#[derive(Default)]
struct Root {
    facts: BTreeMap<String, Facts>,
    libraries: Vec<String>,
}

/// Files that are compared by their meaning.
const BY_MEANING: [&str; 5] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/ld.so.cache",
];

fn skip() -> Option<String> {
    if !rustix::process::getuid().is_root() {
        return Some("it needs root to run maintainer scripts".into());
    }
    for tool in ["mmdebstrap", "ldconfig"] {
        if Command::new(tool).arg("--version").output().is_err() {
            return Some(format!("{tool} is not installed"));
        }
    }
    Mirror::discover().err().map(|e| e.to_string())
}

/// The names of ids in a file in the format of passwd(5) or group(5).
fn names(text: &str) -> BTreeMap<u32, String> {
    let line = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    text.lines().filter_map(line).collect()
}

/// Accounts as nodes: a number that Debian fixes counts, any other does not; no account may have a password.
fn accounts(passwd: &str, group: &str, shadow: &str, out: &mut BTreeMap<String, Facts>) {
    let locked: BTreeMap<&str, bool> = shadow
        .lines()
        .filter_map(|l| {
            let mut fields = l.split(':');
            Some((fields.next()?, fields.next()?.starts_with(['!', '*'])))
        })
        .collect();
    let groups = names(group);
    let fixed = |id: &str| match id.parse::<u32>() {
        Ok(id) if id < 100 || id == 65534 => id.to_string(),
        _ => "any".into(),
    };
    let account = |content: String| Facts {
        kind: "account".into(),
        mode: 0,
        owner: String::new(),
        content,
    };
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, password, uid, gid, _, home, shell] = fields[..] else {
            panic!("passwd: {line}")
        };
        let primary = gid.parse().ok().and_then(|gid| groups.get(&gid));
        let primary = primary.map_or("nobody's", String::as_str);
        // The field here holds without a line in shadow(5), which the package passwd makes.
        let locked = locked.get(name).copied().unwrap_or(password.starts_with(['!', '*']));
        let content = format!(
            "uid {} group {primary} home {home} shell {shell} locked {locked}",
            fixed(uid)
        );
        out.insert(format!("/@user/{name}"), account(content));
    }
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members] = fields[..] else {
            panic!("group: {line}")
        };
        let members: BTreeSet<&str> = members.split(',').collect();
        out.insert(
            format!("/@group/{name}"),
            account(format!("gid {} members {members:?}", fixed(gid))),
        );
    }
}

/// What a loader's cache says, one library a line.
fn libraries(cache: &Path) -> Vec<String> {
    let output = Command::new("ldconfig").args(["-p", "-C"]).arg(cache).output().unwrap();
    assert!(
        output.status.success(),
        "ldconfig does not read {}: {}",
        cache.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|l| l.contains(" => "));
    lines.map(|l| l.trim().to_owned()).collect()
}

fn named(names: &(BTreeMap<u32, String>, BTreeMap<u32, String>), uid: u32, gid: u32) -> String {
    let name = |of: &BTreeMap<u32, String>, id: u32| of.get(&id).cloned().unwrap_or_else(|| format!("number {id}"));
    format!("{}:{}", name(&names.0, uid), name(&names.1, gid))
}

fn ours(tree: &Tree) -> Root {
    let mut out = Root::default();
    let text = |path: &str| tree.text(path).unwrap().unwrap();
    let (passwd, group) = (text("etc/passwd"), text("etc/group"));
    let known = (names(&passwd), names(&group));
    for (path, node) in tree.iter().filter(|(p, _)| !p.is_empty()) {
        let (kind, mut content) = match &node.kind {
            Kind::Folder => ("folder", String::new()),
            Kind::File(content) => ("file", hex(&content.digest)),
            Kind::Link(target) => ("link", target.clone()),
            Kind::Character { .. } => ("device", String::new()),
        };
        let path = format!("/{path}");
        if BY_MEANING.contains(&path.as_str()) {
            content.clear();
        }
        let mode = if kind == "link" { 0o777 } else { node.mode };
        let owner = named(&known, node.uid, node.gid);
        let kind = kind.into();
        out.facts.insert(
            path,
            Facts {
                kind,
                mode,
                owner,
                content,
            },
        );
    }
    accounts(&passwd, &group, &text("etc/shadow"), &mut out.facts);
    if let Some(cache) = tree.get("etc/ld.so.cache").and_then(|n| n.content()) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), cache.read().unwrap()).unwrap();
        out.libraries = libraries(file.path());
    }
    out
}

/// The ordinary installation; what only packages outside of the closure have, and what the rules leave out, is no
/// difference, unless we have it all the same.
fn theirs(root: &Path, ours: &Root, foreign: &BTreeSet<String>, rules: &Rules) -> Root {
    let mut out = Root::default();
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let (passwd, group) = (text("etc/passwd"), text("etc/group"));
    let known = (names(&passwd), names(&group));
    let (mut todo, mut folders) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = todo.pop() {
        let mut children = Vec::new();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let inside = format!("/{}", path.strip_prefix(root).unwrap().display());
            children.push(inside.clone());
            let (kind, mut content) = if meta.is_dir() {
                todo.push(path.clone());
                ("folder", String::new())
            } else if meta.is_symlink() {
                ("link", fs::read_link(&path).unwrap().display().to_string())
            } else if meta.is_file() {
                ("file", hex(&Content::file(&path).unwrap().digest))
            } else {
                ("device", String::new())
            };
            if !ours.facts.contains_key(&inside) && (foreign.contains(&inside) || rules.leaves_out(&inside)) {
                continue;
            }
            if BY_MEANING.contains(&inside.as_str()) {
                content.clear();
            }
            let mode = match kind {
                "link" => 0o777,
                _ => meta.permissions().mode() & 0o7777,
            };
            let owner = named(&known, meta.uid(), meta.gid());
            let kind = kind.into();
            out.facts.insert(
                inside,
                Facts {
                    kind,
                    mode,
                    owner,
                    content,
                },
            );
        }
        folders.push((format!("/{}", folder.strip_prefix(root).unwrap().display()), children));
    }
    // A folder that holds only what is left out is left out; one that was empty before is not.
    for (folder, children) in folders.iter().rev() {
        let gone = !children.is_empty() && !children.iter().any(|c| out.facts.contains_key(c));
        if gone && !ours.facts.contains_key(folder) {
            out.facts.remove(folder);
        }
    }
    accounts(&passwd, &group, &text("etc/shadow"), &mut out.facts);
    let real = |path: &str| match path.strip_prefix("/lib") {
        Some(_) => format!("/usr{path}"),
        None => path.to_owned(),
    };
    out.libraries = libraries(&root.join("etc/ld.so.cache"));
    out.libraries.retain(|line| {
        line.split(" => ")
            .nth(1)
            .is_some_and(|path| !foreign.contains(&real(path)))
    });
    out
}

/// Paths that only packages outside of the closure have.
fn foreign(root: &Path, closure: &BTreeSet<&str>) -> BTreeSet<String> {
    let (mut inside, mut outside) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(root.join("var/lib/dpkg/info")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "list") {
            continue;
        }
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let name = stem.split(':').next().unwrap_or_default();
        let set = match closure.contains(name) {
            true => &mut inside,
            false => &mut outside,
        };
        for line in fs::read_to_string(&path).unwrap().lines() {
            let first = line.trim_start_matches('/').split('/').next().unwrap_or_default();
            let merged = ["bin", "sbin", "lib", "lib64"].contains(&first) && line.matches('/').count() > 1;
            set.insert(if merged { format!("/usr{line}") } else { line.to_owned() });
        }
    }
    outside.difference(&inside).cloned().collect()
}

fn compare(ours: &BTreeMap<String, Facts>, theirs: &BTreeMap<String, Facts>) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    for path in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
        match (ours.get(path), theirs.get(path)) {
            (Some(_), None) => out.push(("added", path.clone())),
            (None, Some(_)) => out.push(("missing", path.clone())),
            (Some(a), Some(b)) if a.kind != b.kind => out.push(("kind", path.clone())),
            (Some(a), Some(b)) => {
                let parts = [
                    ("mode", a.mode != b.mode),
                    ("owner", a.owner != b.owner),
                    ("content", a.content != b.content),
                ];
                let differing = parts.iter().filter(|(_, differs)| *differs);
                out.extend(differing.map(|(name, _)| (*name, path.clone())));
            }
            (None, None) => {}
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn every_difference_to_an_ordinary_installation_is_explained() {
    if let Some(reason) = skip() {
        eprintln!("skipped: {reason}");
        return;
    }
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let cache = Cache::from_env().unwrap();
    let mirror = Mirror::discover().unwrap();
    let fetch = FetchOptions::default();
    let find = || Mirror::discover().map_err(|e| e.to_string());
    let services = Services {
        cache: &cache,
        fetch: &fetch,
        mirror: &find,
        tools: None,
        helper: None,
        progress: &Silent,
    };
    let options = Options {
        arch: Arch::Amd64,
        formats: None,
        profile: None,
        output: PathBuf::from("unused"),
        binaries: None,
    };
    let plan = build::plan(&project.join("appliances/base.toml"), &options).unwrap();
    let rules = Rules::new(&plan.recipe.exclude).unwrap();
    let table: Table = toml::from_str(include_str!("oracle.toml")).unwrap();
    let patterns: Vec<(usize, &String, Glob)> = table
        .explained
        .iter()
        .enumerate()
        .flat_map(|(row, e)| e.paths.iter().map(move |p| (row, p, Glob::new(p).unwrap())))
        .collect();
    let kept = std::env::var_os("CAIRN_ORACLE_KEEP").map(PathBuf::from);
    let scratch = tempfile::tempdir().unwrap();
    let (mut used, mut quoted) = (BTreeSet::new(), BTreeSet::new());
    let mut faults = Vec::new();
    // A unit of our own programs alone has nothing that could be installed.
    let packaged = plan.units.keys().filter(|unit| !plan.roots[*unit].packages.is_empty());
    for unit in packaged {
        let folder = kept.as_deref().unwrap_or(scratch.path()).join(unit.as_str());
        // It fetches the packages.
        let mine = ours(&build::preview_root(&plan, unit, &services).unwrap());
        if !folder.is_dir() {
            install(&plan, unit, &cache, &mirror, &folder);
        }
        let closure: BTreeSet<&str> = plan.roots[unit].packages.iter().map(|p| p.name.as_str()).collect();
        let other = theirs(&folder, &mine, &foreign(&folder, &closure), &rules);
        assert!(other.facts.len() > 100, "the ordinary installation of {unit} is empty");
        if mine.libraries != other.libraries {
            faults.push(format!(
                "{unit}: ldconfig -p says {:#?} of ours and {:#?} of theirs",
                mine.libraries, other.libraries
            ));
        }
        for (difference, path) in compare(&mine.facts, &other.facts) {
            let found = patterns.iter().position(|(row, _, pattern)| {
                let e = &table.explained[*row];
                e.difference == difference
                    && pattern.matches(&path)
                    && (e.units.is_empty() || e.units.contains(unit.as_str()))
            });
            match found {
                Some(i) => _ = used.insert(i),
                None => faults.push(format!(
                    "{unit}: {difference} {path}: {:?} / {:?}",
                    mine.facts.get(&path),
                    other.facts.get(&path)
                )),
            }
        }
        for (row, e) in table.explained.iter().enumerate() {
            let Some(script) = &e.script else { continue };
            let text = fs::read_to_string(folder.join("var/lib/dpkg/info").join(&script.name));
            if text.is_ok_and(|text| text.contains(&script.says)) {
                quoted.insert(row);
            }
        }
    }
    for (i, (_, path, _)) in patterns.iter().enumerate() {
        if !used.contains(&i) {
            faults.push(format!("the table explains {path}, which does not differ"));
        }
    }
    for (row, e) in table.explained.iter().enumerate() {
        if let Some(script) = e.script.as_ref().filter(|_| !quoted.contains(&row)) {
            faults.push(format!("{} does not say {:?}", script.name, script.says));
        }
        if e.reason.len() < 15 {
            faults.push(format!("{:?} has no reason", e.paths));
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// The unit's packages as the lock has them, as a repository that apt reads (deb-control(5), sources.list(5)).
fn repository(plan: &BuildPlan, unit: &Name, cache: &Cache) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut index = String::new();
    for package in &plan.roots[unit].packages {
        let blob = cache.blob(&package.sha256, package.size).unwrap();
        let file = format!("{}.deb", package.sha256);
        fs::copy(&blob, folder.path().join(&file)).unwrap();
        fs::set_permissions(folder.path().join(&file), fs::Permissions::from_mode(0o644)).unwrap();
        let control = Command::new("dpkg-deb").arg("--field").arg(&blob).output().unwrap();
        assert!(control.status.success(), "{}", package.name);
        let control = String::from_utf8(control.stdout).unwrap();
        let (control, size, hash) = (control.trim_end(), package.size, &package.sha256);
        index += &format!("{control}\nFilename: ./{file}\nSize: {size}\nSHA256: {hash}\n\n");
    }
    fs::write(folder.path().join("Packages"), index).unwrap();
    folder
}

/// Installs the unit's closure, at the lock's versions, into `folder` with every maintainer script.
fn install(plan: &BuildPlan, unit: &Name, cache: &Cache, mirror: &Mirror, folder: &Path) {
    // apt reads the keys as a user of its own.
    let keys = tempfile::tempdir().unwrap();
    fs::set_permissions(keys.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut signed = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("keys")).unwrap() {
        let from = entry.unwrap().path();
        if from.extension().is_some_and(|e| e == "asc") {
            let to = keys.path().join(from.file_name().unwrap());
            fs::copy(&from, &to).unwrap();
            fs::set_permissions(&to, fs::Permissions::from_mode(0o644)).unwrap();
            signed.push(to.display().to_string());
        }
    }
    let signed = signed.join(",");
    let sources = Suite::trixie().into_iter().map(|suite| {
        let base = match suite.area {
            Area::Main => mirror.base(Area::Main),
            Area::Security => mirror.base(Area::Security),
        };
        format!("deb [signed-by={signed}] {base} {} main", suite.name)
    });
    let packages = plan.roots[unit].packages.iter();
    // A mirror's index names the newest versions alone, and the lock's may be older.
    let local = repository(plan, unit, cache);
    let own = format!("deb [trusted=yes] copy:{} ./", local.path().display());
    let include: Vec<String> = packages.map(|p| format!("{}={}", p.name, p.version)).collect();
    let output = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=essential"])
        .arg(format!("--include={}", include.join(",")))
        // Also for what is installed before the unit's packages (apt_preferences(5)).
        .arg("--setup-hook=printf 'Package: *\\nPin: origin \"\"\\nPin-Priority: 1001\\n' > \"$1\"/etc/apt/preferences.d/lock")
        .arg("--customize-hook=rm \"$1\"/etc/apt/preferences.d/lock")
        // Copies of the build machine's.
        .arg("--customize-hook=rm -f \"$1\"/etc/hostname \"$1\"/etc/resolv.conf")
        .arg("trixie")
        .arg(folder)
        .args(sources)
        .arg(own)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "mmdebstrap cannot install {unit}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
