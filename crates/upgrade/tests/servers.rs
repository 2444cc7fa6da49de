//! Web servers that are not as they should be: one that knows no ranges, one that dribbles.

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_upgrade::index::Index;
use cairn_upgrade::install::Install;
use cairn_upgrade::pace::Patience;
use cairn_upgrade::plan::plan;
use cairn_upgrade::source::{self, Http, Source};
use common::*;

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Honest,
    /// Gives the whole file to everybody.
    NoRanges,
    /// Gives one byte at a time.
    Dribbles,
}

/// A folder as a web server gives it, with the names that were asked for.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn of(folder: &Path, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (folder, noted) = (folder.to_owned(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (folder, noted) = (folder.clone(), noted.clone());
                std::thread::spawn(move || drop(answer(&stream, &folder, manner, &noted)));
            }
        });
        Self { address, asked }
    }

    fn asked(&self, part: &str) -> usize {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .filter(|name| name.contains(part))
            .count()
    }
}

/// Answers requests until the other side goes away.
fn answer(stream: &TcpStream, folder: &Path, manner: Manner, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while let Some(first) = lines.next().transpose()? {
        let name = first
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .trim_start_matches('/')
            .to_owned();
        let mut range = None;
        for line in lines.by_ref() {
            let line = line?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            let given = line
                .strip_prefix("range: bytes=")
                .and_then(|range| range.split_once('-'));
            range = range.or(given.and_then(|(from, to)| from.parse::<u64>().ok().zip(to.parse::<u64>().ok())));
        }
        let path: PathBuf = folder.join(&name);
        asked.lock().unwrap().push(name);
        let mut out = stream;
        let Ok(mut file) = std::fs::File::open(&path) else {
            write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        };
        let size = file.metadata()?.len();
        let (from, length, status) = match range.filter(|_| manner == Manner::Honest) {
            Some((from, to)) => (from, (to + 1).min(size) - from, "206 Partial Content"),
            None => (0, size, "200 OK"),
        };
        file.seek(SeekFrom::Start(from))?;
        write!(out, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n")?;
        let mut content = Vec::new();
        file.take(length).read_to_end(&mut content)?;
        match manner {
            Manner::Dribbles => {
                for byte in &content {
                    out.write_all(&[*byte])?;
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            _ => out.write_all(&content)?,
        }
    }
    Ok(())
}

/// Installs 2.0.0 over 1.0.0 from there; whether it is whole.
fn install(repository: &Repository, source: &dyn Source) -> bool {
    let (older, old, new) = (Version::new("0.9.0"), Version::new("1.0.0"), Version::new("2.0.0"));
    let index = repository.publisher.file(NAME, "2.0.0", "amd64", "index").unwrap();
    let index = Index::decode(&index).unwrap();
    let (bytes, files) = machine(&old, &older);
    let power = Power::lasting(u64::MAX);
    let (mut disk, mut esp) = (disk_of(bytes, power.clone()), esp_of(files, power));
    let plan = plan(&found(&disk, &esp, &old), &index).unwrap();
    Install {
        disk: &mut disk,
        entries: &mut esp,
        source,
        delta: None,
        tell: &mut |_| {},
    }
    .run(&plan, &index)
    .unwrap();
    verifies(&disk.durable, &new.tree.root) && esp.files["box_2.0.0+3.efi"] == new.uki
}

#[test]
fn a_server_without_ranges_gives_each_pack_once_and_the_install_is_whole() {
    let repository = Repository::of(&["1.0.0", "2.0.0"]);
    for manner in [Manner::Honest, Manner::NoRanges] {
        let server = Server::of(&repository.path(), manner);
        let source = Http::new(&server.address);
        assert!(install(&repository, &source));
        assert_eq!(source.has_ranges(), manner == Manner::Honest);
        if manner == Manner::NoRanges {
            // Root and UKI are fetched apart. Those who find out may be all four at once.
            let packs = server.asked("packs/");
            assert!((2..=4 + 2 * 2).contains(&packs), "{packs}");
        }
    }
}

#[test]
fn a_range_from_a_server_without_ranges_is_the_right_one() {
    let repository = Repository::of(&["1.0.0"]);
    let server = Server::of(&repository.path(), Manner::NoRanges);
    let source = Http::new(&server.address);
    let whole = source::read_all(&source, "packs/box-1.0.0-amd64.pack", 1 << 24).unwrap();
    let part = source::read_range(&source, "packs/box-1.0.0-amd64.pack", 1000, 5000).unwrap();
    assert_eq!(part, whole[1000..6000]);
    let end = whole.len() as u64;
    let why = source::read_range(&source, "packs/box-1.0.0-amd64.pack", end + 1, 1).unwrap_err();
    assert!(why.to_string().contains("shorter than the release says"), "{why}");
}

#[test]
fn a_server_that_dribbles_is_given_up_with_a_sentence() {
    let repository = Repository::of(&["1.0.0"]);
    let server = Server::of(&repository.path(), Manner::Dribbles);
    let patience = Patience {
        grace: Duration::from_millis(20),
        least: NonZeroU64::new(1 << 20).unwrap(),
    };
    let source = Http::patient(&server.address, patience);
    let why = source::read_all(&source, "packs/box-1.0.0-amd64.pack", 1 << 24).unwrap_err();
    assert_eq!(
        why.to_string(),
        "cannot get packs/box-1.0.0-amd64.pack: the server sends less than 1048576 bytes a second; try again later, or bring a bundle"
    );
}
