//! The peers: Debian's own tools in a tree of their own, run as root in a mount namespace.
//!
//! The tree is the `peers` set of `imagegen/tools.toml`, under an overlay so that what the tools write is thrown away or kept
//! apart. The scripts in `bench/peers/` say what they do; they get the mirror, the packages and the output folder.

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use imagegen::archive::{Area, Mirror};
use imagegen::cache::{Cache, FetchOptions};
use imagegen::progress::Silent;
use imagegen::tools::{ToolSet, load_tools};

/// A place where peers run.
pub(crate) struct Peers {
    folder: PathBuf,
    tree: PathBuf,
    mirror: Mirror,
}

impl Peers {
    /// Makes the tree ready below `folder`. The error says why peers cannot run here.
    pub(crate) fn prepare(folder: &Path) -> Result<Peers, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("the peer needs root, which this run does not have".into());
        }
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let mirror = Mirror::discover().map_err(|e| said(&e))?;
        let cache = Cache::from_env().map_err(|e| said(&e))?;
        let discover = || Mirror::discover().map_err(|e| e.to_string());
        let tools = load_tools(
            ToolSet::Peers,
            &cache,
            &discover,
            &FetchOptions::default(),
            None,
            &Silent,
        )
        .map_err(|e| said(&e))?;
        let folder = folder.join("peers");
        for part in ["upper", "work", "root", "out", "packages"] {
            fs::create_dir_all(folder.join(part)).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        }
        Ok(Peers {
            folder,
            tree: tools.root,
            mirror,
        })
    }

    /// Where the scripts leave what they make.
    pub(crate) fn out(&self) -> PathBuf {
        self.folder.join("out")
    }

    /// Runs a script of `bench/peers/` with the tree as `/`. Its words go to a log, which the error names.
    pub(crate) fn run(&self, script: &str, packages: &[String]) -> Result<(), Box<dyn Error>> {
        let scripts = qemu_tests::images::workspace().join("bench/peers");
        let log = self.folder.join(format!("{script}.log"));
        let out = File::create(&log)?;
        let status = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh"])
            .arg(scripts.join("enter.sh"))
            .args([&self.tree, &self.folder, &scripts])
            .arg(script)
            .env("PEER_MIRROR", self.mirror.base(Area::Main))
            .env("PEER_SECURITY", self.mirror.base(Area::Security))
            .env("PEER_PACKAGES", packages.join(" "))
            .stdout(out.try_clone()?)
            .stderr(out)
            .status()?;
        if status.success() {
            return Ok(());
        }
        Err(format!("{script} failed ({status}); its words are in {}", log.display()).into())
    }
}
