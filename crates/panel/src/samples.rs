//! What the units used lately, for the charts; and the manager's events, for pages that follow them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_api::{Top, Use};

use crate::app::App;

/// So many samples are kept of each unit: ten minutes, at one in five seconds.
pub(crate) const KEPT: usize = 120;

/// One moment of one unit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Sample {
    /// Percent of one processor since the sample before.
    pub(crate) cpu: f64,
    /// Bytes.
    pub(crate) memory: f64,
    /// The worst of what it waits for, in percent.
    pub(crate) pressure: f64,
}

#[derive(Debug, Default)]
struct Kept {
    at_ms: u64,
    last: BTreeMap<String, Use>,
    past: BTreeMap<String, VecDeque<Sample>>,
}

/// The samples of every unit.
#[derive(Debug, Default)]
pub(crate) struct Samples(Mutex<Kept>);

impl Samples {
    /// Takes what the manager read.
    pub(crate) fn take(&self, top: Top) {
        let Ok(mut kept) = self.0.lock() else { return };
        let elapsed_us = top.at_ms.saturating_sub(kept.at_ms) as f64 * 1000.0;
        kept.past
            .retain(|name, _| top.units.iter().any(|unit| unit.name == *name));
        for unit in &top.units {
            let before = kept.last.get(&unit.name).map(|before| before.cpu_us);
            // A unit that started again counts from 0 again.
            let spent = before.map_or(0, |before| unit.cpu_us.saturating_sub(before)) as f64;
            let cpu = if elapsed_us > 0.0 {
                spent / elapsed_us * 100.0
            } else {
                0.0
            };
            let pressure = unit.pressure.cpu.max(unit.pressure.memory).max(unit.pressure.io);
            let past = kept.past.entry(unit.name.clone()).or_default();
            past.push_back(Sample {
                cpu,
                memory: unit.memory as f64,
                pressure: f64::from(pressure),
            });
            while past.len() > KEPT {
                past.pop_front();
            }
        }
        kept.at_ms = top.at_ms;
        kept.last = top.units.into_iter().map(|unit| (unit.name.clone(), unit)).collect();
    }

    /// What a unit used lately, the oldest first.
    pub(crate) fn of(&self, unit: &str) -> Vec<Sample> {
        let kept = self.0.lock().ok();
        kept.and_then(|kept| kept.past.get(unit).map(|past| past.iter().copied().collect()))
            .unwrap_or_default()
    }
}

/// Reads what the units use, for ever.
pub(crate) async fn watch_use(app: Arc<App>, every: Duration) {
    loop {
        if let Ok(top) = app.control.get::<Top>("/v1/top").await {
            app.samples.take(top);
            let _ = app.changes.send(());
        }
        tokio::time::sleep(every).await;
    }
}

/// Listens to the manager's events, for ever: one listener for all browsers.
pub(crate) async fn watch_events(app: Arc<App>) {
    loop {
        if let Ok(mut lines) = app.control.lines("/v1/events").await {
            while lines.recv().await.is_some() {
                let _ = app.changes.send(());
            }
            let _ = app.changes.send(());
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(at_ms: u64, cpu_us: u64) -> Top {
        let unit = Use {
            name: "web".into(),
            cpu_us,
            memory: 5,
            ..Use::default()
        };
        Top {
            at_ms,
            units: vec![unit],
        }
    }

    #[test]
    fn processor_time_becomes_a_share_of_the_time_between() {
        let samples = Samples::default();
        for (at, cpu) in [(1000, 0), (2000, 500_000), (4000, 500_000), (5000, 100)] {
            samples.take(top(at, cpu));
        }
        let shares: Vec<f64> = samples.of("web").iter().map(|sample| sample.cpu).collect();
        assert_eq!(shares, [0.0, 50.0, 0.0, 0.0]);
        assert_eq!(samples.of("other"), []);
    }

    #[test]
    fn old_samples_go() {
        let samples = Samples::default();
        for at in 0..500 {
            samples.take(top(at, 0));
        }
        assert_eq!(samples.of("web").len(), KEPT);
    }
}
