//! What the sandbox's file tree is made of. Values only; the application mounts them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::content::Content;

/// What `/` is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Root {
    /// A folder of the host, with everything mounted below it left out.
    Tree {
        /// Absolute path on the host.
        path: PathBuf,
        /// Shift owners by the sandbox's id range, so that the host's 0 is 0 inside. Needs [`crate::Ids::Range`].
        #[serde(default)]
        idmapped: bool,
    },
    /// An empty tmpfs that only holds the mounts' targets.
    Empty,
}

/// One mount. `target` is always an absolute path inside; symbolic links in it are followed inside the new root only.
/// Nothing but [`Mount::Dev`] has device nodes, and nothing gains privileges by set-user-ID files unless `suid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Mount {
    /// A file, folder or socket of the host.
    Bind {
        /// Absolute path on the host; symbolic links in it are followed.
        source: PathBuf,
        /// Absolute path inside.
        target: PathBuf,
        /// Default true.
        #[serde(default = "yes")]
        read_only: bool,
        /// Shift owners by the sandbox's id range, so that 0 on the disk is 0 inside. Needs [`crate::Ids::Range`].
        #[serde(default)]
        idmapped: bool,
        /// Also bind what is mounted below the source.
        #[serde(default)]
        recursive: bool,
        /// Let files be executed. Default false.
        #[serde(default)]
        exec: bool,
        /// Let set-user-ID files work. Default false.
        #[serde(default)]
        suid: bool,
    },
    /// An empty writable file system in memory.
    Tmpfs {
        /// Absolute path inside.
        target: PathBuf,
        /// Most bytes it holds.
        size: u64,
        /// Mode of its root folder, 0o1777 for a temporary folder.
        mode: u32,
        /// Owner inside.
        #[serde(default)]
        uid: u32,
        /// Group inside.
        #[serde(default)]
        gid: u32,
        /// Let files be executed. Default false.
        #[serde(default)]
        exec: bool,
    },
    /// The process file system of the sandbox's own process ids.
    Proc {
        /// Absolute path inside, `/proc`.
        target: PathBuf,
    },
    /// A read-only folder with null, zero, full, random, urandom, tty (the host's), an own pts and ptmx, and the links
    /// fd, stdin, stdout, stderr.
    Dev {
        /// Absolute path inside, `/dev`.
        target: PathBuf,
        /// Bytes of a tmpfs at `shm` below it; none for no such folder.
        #[serde(default)]
        shm_size: Option<u64>,
        /// Further device nodes of the host, by absolute path (`/dev/kvm`); each appears under the target by its file name.
        #[serde(default)]
        extra: Vec<PathBuf>,
    },
    /// A read-only file that only this sandbox sees, on a tmpfs of its own: `/etc/hosts`, a credential.
    File {
        /// Absolute path inside.
        target: PathBuf,
        /// What it holds.
        content: Content,
        /// Its permissions.
        mode: u32,
        /// Owner inside.
        #[serde(default)]
        uid: u32,
        /// Group inside.
        #[serde(default)]
        gid: u32,
    },
    /// A symbolic link, on an [`Root::Empty`] root or an earlier tmpfs.
    Symlink {
        /// Absolute path inside of the link.
        target: PathBuf,
        /// What it points to.
        to: PathBuf,
    },
}

impl Mount {
    /// The absolute path inside.
    #[must_use]
    pub fn target(&self) -> &Path {
        match self {
            Self::Bind { target, .. }
            | Self::Tmpfs { target, .. }
            | Self::Proc { target }
            | Self::Dev { target, .. }
            | Self::File { target, .. }
            | Self::Symlink { target, .. } => target,
        }
    }
}

fn yes() -> bool {
    true
}
