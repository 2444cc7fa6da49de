//! Killed at any step, the program goes on where it was.

mod common;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_acme::{Step, Trouble, World, round};
use cairn_config::pki::examine;
use cairn_config::{Disk, Real};
use common::{Machines, Manner, one};
use jiff::Timestamp;

/// A disk that takes so many changes and then no more, as if the program had been killed at that moment: nothing that comes after is
/// seen by anybody.
struct Dying {
    left: AtomicUsize,
}

impl Dying {
    fn change(&self) -> io::Result<()> {
        let one = |left: usize| left.checked_sub(1);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("killed")),
        }
    }
}

impl Disk for Dying {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Real.read(path)
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        Real.names(folder)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        Real.make_folder(path)
    }

    fn create(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.change()?;
        Real.create(path, bytes, mode)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?;
        Real.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        Real.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        Real.sync_folder(path)
    }

    fn lock(&self, folder: &Path) -> io::Result<Option<File>> {
        Real.lock(folder)
    }
}

/// Runs until the certificate waits for its renewal (true), or the disk takes no more (false).
async fn live(world: &World) -> bool {
    loop {
        match round(world, "star").await {
            Err(Trouble { why, .. }) if why.contains("killed") => return false,
            Err(trouble) => panic!("{trouble}"),
            Ok((_, Some(trouble))) => panic!("{trouble}"),
            Ok((Step::Wait { trouble: false, .. }, None)) => return true,
            Ok((step @ Step::Wait { .. }, None)) => panic!("{step}"),
            Ok(_) => {}
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn killed_at_any_change_it_goes_on_to_one_certificate_with_one_account() {
    let mut machines = Machines::new();
    let wanted = format!(
        "contact = [\"mailto:admin@acme.test\"]---{}",
        one("star", &["*.acme.test", "acme.test"], "dns-01")
    );
    let first = machines.real(&wanted).await;
    if !machines.start(&first, &Manner::default()) {
        return;
    }
    drop(first);
    let (mut killed, mut orders) = (0, Vec::new());
    for at in 0.. {
        let _ = std::fs::remove_dir_all(machines.at("state"));
        let _ = std::fs::remove_file(machines.at("out/star.pem"));
        let before = count(&machines);
        let dying = Arc::new(Dying { left: at.into() });
        let world = machines.world(machines.config(&wanted), dying, Timestamp::now).await;
        let whole = live(&world).await;
        drop(world);
        // The next program, on what is left.
        let world = machines
            .world(machines.config(&wanted), Arc::new(Real), Timestamp::now)
            .await;
        assert!(live(&world).await);
        let pem = machines.out("star").unwrap_or_else(|| panic!("killed at change {at}"));
        let names = ["acme.test".parse().unwrap(), "*.acme.test".parse().unwrap()].into();
        assert!(examine(&pem, &names).is_ok(), "killed at change {at}");
        let kept = world.store.kept("star").unwrap();
        assert_eq!(
            (kept.order, kept.records, kept.issued.len()),
            (None, Vec::new(), 1),
            "killed at change {at}"
        );
        let after = count(&machines);
        assert_eq!(after.0 - before.0, 1, "killed at change {at}: accounts");
        // An order whose answer was lost is made again; no certificate ever is.
        assert_eq!(after.2 - before.2, 1, "killed at change {at}: certificates");
        orders.push(after.1 - before.1);
        if whole {
            break;
        }
        killed += 1;
    }
    assert!(killed >= 14, "{killed}");
    assert!(orders.iter().all(|count| (1..=2).contains(count)), "{orders:?}");
    assert!(orders.iter().filter(|count| **count == 2).count() <= 2, "{orders:?}");
}

/// How many accounts, orders and certificates the authority has made.
fn count(machines: &Machines) -> (usize, usize, usize) {
    let log = machines.log();
    let of = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    (
        of("accounts in memory"),
        of("Added order"),
        of("Issued certificate serial"),
    )
}
