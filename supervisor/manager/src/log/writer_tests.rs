//! Tests of the thread that owns the store.

use std::io::Write as _;

use cairn_log::{BootId, Query, Reader};

use super::*;

#[test]
fn a_command_that_comes_while_others_are_obeyed_does_not_lie_until_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::below(dir.path());
    let manifest = crate::testing::manifest(&[("web", "{}")]);
    let (news, mut told) = mpsc::unbounded_channel();
    for folder in ["run/cairn", "data"] {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    cairn_config::private_folder(&config.at("/run/cairn/manager")).unwrap();
    let (logs, _store) = Logs::start(&config, &manifest, news).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        for round in 0..20_000 {
            logs.tail("web");
            // The second comes a little later each time, so that it meets the thread at every point of its way.
            for turn in 0..round % 2000 {
                std::hint::black_box(turn);
            }
            logs.tail("web");
            for _ in 0..2 {
                let answer = tokio::time::timeout(std::time::Duration::from_secs(20), told.recv()).await;
                assert!(answer.is_ok(), "no answer in round {round}");
            }
        }
    });
}

#[test]
fn a_unit_whose_pipe_is_made_anew_is_read_from_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::below(dir.path());
    std::fs::create_dir_all(config.log_notes()).unwrap();
    let manifest = crate::testing::manifest(&[("web", "{}")]);
    let (commands, receiver) = std::sync::mpsc::channel();
    let (news, _news) = mpsc::unbounded_channel();
    let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    let logs = Logs {
        commands,
        wake: wake.into(),
    };
    let store = Store {
        root: config.log_root(),
        boot: BootId([4; 16]),
        newest: watch::channel(0).1,
        units: Arc::new(super::super::limits::all(&manifest)),
    };
    let mut writer = Writer::new(&config, &manifest, &store, watch::channel(0).0, &logs, receiver, news).unwrap();
    let mut services = Vec::new();
    for line in ["old", "new"] {
        let (read, write) = crate::io::log_pipe().unwrap();
        let mut service = std::fs::File::from(write);
        writer.take(Kind::Stage, "web", super::super::held::stage().unwrap());
        writer.take(Kind::Pipe, "web", read);
        writeln!(service, "{line}").unwrap();
        services.push(service);
        writer.finish("web");
    }
    let records = Reader::new(config.log_root()).query(&Query::default()).unwrap();
    let messages: Vec<_> = records.map(|record| record.unwrap().message).collect();
    assert_eq!(messages, [b"old", b"new"]);
}
