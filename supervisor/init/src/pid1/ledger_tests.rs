use std::fs::File;

use super::*;

fn fd() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

#[test]
fn an_exit_stays_until_it_is_acknowledged() {
    let mut ledger = Ledger::new();
    for pid in 10..15 {
        ledger.exited(pid, ExitStatus(0), 0, 0);
    }
    assert_eq!(ledger.exit_after(0).unwrap().seq, 1);
    ledger.acknowledge(3);
    assert_eq!(ledger.exit_after(0).unwrap().seq, 4);
    assert_eq!(ledger.exit_after(4).unwrap().seq, 5);
    assert!(ledger.exit_after(5).is_none());
    ledger.acknowledge(u64::MAX);
    assert!(ledger.exit_after(0).is_none());
    ledger.exited(20, ExitStatus(0), 0, 0);
    assert_eq!(ledger.exit_after(5).unwrap().seq, 6);
}

#[test]
fn an_exit_carries_the_token_it_was_started_under() {
    let mut ledger = Ledger::new();
    ledger.started(77, 10, fd());
    ledger.exited(11, ExitStatus(0), 0, 5);
    ledger.exited(10, ExitStatus(9), 0, 6);
    let tokens: Vec<_> = [0, 1]
        .map(|seq| match ledger.exit_after(seq).unwrap().event() {
            Event::Exited { token, pid, .. } => (token, pid),
            _ => (99, 99),
        })
        .into();
    assert_eq!(tokens, [(0, 11), (77, 10)]);
    assert!(ledger.running_from(0).is_none());
}

#[test]
fn a_token_is_used_by_one_process_at_a_time() {
    let mut ledger = Ledger::new();
    ledger.started(1, 10, fd());
    assert_eq!(ledger.may_start(1), Err(Errno::EEXIST));
    assert_eq!(ledger.may_start(2), Ok(()));
    ledger.exited(10, ExitStatus(0), 0, 0);
    assert_eq!(ledger.may_start(1), Ok(()));
}

#[test]
fn a_full_ring_gives_up_the_oldest_only() {
    let mut ledger = Ledger::new();
    for pid in 0..EXIT_CAPACITY as i32 {
        assert!(!ledger.is_full());
        ledger.exited(pid, ExitStatus(0), 0, 0);
    }
    assert!(ledger.is_full());
    ledger.exited(1, ExitStatus(0), 0, 0);
    assert_eq!(ledger.exit_after(0).unwrap().seq, 2);
    assert_eq!(ledger.counts().2 as usize, EXIT_CAPACITY);
}

#[test]
fn a_stored_name_is_replaced_and_removed() {
    let mut ledger = Ledger::new();
    let id = StoreId::new("a").unwrap();
    ledger.store(id, fd()).unwrap();
    ledger.store(id, fd()).unwrap();
    assert_eq!(ledger.counts().1, 1);
    ledger.remove(id);
    ledger.remove(id);
    assert_eq!(ledger.counts().1, 0);
}

#[test]
fn a_full_store_refuses_and_keeps_what_it_has() {
    let mut ledger = Ledger::new();
    for i in 0..STORE_CAPACITY {
        ledger.store(StoreId::new(i.to_string()).unwrap(), fd()).unwrap();
    }
    assert_eq!(ledger.store(StoreId::new("x").unwrap(), fd()), Err(Errno::ENOSPC));
    assert_eq!(ledger.store(StoreId::new("7").unwrap(), fd()), Ok(()));
    assert_eq!(ledger.counts().1 as usize, STORE_CAPACITY);
}

#[test]
fn tables_never_outgrow_the_room_they_took_at_the_start() {
    let mut ledger = Ledger::new();
    let room = |ledger: &Ledger| {
        (
            ledger.running.capacity(),
            ledger.store.capacity(),
            ledger.exits.capacity(),
        )
    };
    let before = room(&ledger);
    for n in 0..RUNNING_CAPACITY as i32 {
        ledger.started(n as u64 + 1, n, fd());
        ledger.exited(n, ExitStatus(0), 0, 0);
        ledger.started(n as u64 + 1, n, fd());
    }
    assert_eq!(ledger.may_start(u64::MAX), Err(Errno::ENOSPC));
    for n in 0..STORE_CAPACITY + 1 {
        let _ = ledger.store(StoreId::new(n.to_string()).unwrap(), fd());
    }
    for n in 0..2 * EXIT_CAPACITY as i32 {
        ledger.exited(n, ExitStatus(0), 0, 0);
    }
    assert_eq!(room(&ledger), before);
}

#[test]
fn acknowledged_exits_leave_their_memory_to_the_next_ones() {
    let mut ledger = Ledger::new();
    let mut places = std::collections::BTreeSet::new();
    for n in 0..100 {
        ledger.exited(n, ExitStatus(0), 0, 0);
        places.insert(std::ptr::from_ref(ledger.exit_after(n as u64).unwrap()) as usize);
        ledger.acknowledge(n as u64 + 1);
    }
    assert_eq!(places.len(), 1);
}
