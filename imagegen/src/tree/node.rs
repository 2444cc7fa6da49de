//! The tree and its nodes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// Where a file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Here.
    Bytes(Arc<[u8]>),
    /// In a file of the host, from `offset` on.
    Range {
        /// The file.
        file: Arc<Path>,
        /// The first byte.
        offset: u64,
    },
}

/// A file's content: where it is, how long, and its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Where the bytes are.
    pub source: Source,
    /// How many.
    pub len: u64,
    /// Their SHA-256.
    pub digest: [u8; 32],
}

impl Content {
    /// Content that is made here.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Content {
        let bytes: Vec<u8> = bytes.into();
        Content {
            len: bytes.len() as u64,
            digest: Sha256::digest(&bytes).into(),
            source: Source::Bytes(bytes.into()),
        }
    }

    /// A whole file of the host, read once to learn its digest.
    pub fn file(path: &Path) -> io::Result<Content> {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 18];
        let mut len = 0;
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            len += n as u64;
        }
        Ok(Content {
            source: Source::Range {
                file: path.into(),
                offset: 0,
            },
            len,
            digest: hash.finalize().into(),
        })
    }

    /// All bytes.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        self.read_at(0, self.len)
    }

    /// Up to `len` bytes from `offset` on.
    pub fn read_at(&self, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        let start = offset.min(self.len);
        let len = len.min(self.len - start);
        match &self.source {
            Source::Bytes(bytes) => Ok(bytes[start as usize..(start + len) as usize].to_vec()),
            Source::Range { file, offset } => {
                let mut out = vec![0; len as usize];
                File::open(file)?.read_exact_at(&mut out, offset + start)?;
                Ok(out)
            }
        }
    }

    /// All bytes as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.read()?).into_owned())
    }
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file.
    File(Content),
    /// A symbolic link and its target.
    Link(String),
    /// A character device.
    Character {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// One entry of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-user-ID, set-group-ID and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes by full name.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// The package, overlay or finisher that it comes from.
    pub origin: Arc<str>,
}

impl Node {
    /// A folder of root's, 0755.
    pub fn folder(origin: &str) -> Node {
        Node::new(Kind::Folder, 0o755, origin)
    }

    /// A file of root's.
    pub fn file(content: Content, mode: u32, origin: &str) -> Node {
        Node::new(Kind::File(content), mode, origin)
    }

    /// A symbolic link.
    pub fn link(target: &str, origin: &str) -> Node {
        Node::new(Kind::Link(target.to_owned()), 0o777, origin)
    }

    fn new(kind: Kind, mode: u32, origin: &str) -> Node {
        Node {
            kind,
            mode,
            uid: 0,
            gid: 0,
            xattrs: BTreeMap::new(),
            origin: origin.into(),
        }
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.kind == Kind::Folder
    }

    /// The content, if it is a file.
    pub fn content(&self) -> Option<&Content> {
        match &self.kind {
            Kind::File(content) => Some(content),
            _ => None,
        }
    }
}

/// A file tree. Paths are relative to its root, without a leading or closing `/`; the root itself is the empty path.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The root's name, for messages.
    pub name: String,
    pub(super) nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// An empty tree: a root folder and nothing in it.
    pub fn new(name: &str) -> Tree {
        let nodes = BTreeMap::from([(String::new(), Node::folder("imagegen"))]);
        Tree {
            name: name.to_owned(),
            nodes,
        }
    }

    /// Every node by path; a folder stands before what is in it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing but the root folder.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() <= 1
    }

    /// The node at exactly this path; no link is followed.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path.trim_matches('/'))
    }

    /// The node at exactly this path, to be changed.
    pub fn get_mut(&mut self, path: &str) -> Option<&mut Node> {
        self.nodes.get_mut(path.trim_matches('/'))
    }

    /// What is in the folder at exactly this path: names and nodes.
    pub fn children<'a>(&'a self, folder: &str) -> impl Iterator<Item = (&'a str, &'a Node)> {
        let folder = folder.trim_matches('/');
        let prefix = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        let skip = prefix.len();
        self.nodes
            .range(prefix.clone()..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .filter(move |(path, _)| path.len() > skip && !path[skip..].contains('/'))
            .map(move |(path, node)| (&path[skip..], node))
    }

    /// Puts a node at exactly this path and makes the folders above it that are missing.
    pub fn put(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        self.make_parents(path, &node.origin.clone());
        self.nodes.insert(path.to_owned(), node);
    }

    /// Takes the node at exactly this path away, and everything below it.
    pub fn remove(&mut self, path: &str) {
        let path = path.trim_matches('/');
        let below = format!("{path}/");
        let gone: Vec<String> = self
            .nodes
            .range(below.clone()..)
            .map(|(p, _)| p)
            .take_while(|p| p.starts_with(&below))
            .cloned()
            .collect();
        for path in gone {
            self.nodes.remove(&path);
        }
        self.nodes.remove(path);
    }

    /// Makes the folders above `path` that are missing.
    pub(super) fn make_parents(&mut self, path: &str, origin: &str) {
        let mut end = path.len();
        while let Some(slash) = path[..end].rfind('/') {
            if self.nodes.contains_key(&path[..slash]) {
                return;
            }
            self.nodes.insert(path[..slash].to_owned(), Node::folder(origin));
            end = slash;
        }
    }

    /// Follows every symbolic link of `path` inside the tree and gives the path of what is there. The last part may be
    /// missing. `Err` says what is in the way.
    pub fn resolve(&self, path: &str) -> Result<String, String> {
        self.walk(path, true)
    }

    /// As [`Tree::resolve`], but a link in the last place is not followed.
    pub fn resolve_parent(&self, path: &str) -> Result<String, String> {
        self.walk(path, false)
    }

    fn walk(&self, path: &str, follow_last: bool) -> Result<String, String> {
        let mut rest: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut at = String::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    at.truncate(at.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let before = at.len();
            if !at.is_empty() {
                at.push('/');
            }
            at.push_str(&part);
            let last = rest.iter().all(|p| p.is_empty() || p == ".");
            match self.nodes.get(&at).map(|n| &n.kind) {
                Some(Kind::Link(target)) if !last || follow_last => {
                    links += 1;
                    if links > 40 {
                        return Err(format!("too many symbolic links at /{at}"));
                    }
                    at.truncate(if target.starts_with('/') { 0 } else { before });
                    rest.extend(target.split('/').rev().map(str::to_owned));
                }
                Some(Kind::Folder) | None => {}
                Some(_) if last => {}
                Some(_) => return Err(format!("/{at} is not a folder")),
            }
        }
        Ok(at)
    }

    /// The node that `path` leads to when every link is followed.
    pub fn lookup(&self, path: &str) -> Option<(String, &Node)> {
        let path = self.resolve(path).ok()?;
        let node = self.nodes.get(&path)?;
        Some((path, node))
    }

    /// The text of the file that `path` leads to; `None` if there is none.
    pub fn text(&self, path: &str) -> io::Result<Option<String>> {
        match self.lookup(path).and_then(|(_, node)| node.content()) {
            Some(content) => content.text().map(Some),
            None => Ok(None),
        }
    }

    /// Lays all of `other` below the folder `below`, which is made if it is missing.
    pub fn graft(&mut self, below: &str, other: Tree) {
        let below = below.trim_matches('/');
        for (path, node) in other.nodes {
            let path = match (below.is_empty(), path.is_empty()) {
                (true, _) => path,
                (false, true) => below.to_owned(),
                (false, false) => format!("{below}/{path}"),
            };
            self.make_parents(&path, "imagegen");
            self.nodes.insert(path, node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::new("test");
        tree.put("usr/lib/a", Node::file(Content::bytes("x"), 0o644, "p"));
        tree.put("lib", Node::link("usr/lib", "p"));
        tree.put("usr/loop", Node::link("../usr/loop", "p"));
        tree.put("usr/out", Node::link("../../../lib/a", "p"));
        tree
    }

    #[test]
    fn links_are_followed_inside_the_tree_only() {
        assert_eq!(tree().resolve("/lib/a").unwrap(), "usr/lib/a");
        assert_eq!(tree().resolve("usr/out").unwrap(), "usr/lib/a");
        assert_eq!(tree().resolve_parent("/lib").unwrap(), "lib");
        assert_eq!(tree().resolve("lib/new").unwrap(), "usr/lib/new");
    }

    #[test]
    fn a_loop_and_a_file_in_the_way_are_told() {
        assert!(tree().resolve("usr/loop").is_err());
        assert!(tree().resolve("usr/lib/a/b").unwrap_err().contains("not a folder"));
    }

    #[test]
    fn children_are_of_one_level() {
        let names: Vec<String> = tree().children("usr").map(|(n, _)| n.to_owned()).collect();
        assert_eq!(names, ["lib", "loop", "out"]);
    }

    #[test]
    fn removing_a_folder_removes_what_is_in_it() {
        let mut tree = tree();
        tree.remove("usr");
        assert_eq!(tree.iter().map(|(p, _)| p).collect::<Vec<_>>(), ["", "lib"]);
    }
}
