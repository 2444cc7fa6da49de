//! A disk that remembers every state in which a power cut could have left it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::Disk;

/// Files by path; a folder is a path with `None`.
pub(crate) type State = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Changes reach this disk in their order, as in a journal: what a power cut leaves is the state after some prefix of them. A
/// file that is being written may be there empty, half or whole.
#[derive(Default)]
pub(crate) struct Model {
    states: RefCell<Vec<State>>,
    /// How many of the states are behind what is surely on the disk.
    durable: RefCell<usize>,
    /// What somebody else writes into a file just before the next one is created.
    pub(crate) meanwhile: RefCell<Option<(PathBuf, Vec<u8>)>>,
}

impl Model {
    /// The disk as a power cut left it.
    pub(crate) fn after(state: State) -> Model {
        Model {
            states: vec![state].into(),
            durable: 0.into(),
            meanwhile: RefCell::default(),
        }
    }

    /// Leaves only the present state to be looked at.
    pub(crate) fn forget(&self) {
        let mut states = self.states.borrow_mut();
        let last = states.pop();
        states.clear();
        states.extend(last);
        *self.durable.borrow_mut() = 0;
    }

    /// Every state that there has been; what a cut at some moment leaves is one of them.
    pub(crate) fn crashes(&self) -> Vec<State> {
        self.states.borrow().clone()
    }

    /// Whether a power cut now would lose nothing.
    pub(crate) fn all_durable(&self) -> bool {
        *self.durable.borrow() + 1 >= self.states.borrow().len()
    }

    /// What a power cut now could leave.
    pub(crate) fn could_be_left(&self) -> Vec<State> {
        self.states.borrow()[*self.durable.borrow()..].to_vec()
    }

    pub(crate) fn now(&self) -> State {
        self.states.borrow().last().cloned().unwrap_or_default()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.now();
        change(&mut state);
        self.states.borrow_mut().push(state);
    }

    fn there(&self, path: &Path) -> io::Result<()> {
        match self.now().contains_key(path) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Disk for Model {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.now()
            .get(path)
            .cloned()
            .flatten()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let inside = |path: &PathBuf| (path.parent() == Some(folder)).then(|| path.file_name().unwrap().to_owned());
        let names = self
            .now()
            .keys()
            .filter_map(inside)
            .map(|name| name.into_string().unwrap())
            .filter(|name| !name.ends_with(".new"))
            .collect();
        Ok(names)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        for folder in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if self.there(folder).is_err() {
                self.change(|state| drop(state.insert(folder.to_owned(), None)));
                self.sync_folder(folder)?;
            }
        }
        Ok(())
    }

    fn create(&self, path: &Path, bytes: &[u8], _mode: u32) -> io::Result<()> {
        if let Some((other, bytes)) = self.meanwhile.take() {
            self.change(|state| drop(state.insert(other, Some(bytes))));
        }
        self.there(path.parent().unwrap())?;
        if self.there(path).is_ok() {
            self.remove(path)?;
        }
        for part in [0, bytes.len() / 2, bytes.len()] {
            self.change(|state| drop(state.insert(path.to_owned(), Some(bytes[..part].to_vec()))));
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let content = self.read(from)?;
        self.change(|state| {
            state.remove(from);
            state.insert(to.to_owned(), Some(content));
        });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.there(path)?;
        self.change(|state| drop(state.remove(path)));
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.there(path)?;
        *self.durable.borrow_mut() = self.states.borrow().len() - 1;
        Ok(())
    }

    fn lock(&self, _folder: &Path) -> io::Result<Option<File>> {
        Ok(None)
    }
}
