//! A tree written out as plain files of the caller's.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use super::ToolsError;
use crate::tree::{Kind, Source, Tree};

/// Writes `tree` into the existing folder `to`. Owners are the caller's, set-user-ID bits are dropped, device nodes left
/// out, and everything stays writable for the caller so that it can be removed again.
pub(super) fn write_folder(tree: &Tree, to: &Path) -> Result<(), ToolsError> {
    let mut open: HashMap<Arc<Path>, File> = HashMap::new();
    for (path, node) in tree.iter().filter(|(path, _)| !path.is_empty()) {
        let at = to.join(path);
        let failed = |doing| {
            let path = at.clone();
            move |source| ToolsError::Write { doing, path, source }
        };
        match &node.kind {
            Kind::Folder => fs::create_dir(&at).map_err(failed("create"))?,
            Kind::Link(target) => symlink(target, &at).map_err(failed("link"))?,
            Kind::Character { .. } => {}
            Kind::File(content) => {
                let mode = (node.mode & 0o755) | 0o600;
                let file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(mode)
                    .open(&at)
                    .map_err(failed("create"))?;
                // Whatever the caller's umask.
                file.set_permissions(fs::Permissions::from_mode(mode))
                    .map_err(failed("set the mode of"))?;
                match &content.source {
                    Source::Bytes(bytes) => file.write_all_at(bytes, 0).map_err(failed("write"))?,
                    Source::Range { file: from, offset } => {
                        if !open.contains_key(from) {
                            if open.len() > 64 {
                                open.clear();
                            }
                            open.insert(from.clone(), File::open(from).map_err(failed("read the source of"))?);
                        }
                        copy(&open[from], *offset, &file, content.len).map_err(failed("write"))?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Copies inside the kernel where the file system can.
fn copy(from: &File, mut offset: u64, to: &File, mut len: u64) -> io::Result<()> {
    let mut written = 0;
    while len > 0 {
        let n = rustix::fs::copy_file_range(from, Some(&mut offset), to, Some(&mut written), len as usize);
        match n {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => len -= n as u64,
            Err(
                rustix::io::Errno::XDEV
                | rustix::io::Errno::NOSYS
                | rustix::io::Errno::INVAL
                | rustix::io::Errno::OPNOTSUPP,
            ) => {
                let mut buffer = vec![0; 1 << 18];
                while len > 0 {
                    let n = buffer.len().min(len as usize);
                    from.read_exact_at(&mut buffer[..n], offset)?;
                    to.write_all_at(&buffer[..n], written)?;
                    (offset, written, len) = (offset + n as u64, written + n as u64, len - n as u64);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Content, Node};

    #[test]
    fn a_range_of_a_file_arrives_whole_and_without_set_user_id() {
        let source = tempfile::NamedTempFile::new().unwrap();
        fs::write(source.path(), "0123456789").unwrap();
        let mut content = Content::file(source.path()).unwrap();
        content.source = Source::Range {
            file: source.path().into(),
            offset: 3,
        };
        content.len = 4;
        let mut tree = Tree::new("tools");
        tree.put("usr/bin/x", Node::file(content, 0o4755, "p"));
        tree.put("bin", Node::link("usr/bin", "p"));
        let to = tempfile::tempdir().unwrap();
        write_folder(&tree, to.path()).unwrap();
        let path = to.path().join("bin/x");
        assert_eq!(fs::read(&path).unwrap(), b"3456");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o755);
    }
}
