//! Chunks from a source: neighbours in one request, several requests under way, each chunk checked by its hash before it is handed on.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::chunk::ChunkId;
use crate::error::Error;
use crate::index::{Chunk, unpack};
use crate::source::Source;

/// So many requests at once.
const WORKERS: usize = 4;
/// The most bytes of one request. With what is unpacked of it, this times the workers bounds the memory.
const REQUEST: u64 = 1 << 20;
/// Bytes between two wanted chunks that are rather read than skipped by another request.
const GAP: u64 = 16 << 10;
/// How often a request is tried, and how long is waited after a failure, growing.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// A stretch of a pack with the chunks that are wanted of it.
struct Request<'a> {
    pack: &'a str,
    from: u64,
    end: u64,
    chunks: Vec<&'a Chunk>,
}

/// The requests for these chunks, each of them once: neighbours with at most `gap` bytes between them together, up to `most` bytes.
fn requests<'a>(packs: &'a [String], wanted: &HashMap<ChunkId, &'a Chunk>, most: u64, gap: u64) -> Vec<Request<'a>> {
    let mut chunks: Vec<&Chunk> = wanted.values().copied().collect();
    chunks.sort_unstable_by_key(|c| (c.pack, c.at));
    let mut out: Vec<Request<'_>> = Vec::new();
    let mut last = None;
    for chunk in chunks {
        let end = chunk.at + u64::from(chunk.stored);
        let joins =
            |r: &Request<'_>| last == Some(chunk.pack) && chunk.at <= r.end.saturating_add(gap) && end - r.from <= most;
        match out.last_mut() {
            Some(request) if joins(request) => {
                request.end = request.end.max(end);
                request.chunks.push(chunk);
            }
            _ => out.push(Request {
                pack: &packs[usize::from(chunk.pack)],
                from: chunk.at,
                end,
                chunks: vec![chunk],
            }),
        }
        last = Some(chunk.pack);
    }
    out
}

/// What a worker found: a chunk, its content and what it took to get; or why not.
type Told<'a> = Result<(&'a Chunk, Vec<u8>), Error>;

/// Takes a chunk and its content.
pub(crate) type Take<'a> = &'a mut dyn FnMut(&Chunk, &[u8]) -> Result<(), Error>;

/// Gets each of these chunks and hands it on, in no particular order. From a server that knows no ranges each pack is read once, from its beginning.
///
/// # Errors
/// One that cannot be got, or that of `take`.
pub(crate) fn fetch(
    source: &dyn Source,
    packs: &[String],
    wanted: &HashMap<ChunkId, &Chunk>,
    take: Take<'_>,
) -> Result<(), Error> {
    let mut left = wanted.clone();
    stretches(source, packs, wanted, &mut |chunk, content| {
        left.remove(&chunk.id);
        take(chunk, content)
    })?;
    match source.has_ranges() {
        true => Ok(()),
        false => whole_packs(source, packs, &left, take),
    }
}

/// Gets them by ranges. Ends early if the source has none.
fn stretches(
    source: &dyn Source,
    packs: &[String],
    wanted: &HashMap<ChunkId, &Chunk>,
    take: Take<'_>,
) -> Result<(), Error> {
    let queue = Mutex::new(requests(packs, wanted, REQUEST, GAP).into_iter());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (send, told) = sync_channel::<Told<'_>>(WORKERS * 2);
        for _ in 0..WORKERS {
            let (send, queue, stop) = (send.clone(), &queue, &stop);
            scope.spawn(move || {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.next());
                    let go_on = !stop.load(Ordering::Relaxed) && source.has_ranges();
                    let Some(request) = next.filter(|_| go_on) else {
                        return;
                    };
                    let mut hand = |chunk, content| Ok(send.send(Ok((chunk, content))).is_ok());
                    if let Err(error) = patiently(source, &request, true, &mut hand, stop) {
                        let _ = send.send(Err(error));
                        return;
                    }
                }
            });
        }
        drop(send);
        let result = told.iter().try_for_each(|found| {
            let (chunk, content) = found?;
            take(chunk, &content)
        });
        // Workers that still send find nobody and end.
        stop.store(true, Ordering::Relaxed);
        drop(told);
        result
    })
}

/// Gets them from packs that are read whole, one after the other.
fn whole_packs(
    source: &dyn Source,
    packs: &[String],
    wanted: &HashMap<ChunkId, &Chunk>,
    take: Take<'_>,
) -> Result<(), Error> {
    let stop = AtomicBool::new(false);
    for request in requests(packs, wanted, u64::MAX, u64::MAX / 2) {
        let mut hand = |chunk: &Chunk, content: Vec<u8>| take(chunk, &content).map(|()| true);
        patiently(source, &request, false, &mut hand, &stop)?;
    }
    Ok(())
}

/// Takes a chunk and its content; false: no more is wanted.
type Hand<'h, 'a> = &'h mut dyn FnMut(&'a Chunk, Vec<u8>) -> Result<bool, Error>;

/// Tries a request until it is done; what came of it is not asked for again.
fn patiently<'a>(
    source: &dyn Source,
    request: &Request<'a>,
    by_range: bool,
    hand: Hand<'_, 'a>,
    stop: &AtomicBool,
) -> Result<(), Error> {
    let mut done = 0;
    for attempt in 1.. {
        match attempt_one(source, request, by_range, &mut done, hand) {
            Err(Error::Fetch { absent: false, .. }) if attempt < TRIES && !stop.load(Ordering::Relaxed) => {
                std::thread::sleep(PAUSE * 2_u32.pow(attempt - 1));
            }
            other => return other,
        }
    }
    Ok(())
}

fn attempt_one<'a>(
    source: &dyn Source,
    request: &Request<'a>,
    by_range: bool,
    done: &mut usize,
    hand: Hand<'_, 'a>,
) -> Result<(), Error> {
    let name = format!("packs/{}", request.pack);
    let Some(first) = request.chunks.get(*done) else {
        return Ok(());
    };
    let (mut at, range) = match by_range {
        true => (first.at, Some((first.at, request.end - first.at))),
        false => (0, None),
    };
    let mut stream = source.open(&name, range)?;
    if by_range && !source.has_ranges() {
        return Ok(());
    }
    let broken = |e: std::io::Error| Error::Fetch {
        name: name.clone(),
        why: e.to_string(),
        absent: false,
    };
    while let Some(chunk) = request.chunks.get(*done) {
        let skip = chunk.at - at;
        std::io::copy(&mut (&mut stream).take(skip), &mut std::io::sink()).map_err(broken)?;
        let mut stored = vec![0; chunk.stored as usize];
        stream.read_exact(&mut stored).map_err(broken)?;
        at = chunk.at + u64::from(chunk.stored);
        let content = unpack(chunk, &stored)?;
        *done += 1;
        if !hand(chunk, content)? {
            return Ok(());
        }
    }
    Ok(())
}
