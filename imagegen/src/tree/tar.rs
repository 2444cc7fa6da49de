//! One canonical tar stream: sorted, one time, numeric owners, the same file once.
//!
//! Format: POSIX pax (IEEE 1003.1-2017, `pax`), with extended headers only where a name or an attribute needs one.
//! Files that agree in content, mode, owner and attributes are one inode: the first is written, the others link to it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::node::Source;
use super::{Content, Kind, Node, Tree};

const BLOCK: usize = 512;

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TarReport {
    /// Bytes of the stream.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Files written with their content.
    pub files: u64,
    /// Files that became a link to an earlier one.
    pub linked: u64,
    /// Bytes of content that the links saved.
    pub saved: u64,
}

/// Writes the tree; every time in it is `epoch`. `advance` is told the bytes of the stream as they are written.
pub fn write_tar(tree: &Tree, epoch: u64, out: &mut dyn Write, advance: &mut dyn FnMut(u64)) -> io::Result<TarReport> {
    let mut writer = Writer {
        out,
        epoch,
        report: TarReport::default(),
        files: HashMap::new(),
        buffer: vec![0; 1 << 20],
    };
    let mut first: HashMap<Identity<'_>, &str> = HashMap::new();
    for (path, node) in tree.iter() {
        let before = writer.report.bytes;
        writer.report.entries += 1;
        let content = node.content();
        // An empty file is cheaper as its own inode than as a link, but links to it must be counted the same way.
        let earlier = content.filter(|c| c.len > 0).and_then(|content| {
            let identity = Identity {
                digest: content.digest,
                len: content.len,
                mode: node.mode,
                uid: node.uid,
                gid: node.gid,
                xattrs: &node.xattrs,
            };
            match first.entry(identity) {
                std::collections::hash_map::Entry::Occupied(found) => Some(*found.get()),
                std::collections::hash_map::Entry::Vacant(free) => {
                    free.insert(path);
                    None
                }
            }
        });
        match (earlier, content) {
            (Some(target), Some(content)) => {
                writer.entry(path, node, b'1', 0, target)?;
                writer.report.linked += 1;
                writer.report.saved += content.len;
            }
            (_, Some(content)) => {
                writer.entry(path, node, b'0', content.len, "")?;
                writer.content(content)?;
                writer.report.files += 1;
            }
            (_, None) => match &node.kind {
                Kind::Link(target) => writer.entry(path, node, b'2', 0, target)?,
                Kind::Character { .. } => writer.entry(path, node, b'3', 0, "")?,
                _ => writer.entry(path, node, b'5', 0, "")?,
            },
        }
        advance(writer.report.bytes - before);
    }
    writer.write(&[0; 2 * BLOCK])?;
    writer.out.flush()?;
    Ok(writer.report)
}

#[derive(PartialEq, Eq, Hash)]
struct Identity<'a> {
    digest: [u8; 32],
    len: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    xattrs: &'a std::collections::BTreeMap<String, Vec<u8>>,
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    epoch: u64,
    report: TarReport,
    files: HashMap<Arc<Path>, File>,
    buffer: Vec<u8>,
}

impl Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.report.bytes += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self, len: u64) -> io::Result<()> {
        let over = (len % BLOCK as u64) as usize;
        if over != 0 {
            self.write(&[0; BLOCK][over..])
        } else {
            Ok(())
        }
    }

    fn entry(&mut self, path: &str, node: &Node, kind: u8, len: u64, target: &str) -> io::Result<()> {
        let mut name = if path.is_empty() {
            "./".to_owned()
        } else {
            path.to_owned()
        };
        if kind == b'5' && !name.ends_with('/') {
            name.push('/');
        }
        let mut records = Vec::new();
        if name.len() > 100 {
            record(&mut records, "path", name.as_bytes());
        }
        if target.len() > 100 {
            record(&mut records, "linkpath", target.as_bytes());
        }
        if kind != b'1' {
            for (key, value) in &node.xattrs {
                record(&mut records, &format!("SCHILY.xattr.{key}"), value);
            }
        }
        if !records.is_empty() {
            let header = self.header(
                "././@PaxHeader",
                0o644,
                (0, 0),
                (b'x', records.len() as u64),
                "",
                (0, 0),
            )?;
            self.write(&header)?;
            self.write(&records)?;
            self.pad(records.len() as u64)?;
        }
        let device = match node.kind {
            Kind::Character { major, minor } => (major, minor),
            _ => (0, 0),
        };
        let header = self.header(&name, node.mode, (node.uid, node.gid), (kind, len), target, device)?;
        self.write(&header)
    }

    fn header(
        &self,
        name: &str,
        mode: u32,
        owner: (u32, u32),
        (kind, len): (u8, u64),
        target: &str,
        device: (u32, u32),
    ) -> io::Result<[u8; BLOCK]> {
        let mut header = [0u8; BLOCK];
        let cut = |text: &str| text.as_bytes()[..text.len().min(100)].to_vec();
        let (name, target) = (cut(name), cut(target));
        header[..name.len()].copy_from_slice(&name);
        octal(&mut header[100..108], u64::from(mode))?;
        octal(&mut header[108..116], u64::from(owner.0))?;
        octal(&mut header[116..124], u64::from(owner.1))?;
        octal(&mut header[124..136], len)?;
        octal(&mut header[136..148], self.epoch)?;
        header[148..156].fill(b' ');
        header[156] = kind;
        header[157..157 + target.len()].copy_from_slice(&target);
        header[257..265].copy_from_slice(b"ustar\x0000");
        octal(&mut header[329..337], u64::from(device.0))?;
        octal(&mut header[337..345], u64::from(device.1))?;
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        octal(&mut header[148..155], u64::from(sum))?;
        header[155] = b' ';
        Ok(header)
    }

    fn content(&mut self, content: &Content) -> io::Result<()> {
        match &content.source {
            Source::Bytes(bytes) => self.write(bytes)?,
            Source::Range { file, offset } => {
                if !self.files.contains_key(file) {
                    // Few enough for any limit of open files.
                    if self.files.len() >= 128 {
                        self.files.clear();
                    }
                    let opened =
                        File::open(file).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", file.display())))?;
                    self.files.insert(file.clone(), opened);
                }
                let mut buffer = std::mem::take(&mut self.buffer);
                let (mut at, end) = (*offset, offset + content.len);
                while at < end {
                    let n = ((end - at) as usize).min(buffer.len());
                    self.files[file]
                        .read_exact_at(&mut buffer[..n], at)
                        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", file.display())))?;
                    self.write(&buffer[..n])?;
                    at += n as u64;
                }
                self.buffer = buffer;
            }
        }
        self.pad(content.len)
    }
}

/// Octal digits with a closing NUL, as wide as the field; larger numbers are GNU's base 256.
fn octal(field: &mut [u8], value: u64) -> io::Result<()> {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    if text.len() > digits {
        if field.len() < 9 {
            return Err(io::Error::other(format!(
                "the number {value} is too large for a tar header"
            )));
        }
        field.fill(0);
        field[0] = 0x80;
        let at = field.len() - 8;
        field[at..].copy_from_slice(&value.to_be_bytes());
    } else {
        field[..digits].copy_from_slice(text.as_bytes());
        field[digits] = 0;
    }
    Ok(())
}

/// One pax record: its own length in decimal, a space, `key=value`, a newline.
fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    out.extend_from_slice(format!("{len} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn stream(tree: &Tree) -> (Vec<u8>, TarReport) {
        let mut out = Vec::new();
        let report = write_tar(tree, 1_700_000_000, &mut out, &mut |_| {}).unwrap();
        assert_eq!(report.bytes, out.len() as u64);
        (out, report)
    }

    #[test]
    fn another_reader_finds_what_was_written() {
        let mut tree = Tree::new("t");
        let long = format!("usr/share/{}/file", "d".repeat(200));
        tree.put(&long, Node::file(Content::bytes("hello"), 0o640, "p"));
        tree.get_mut(&long).unwrap().gid = 42;
        tree.put("usr/bin/x", Node::file(Content::bytes(vec![7; 3000]), 0o4755, "p"));
        tree.get_mut("usr/bin/x")
            .unwrap()
            .xattrs
            .insert("security.capability".into(), vec![1, 0, 0, 2]);
        tree.put("bin", Node::link("usr/bin", "p"));
        let (bytes, _) = stream(&tree);
        let mut found = Vec::new();
        for entry in ::tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            assert_eq!(entry.header().mtime().unwrap(), 1_700_000_000);
            let mode = entry.header().mode().unwrap();
            let gid = entry.header().gid().unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.push((path, mode, gid, content.len()));
        }
        assert!(found.contains(&(long, 0o640, 42, 5)));
        assert!(found.contains(&("usr/bin/x".into(), 0o4755, 0, 3000)));
        assert!(found.contains(&("bin".into(), 0o777, 0, 0)));
    }

    #[test]
    fn the_same_file_in_two_roots_is_one_inode() {
        let mut tree = Tree::new("t");
        for root in ["a", "b"] {
            tree.put(
                &format!("services/{root}/lib"),
                Node::file(Content::bytes("same"), 0o644, "p"),
            );
        }
        tree.put("services/c/lib", Node::file(Content::bytes("same"), 0o755, "p"));
        let (_, report) = stream(&tree);
        assert_eq!((report.files, report.linked, report.saved), (2, 1, 4));
    }

    #[test]
    fn the_stream_is_a_function_of_the_tree() {
        let mut one = Tree::new("t");
        let mut two = Tree::new("other name");
        for name in ["a", "b", "c"] {
            one.put(name, Node::file(Content::bytes(name), 0o644, "p"));
        }
        for name in ["c", "a", "b"] {
            two.put(name, Node::file(Content::bytes(name), 0o644, "q"));
        }
        assert_eq!(stream(&one).0, stream(&two).0);
    }
}
