use super::*;

fn requests() -> Vec<Request> {
    let id = StoreId::new("notify@caddy").unwrap();
    vec![
        Request::Hello,
        Request::Spawn {
            token: u64::MAX,
            listen: 0,
        },
        Request::Spawn { token: 1, listen: 16 },
        Request::ReplaceManager,
        Request::Barrier,
        Request::Ack { seq: 7 },
        Request::Store { id },
        Request::Remove {
            id: StoreId::new([b'x'; 64]).unwrap(),
        },
        Request::Shutdown {
            kind: PowerKind::Halt,
            deadline_ms: 90_000,
        },
    ]
}

fn events() -> Vec<Event> {
    vec![
        Event::Welcome {
            generation: 1,
            running: 2,
            stored: 3,
            exits: 4,
            origin: Origin::FellBack,
        },
        Event::Running { token: 9, pid: 10 },
        Event::Stored {
            id: StoreId::new("log").unwrap(),
        },
        Event::Resumed,
        Event::Spawned { token: 1, pid: 2 },
        Event::SpawnFailed { token: 3, errno: 12 },
        Event::Exited {
            seq: 5,
            token: 6,
            monotonic_ns: u64::MAX,
            pid: 8,
            status: ExitStatus(0x8b),
            cgroup: u64::MAX,
        },
        Event::PowerRequest {
            kind: PowerKind::Reboot,
        },
        Event::Refused {
            request: 200,
            errno: 22,
        },
        Event::Replacing,
        Event::Passed { seq: 11, all: true },
    ]
}

/// xorshift: enough randomness for bytes, and the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn every_message_survives_the_wire() {
    for request in requests() {
        assert_eq!(Request::decode(&request.encode(), request.fds()), Ok(request));
    }
    for event in events() {
        assert_eq!(Event::decode(&event.encode(), event.fds()), Ok(event));
    }
}

#[test]
fn random_bytes_never_panic_and_never_pass_unless_canonical() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..200_000u32 {
        let len = if round % 4 == 0 {
            (random.next() % 200) as usize
        } else {
            FRAME_LEN
        };
        let mut bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        if len > 2 && round % 2 == 0 {
            bytes[0] = VERSION;
            bytes[1] = (random.next() % 10) as u8 | if round % 3 == 0 { 128 } else { 0 };
        }
        let fds = (random.next() % 24) as usize;
        if let Ok(request) = Request::decode(&bytes, fds) {
            assert_eq!(request.encode()[..], bytes[..]);
        }
        if let Ok(event) = Event::decode(&bytes, fds) {
            assert_eq!(event.encode()[..], bytes[..]);
        }
    }
}

#[test]
fn any_one_changed_byte_is_another_message_or_refused() {
    for request in requests() {
        let good = request.encode();
        for at in 0..FRAME_LEN {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = good;
                bad[at] ^= flip;
                assert_ne!(Request::decode(&bad, request.fds()), Ok(request));
            }
        }
    }
}

#[test]
fn the_wrong_number_of_descriptors_is_refused() {
    let spawn = Request::Spawn { token: 1, listen: 0 };
    assert_eq!(
        Request::decode(&spawn.encode(), 5),
        Err(Malformed::Descriptors { wanted: 6, got: 5 })
    );
    assert_eq!(
        Request::decode(&Request::Hello.encode(), 1),
        Err(Malformed::Descriptors { wanted: 0, got: 1 })
    );
}

#[test]
fn a_spawn_carries_as_many_sockets_as_it_says_and_sixteen_at_most() {
    let spawn = |listen| Request::Spawn { token: 1, listen };
    assert_eq!(spawn(16).fds(), MAX_FDS);
    assert_eq!(
        Request::decode(&spawn(3).encode(), 8),
        Err(Malformed::Descriptors { wanted: 9, got: 8 })
    );
    assert_eq!(Request::decode(&spawn(17).encode(), MAX_FDS + 1), Err(Malformed::Field));
}

#[test]
fn another_version_is_refused() {
    let mut frame = Request::Hello.encode();
    frame[0] = VERSION - 1;
    assert_eq!(Request::decode(&frame, 0), Err(Malformed::Version(VERSION - 1)));
}

#[test]
fn a_request_is_never_read_as_an_event() {
    for request in requests() {
        assert!(matches!(
            Event::decode(&request.encode(), request.fds()),
            Err(Malformed::Kind(_))
        ));
    }
}

#[test]
fn a_token_of_zero_is_refused() {
    assert_eq!(
        Request::decode(&Request::Spawn { token: 0, listen: 0 }.encode(), 6),
        Err(Malformed::Field)
    );
}

#[test]
fn store_ids_are_one_to_sixty_four_bytes_without_nul() {
    assert!(StoreId::new("").is_none());
    assert!(StoreId::new([b'a'; 65]).is_none());
    assert!(StoreId::new("a\0b").is_none());
    assert_eq!(StoreId::new("é").unwrap().as_bytes(), "é".as_bytes());
    assert_eq!(StoreId::new([b'a'; 64]).unwrap().as_bytes().len(), 64);
}

#[test]
fn a_wait_status_reads_as_wait4_means_it() {
    assert_eq!(ExitStatus(0).code(), Some(0));
    assert!(ExitStatus(0).success());
    assert_eq!(ExitStatus(3 << 8).code(), Some(3));
    assert_eq!(ExitStatus(9).signal(), Some(9));
    assert_eq!(ExitStatus(9).code(), None);
    assert!(ExitStatus(0x8b).core_dumped());
    assert_eq!(ExitStatus(0x8b).to_string(), "signal 11, core dumped");
}
