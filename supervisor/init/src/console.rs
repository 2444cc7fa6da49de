//! Lines for the person at the console. Nothing here allocates.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static DEBUG: AtomicBool = AtomicBool::new(false);

/// Text in a fixed buffer; what does not fit is cut off.
pub(crate) struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    pub(crate) fn format(args: fmt::Arguments<'_>) -> Self {
        let mut text = Self::new();
        // Only "full" can fail, and a cut line is what we want then.
        let _ = text.write_fmt(args);
        text
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = N - self.len;
        let take = text.len().min(room);
        self.bytes[self.len..self.len + take].copy_from_slice(&text.as_bytes()[..take]);
        self.len += take;
        if take < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Whether debug lines are wanted (`cairn.debug` on the kernel's command line).
pub(crate) fn set_debug(on: bool) {
    DEBUG.store(on, Relaxed);
}

/// The same, straight from the command line; for the stages that read nothing else there.
pub(crate) fn set_debug_from_cmdline() {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    set_debug(line.split_whitespace().any(|word| word == "cairn.debug"));
}

pub(crate) fn is_debug() -> bool {
    DEBUG.load(Relaxed)
}

/// Writes one line to the console.
pub(crate) fn write_line(args: fmt::Arguments<'_>) {
    let mut line = Text::<1024>::new();
    let _ = line.write_str("cairn: ");
    let _ = line.write_fmt(args);
    line.len = line.len.min(1023);
    let _ = line.write_str("\n");
    // Nobody can be told that the console is gone.
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
}

macro_rules! say {
    ($($arg:tt)*) => { $crate::console::write_line(format_args!($($arg)*)) };
}

macro_rules! debug {
    ($($arg:tt)*) => { if $crate::console::is_debug() { $crate::console::write_line(format_args!($($arg)*)) } };
}

pub(crate) use {debug, say};
