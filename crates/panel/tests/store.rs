//! What becomes of the panel when its store is damaged, or its disk is full.

mod common;

use std::path::Path;
use std::process::Command;

use cairn_panel::store::{Db, Store, StoreError};
use common::{PASSWORD, Panel};

/// Does something with the store while no panel has it.
fn with_store(state: &Path, work: impl FnOnce(&mut Db) -> Result<(), StoreError> + Send + 'static) {
    let store = Store::open(state).unwrap();
    // In a thread of its own: a test's own loop cannot wait for another.
    let alone = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(store.with(work)).unwrap();
    });
    alone.join().unwrap();
}

fn spoil(state: &Path) {
    // The first page is the schema's; without it nothing can be read.
    let path = state.join("panel.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len().min(4096);
    bytes[16..end].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    for end in ["panel.db-wal", "panel.db-shm"] {
        let _ = std::fs::remove_file(state.join(end));
    }
}

#[tokio::test]
async fn a_damaged_store_is_set_aside_told_and_put_back_from_its_copy() {
    let panel = Panel::new().await;
    let cookies = panel.owner().await.cookies;
    // The session is in the copy, too.
    let panel = panel.restart(|state| with_store(state, |db| db.copy())).await;
    let panel = panel.restart(spoil).await;
    let mut owner = panel.browser();
    owner.cookies = cookies;
    // Nobody can log in, as there is no account; the page says so, and how to go on.
    let page = owner.get("/setup").await;
    page.says("This panel has no owner");
    page.says("was damaged");
    page.says("panel.db.damaged-");
    page.says("action=\"/store/put-back\"");
    assert_eq!(
        owner.post("/store/put-back", &[]).await.location,
        "/login?said=put-back"
    );
    assert_eq!(
        owner.get("/").await.location,
        "/login",
        "sessions of the copy do not count"
    );
    assert_eq!(owner.log_in(PASSWORD).await.location, "/");
    let page = owner.get("/").await;
    assert!(!page.text.contains("was damaged"));
    let aside = std::fs::read_dir(&panel.settings.state).unwrap().filter_map(Result::ok);
    assert!(
        aside
            .into_iter()
            .any(|file| file.file_name().to_string_lossy().starts_with("panel.db.damaged-"))
    );
    // It outlives the next start.
    let cookies = owner.cookies;
    let panel = panel.restart(|_| ()).await;
    let mut owner = panel.browser();
    owner.cookies = cookies;
    assert_eq!(owner.get("/").await.status, 200);
}

#[tokio::test]
async fn a_store_that_is_gone_is_put_back_as_well_and_the_copy_is_not_lost_before() {
    let panel = Panel::new().await;
    panel.owner().await;
    let gone = |state: &Path| {
        for end in ["panel.db", "panel.db-wal", "panel.db-shm"] {
            let _ = std::fs::remove_file(state.join(end));
        }
    };
    // Also a copy that is made before the owner answered must not take the good one's place.
    let panel = panel.restart(gone).await;
    let copied = |state: &Path| {
        std::fs::remove_file(state.join("damaged")).unwrap();
        with_store(state, |db| db.copy());
        std::fs::write(state.join("damaged"), "missing").unwrap();
    };
    let panel = panel.restart(copied).await;
    let mut owner = panel.browser();
    owner.get("/setup").await.says("Its file is gone");
    assert_eq!(owner.post("/store/put-back", &[]).await.status, 303);
    assert_eq!(owner.log_in(PASSWORD).await.location, "/");
}

#[tokio::test]
async fn a_copy_is_put_back_only_in_the_place_of_a_damaged_store() {
    let panel = Panel::new().await;
    let mut owner = panel.owner().await;
    assert_eq!(owner.post("/store/put-back", &[]).await.status, 409);
    assert_eq!(owner.get("/").await.status, 200);
    let mut stranger = panel.browser();
    stranger.get("/login").await;
    assert_eq!(stranger.post("/store/put-back", &[]).await.status, 401);
}

#[tokio::test]
async fn a_setup_that_was_cut_off_goes_on_at_the_next_start() {
    let panel = Panel::new().await;
    let mut browser = panel.browser();
    browser.wizard_to_summary().await;
    let cookies = browser.cookies.clone();
    // As after a power cut between the manager's work and the panel's.
    let manager = panel.manager.clone();
    let panel = panel
        .restart(|state| {
            with_store(state, |db| {
                let text = String::from_utf8(db.get("wizard")?.unwrap()).unwrap();
                let text = text.replace("\"phase\":\"Open\"", "\"phase\":\"Applying\"");
                db.put("wizard", text.as_bytes())
            });
            manager.told.lock().unwrap().open = false;
        })
        .await;
    let mut owner = panel.browser();
    owner.cookies = cookies;
    owner.get("/setup/done").await.says("Save your recovery key");
    assert_eq!(panel.browser().log_in(PASSWORD).await.location, "/");
}

/// In a small file system of its own: the test runs itself again where it may mount one.
#[test]
fn on_a_full_disk_the_panel_opens_and_says_so() {
    const INSIDE: &str = "PANEL_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(full_disk());
    }
    let own = std::env::current_exe().unwrap();
    let run = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(own)
        .args(["--exact", "on_a_full_disk_the_panel_opens_and_says_so", "--nocapture"])
        .env(INSIDE, "1")
        .output();
    let run = match run {
        Ok(run) => run,
        Err(error) => return eprintln!("skipped: unshare cannot be run: {error}"),
    };
    let text = String::from_utf8_lossy(&run.stderr);
    if text.starts_with("unshare:") {
        return eprintln!("skipped: {text}");
    }
    assert!(run.status.success(), "{}{text}", String::from_utf8_lossy(&run.stdout));
}

async fn full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2M", "panel"])
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(mounted.success());
    let state = folder.path().to_owned();
    let panel = Panel::with(|settings| settings.state = state.clone()).await;
    panel.owner().await;
    let fill = state.join("fill");
    let mut size = 2 << 20;
    while size > 0 {
        // Down to the last page.
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&fill)
            .unwrap();
        if std::io::Write::write_all(&mut file, &vec![1; size]).is_err() {
            size /= 2;
        }
    }
    let mut browser = panel.browser();
    let page = browser.log_in(PASSWORD).await;
    assert_eq!(page.location, "/", "{}", page.text);
    browser.get("/").await.says("Storage is full.");
    // A restart with a full disk: it opens, too.
    let panel = panel.restart(|_| ()).await;
    let mut browser = panel.browser();
    assert_eq!(browser.log_in(PASSWORD).await.location, "/");
    assert_eq!(browser.get("/units/wiki").await.status, 200);
    std::fs::remove_file(&fill).unwrap();
    browser.get("/").await;
    let page = browser.get("/").await;
    assert!(!page.text.contains("Storage is full."), "{}", page.text);
}

#[tokio::test]
async fn a_store_of_before_there_were_people_is_taken_over_with_its_owner_and_sessions() {
    let panel = Panel::new().await;
    let cookies = panel.owner().await.cookies;
    let panel = panel
        .restart(|state| {
            // As the first version made it.
            let connection = rusqlite::Connection::open(state.join("panel.db")).unwrap();
            let before =
                "ALTER TABLE session DROP COLUMN person; DROP TABLE person; DROP TABLE reset; DROP TABLE passkey; \
                 DROP TABLE passkey_holder; PRAGMA user_version = 1;";
            connection.execute_batch(before).unwrap();
        })
        .await;
    let mut owner = panel.browser();
    owner.cookies = cookies;
    assert_eq!(owner.get("/account").await.status, 200);
    owner.get("/sessions").await.says("This browser");
    owner.get("/account").await.says("Add a passkey");
    panel.owner_again().await;
}
