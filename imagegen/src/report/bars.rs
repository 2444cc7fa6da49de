//! Progress: bars on a terminal, at most one line a stage elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::{bytes, duration};
use crate::progress::{Progress, Stage};

/// What one stage took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageTime {
    /// The stage: `download`, `unpack`, `write`, or a name that the command gave.
    pub stage: String,
    /// From its first start to its last end, in seconds.
    pub seconds: f64,
    /// The bytes that went through it.
    pub bytes: u64,
}

#[derive(Debug)]
struct Entry {
    begun: Instant,
    took: Option<Duration>,
    total: u64,
    bytes: u64,
    bar: Option<ProgressBar>,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Bars,
    Lines,
    Silent,
}

/// Receives progress and shows it on standard error. Lines, where there are no bars, are written when it is dropped.
#[derive(Debug)]
pub struct Bars {
    style: Style,
    all: MultiProgress,
    entries: Mutex<BTreeMap<Stage, Entry>>,
}

impl Bars {
    /// Bars where standard error is a terminal, a line a stage where it is not, nothing at all if `silent`.
    pub fn new(silent: bool) -> Bars {
        let style = match (silent, std::io::stderr().is_terminal()) {
            (true, _) => Style::Silent,
            (false, true) => Style::Bars,
            (false, false) => Style::Lines,
        };
        let target = if style == Style::Bars {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Bars {
            style,
            all: MultiProgress::with_draw_target(target),
            entries: Mutex::default(),
        }
    }

    /// What every stage took so far, in the order in which stages follow each other.
    pub fn times(&self) -> Vec<StageTime> {
        let Ok(entries) = self.entries.lock() else {
            return Vec::new();
        };
        let time = |(stage, e): (&Stage, &Entry)| StageTime {
            stage: name(*stage),
            seconds: e.took.unwrap_or_else(|| e.begun.elapsed()).as_secs_f64(),
            bytes: e.bytes,
        };
        entries.iter().map(time).collect()
    }
}

fn name(stage: Stage) -> String {
    format!("{stage:?}").to_lowercase()
}

impl Progress for Bars {
    fn start(&self, stage: Stage, total: u64) {
        let Ok(mut entries) = self.entries.lock() else { return };
        let entry = entries.entry(stage).or_insert_with(|| Entry {
            begun: Instant::now(),
            took: None,
            total: 0,
            bytes: 0,
            bar: None,
        });
        entry.total += total;
        entry.took = None;
        if self.style == Style::Bars {
            let bar = entry.bar.get_or_insert_with(|| {
                let bar = self.all.add(ProgressBar::new(0));
                let style = if stage == Stage::Compile {
                    bar.enable_steady_tick(Duration::from_millis(200));
                    "{msg:>9} [Cairn's own programs          ] {spinner} {elapsed}"
                } else {
                    "{msg:>9} [{bar:30}] {binary_bytes:>11} / {binary_total_bytes:<11} {binary_bytes_per_sec}"
                };
                bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar.set_message(name(stage));
                bar
            });
            bar.set_length(entry.total);
        }
    }

    fn advance(&self, stage: Stage, more: u64) {
        let Ok(mut entries) = self.entries.lock() else { return };
        if let Some(entry) = entries.get_mut(&stage) {
            entry.bytes += more;
            if let Some(bar) = &entry.bar {
                bar.inc(more);
            }
        }
    }

    fn finish(&self, stage: Stage) {
        let Ok(mut entries) = self.entries.lock() else { return };
        let Some(entry) = entries.get_mut(&stage) else { return };
        if entry.took.is_some() {
            return;
        }
        let took = entry.begun.elapsed();
        entry.took = Some(took);
        if let Some(bar) = entry.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bars {
    /// Where there are no bars, one line for each stage that moved anything or took long, however often it began and ended.
    fn drop(&mut self) {
        if self.style != Style::Lines {
            return;
        }
        for time in self.times().iter().filter(|time| time.bytes > 0 || time.seconds > 1.0) {
            let took = duration(Duration::from_secs_f64(time.seconds));
            let what = if time.bytes > 0 {
                bytes(time.bytes)
            } else {
                "done".into()
            };
            let _ = writeln!(std::io::stderr(), "{}: {what} in {took}", time.stage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_learns_of_more_work_is_one_row() {
        let bars = Bars::new(true);
        bars.start(Stage::Write, 10);
        bars.start(Stage::Write, 5);
        bars.advance(Stage::Write, 15);
        bars.finish(Stage::Write);
        let times = bars.times();
        assert_eq!(times.len(), 1);
        assert_eq!((times[0].stage.as_str(), times[0].bytes), ("write", 15));
    }
}
