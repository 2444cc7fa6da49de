//! The two clocks: monotonic for decisions, real for people.

use rustix::time::{ClockId, clock_gettime};

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Milliseconds since the kernel started.
pub fn now_ms() -> u64 {
    now_ns() / 1_000_000
}

/// The real time in seconds since 1970.
pub fn seconds() -> u64 {
    real_ns() / 1_000_000_000
}

/// The real time, to the second.
pub fn timestamp() -> cairn_config::Timestamp {
    let seconds = i64::try_from(seconds()).unwrap_or(0);
    cairn_config::Timestamp::from_second(seconds).unwrap_or_default()
}

/// Nanoseconds since the kernel started.
pub fn now_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Nanoseconds since 1970.
pub fn real_ns() -> u64 {
    nanoseconds(ClockId::Realtime)
}
