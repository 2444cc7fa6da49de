use std::io::Read as _;

use super::*;

fn words() -> (Words, std::fs::File) {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    (Words::new(write.as_fd()).unwrap(), read.into())
}

fn on_console(console: &mut std::fs::File) -> usize {
    let mut text = vec![0; 1 << 20];
    console.read(&mut text).unwrap_or(0)
}

fn fill(words: &Words) -> usize {
    rustix::fs::fcntl_setfl(words.pen(), OFlags::NONBLOCK).unwrap();
    let mut written = 0;
    while let Ok(n) = rustix::io::write(words.pen(), &[b'x'; CHUNK]) {
        written += n;
    }
    written
}

#[test]
fn the_end_of_the_text_is_kept() {
    let mut kept = Kept::new();
    for n in 0..10_000 {
        kept.push(format!("line {n}\n").as_bytes());
    }
    assert_eq!(kept.length, KEPT);
    let lines: Vec<_> = kept.last_lines().collect();
    assert_eq!(lines.len(), LINES);
    assert_eq!(lines[0], b"line 9990");
    assert_eq!(lines[9], b"line 9999");
    kept.push(&[b'y'; 3 * KEPT]);
    assert_eq!(kept.last_lines().next().unwrap(), [b'y'; LINE]);
}

#[test]
fn nothing_that_a_terminal_obeys_gets_through() {
    let text = Printable(b"a'b\\\x1b[2Jc\xc3\xa9\r\t~").to_string();
    assert_eq!(text, r"a'b\\x1b[2Jc\xc3\xa9\x0d\x09~");
}

#[test]
fn what_is_written_reaches_the_console() {
    let (mut words, mut console) = words();
    rustix::io::write(words.pen(), b"hello\n").unwrap();
    words.turn(0);
    assert_eq!(on_console(&mut console), 6);
}

#[test]
fn a_flood_is_one_chunk_a_turn_and_no_more_than_the_limit_in_a_second() {
    let (mut words, mut console) = words();
    let mut copied = 0;
    let mut turns = 0;
    while words.next().is_none() {
        fill(&words);
        words.turn(5);
        let now = on_console(&mut console);
        assert!(now <= CHUNK);
        copied += now;
        turns += 1;
    }
    assert_eq!(copied, A_SECOND);
    assert_eq!(turns, A_SECOND / CHUNK);
    words.turn(6);
    assert_eq!(on_console(&mut console), 0, "nothing before the second is over");
    words.turn(5 + SECOND);
    assert_eq!(on_console(&mut console), CHUNK);
}

#[test]
fn a_console_that_takes_nothing_is_waited_for_a_second_and_then_passed_over() {
    let (mut words, mut console) = words();
    // It takes some, then it is full.
    let mut now = 0;
    while words.next() != Some(now + AGAIN) {
        fill(&words);
        now = words.next().unwrap_or(now);
        words.turn(now);
    }
    let full = now;
    while let Some(until) = words.next().filter(|_| !words.stuck) {
        now = until;
        words.turn(now);
    }
    assert!((full + STUCK..full + STUCK + 2 * AGAIN).contains(&now));
    // The manager goes on writing meanwhile.
    fill(&words);
    for _ in 0..A_SECOND / CHUNK {
        words.turn(now + SECOND);
    }
    assert!(fill(&words) > 0);
    // The console is back: so is the text.
    on_console(&mut console);
    words.turn(now + 3 * SECOND);
    assert!(on_console(&mut console) > 0);
    assert!(!words.stuck);
}

#[test]
fn what_a_dead_manager_left_in_the_pipe_is_read() {
    let (mut words, mut console) = words();
    rustix::io::write(words.pen(), &[b'z'; 3 * CHUNK]).unwrap();
    rustix::io::write(words.pen(), b"\nthe reason\n").unwrap();
    words.finish();
    assert_eq!(words.kept.last_lines().last().unwrap(), b"the reason");
    assert_eq!(on_console(&mut console), 3 * CHUNK + 12);
}
