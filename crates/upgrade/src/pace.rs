//! How fast is read, at most and at least: an owner's line is not filled, and a server that keeps one waiting is given up.

use std::io::{self, Read};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::source::{Source, Stream};

/// So much is read between two looks at the clock.
const PIECE: usize = 16 << 10;

/// The time, and waiting.
pub trait Clock: Send + Sync {
    /// The time since some moment.
    fn now(&self) -> Duration;
    /// Waits.
    fn sleep(&self, length: Duration);
}

/// The machine's clock.
#[derive(Debug)]
pub struct RealClock(Instant);

impl Default for RealClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, length: Duration) {
        std::thread::sleep(length);
    }
}

/// A bucket of tokens, one for each byte, shared by all that read: it fills at the rate, and holds what comes in a second.
pub struct Pace {
    rate: NonZeroU64,
    clock: Arc<dyn Clock>,
    /// When the bucket was or will be full but for a second's worth: the time that all bytes so far take at the rate.
    paid: Mutex<Duration>,
}

impl Pace {
    /// So many bytes a second.
    pub fn new(rate: NonZeroU64, clock: Arc<dyn Clock>) -> Self {
        let paid = Mutex::new(clock.now().saturating_sub(Duration::from_secs(1)));
        Self { rate, clock, paid }
    }

    /// Takes tokens for bytes that were read, and waits until they are there.
    pub fn take(&self, bytes: usize) {
        let wait = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.now();
            // What was not used for longer than a second is lost.
            let cost = u128::from(bytes as u64) * 1_000_000_000 / u128::from(self.rate.get());
            let cost = Duration::from_nanos(u64::try_from(cost).unwrap_or(u64::MAX));
            *paid = (*paid)
                .max(now.saturating_sub(Duration::from_secs(1)))
                .saturating_add(cost);
            paid.saturating_sub(now)
        };
        if !wait.is_zero() {
            self.clock.sleep(wait);
        }
    }
}

/// A source that is read no faster than this.
pub struct Paced {
    /// The source.
    pub source: Arc<dyn Source>,
    /// The pace of all that is read of it together.
    pub pace: Arc<Pace>,
}

impl Source for Paced {
    fn open(&self, name: &str, range: Option<(u64, u64)>) -> Result<Stream, Error> {
        let stream = self.source.open(name, range)?;
        let pace = self.pace.clone();
        Ok(Box::new(PacedStream { stream, pace }))
    }

    fn has_ranges(&self) -> bool {
        self.source.has_ranges()
    }
}

struct PacedStream {
    stream: Stream,
    pace: Arc<Pace>,
}

impl Read for PacedStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let room = into.len().min(PIECE);
        let read = self.stream.read(&mut into[..room])?;
        self.pace.take(read);
        Ok(read)
    }
}

/// How slow a server may be.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long is waited for what has not come, whatever the rate.
    pub grace: Duration,
    /// The least bytes a second beyond that.
    pub least: NonZeroU64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(60),
            least: const { NonZeroU64::new(1 << 10).unwrap() },
        }
    }
}

/// A stream that fails when it is too slow. Only the time within reads counts, so that a slow reader does not look like a slow server.
pub struct Watched<R> {
    stream: R,
    clock: Arc<dyn Clock>,
    patience: Patience,
    waited: Duration,
    got: u64,
}

impl<R> Watched<R> {
    /// That stream.
    pub fn new(stream: R, clock: Arc<dyn Clock>, patience: Patience) -> Self {
        Self {
            stream,
            clock,
            patience,
            waited: Duration::ZERO,
            got: 0,
        }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let room = into.len().min(PIECE);
        let began = self.clock.now();
        let read = self.stream.read(&mut into[..room])?;
        self.waited += self.clock.now().saturating_sub(began);
        self.got += read as u64;
        let least = self.patience.least.get();
        let allowed = self
            .patience
            .grace
            .saturating_add(Duration::from_secs(self.got / least));
        match self.waited > allowed && read > 0 {
            true => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the server sends less than {least} bytes a second; try again later, or bring a bundle"),
            )),
            false => Ok(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that moves when somebody sleeps, and counts that.
    #[derive(Default)]
    struct Counted(Mutex<(Duration, Vec<Duration>)>);

    impl Counted {
        fn pass(&self, length: Duration) {
            self.0.lock().unwrap().0 += length;
        }

        fn sleeps(&self) -> Vec<u64> {
            let slept = std::mem::take(&mut self.0.lock().unwrap().1);
            slept.iter().map(|s| s.as_millis() as u64).collect()
        }
    }

    impl Clock for Counted {
        fn now(&self) -> Duration {
            self.0.lock().unwrap().0
        }

        fn sleep(&self, length: Duration) {
            self.pass(length);
            self.0.lock().unwrap().1.push(length);
        }
    }

    fn rate(bytes: u64) -> NonZeroU64 {
        NonZeroU64::new(bytes).unwrap()
    }

    fn clock() -> Arc<Counted> {
        let clock = Arc::new(Counted::default());
        clock.pass(Duration::from_secs(100));
        clock
    }

    #[test]
    fn a_second_of_bytes_is_free_and_what_is_more_is_waited_for() {
        let clock = clock();
        let pace = Pace::new(rate(1000), clock.clone());
        pace.take(400);
        pace.take(600);
        assert_eq!(clock.sleeps(), Vec::<u64>::new());
        for bytes in [500, 1000, 1] {
            pace.take(bytes);
        }
        assert_eq!(clock.sleeps(), [500, 1000, 1]);
        // Half a second of rest is half a second's worth; an hour is one second's.
        clock.pass(Duration::from_millis(500));
        pace.take(700);
        assert_eq!(clock.sleeps(), [200]);
        clock.pass(Duration::from_secs(3600));
        pace.take(1500);
        assert_eq!(clock.sleeps(), [500]);
    }

    #[test]
    fn all_that_read_share_one_pace() {
        struct Zeros;
        impl Source for Zeros {
            fn open(&self, _: &str, range: Option<(u64, u64)>) -> Result<Stream, Error> {
                Ok(Box::new(io::repeat(0).take(range.unwrap().1)))
            }
        }
        let clock = clock();
        let paced = Paced {
            source: Arc::new(Zeros),
            pace: Arc::new(Pace::new(rate(64 << 10), clock.clone())),
        };
        let mut streams: Vec<Stream> = (0..4).map(|_| paced.open("x", Some((0, 64 << 10))).unwrap()).collect();
        let mut got = 0;
        for _ in 0..4 {
            for stream in &mut streams {
                got += stream.read(&mut vec![0; 1 << 20]).unwrap();
            }
        }
        assert_eq!(got, 256 << 10);
        // Four seconds of bytes, of which one is free.
        assert_eq!(clock.sleeps().iter().sum::<u64>(), 3000);
    }

    /// Gives so many bytes, each read taking so long.
    struct Slow(Arc<Counted>, usize, Duration);

    impl Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.pass(self.2);
            Ok(self.1.min(into.len()))
        }
    }

    #[test]
    fn a_server_that_dribbles_is_given_up_and_one_that_is_only_slow_is_not() {
        let patience = Patience {
            grace: Duration::from_secs(60),
            least: rate(1024),
        };
        let reads = |bytes, each| {
            let clock = clock();
            let mut watched = Watched::new(Slow(clock.clone(), bytes, each), clock, patience);
            let mut buf = [0; 4096];
            (0..1000).take_while(|_| watched.read(&mut buf).is_ok()).count()
        };
        assert_eq!(reads(1, Duration::from_secs(1)), 60);
        assert_eq!(reads(1024, Duration::from_secs(1)), 1000);
        assert_eq!(reads(512, Duration::from_secs(1)), 120);
        // Waiting between reads is the reader's own.
        let clock = clock();
        let mut watched = Watched::new(Slow(clock.clone(), 1, Duration::ZERO), clock.clone(), patience);
        for _ in 0..10 {
            clock.pass(Duration::from_secs(100));
            assert_eq!(watched.read(&mut [0; 10]).unwrap(), 1);
        }
    }
}
