//! The stream of events: a line of JSON for each change of a unit's state, to everyone who listens.

use std::sync::{Arc, Mutex};

use cairn_api::EventLine;
use tokio::sync::mpsc;

use crate::control::Parts;

/// How many events wait for a listener before it is cut off: it would miss some.
const WAITING: usize = 256;

/// One who listens.
type Listener = mpsc::Sender<std::io::Result<Vec<u8>>>;

/// Everyone who listens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<Listener>>>);

impl Events {
    /// A new listener's lines.
    pub(crate) fn subscribe(&self) -> Parts {
        let (send, parts) = mpsc::channel(WAITING);
        self.listeners().push(send);
        parts
    }

    /// Tells everyone. Who is gone is forgotten, and who is too slow is cut off.
    pub(crate) fn tell(&self, event: &EventLine) {
        let mut listeners = self.listeners();
        if listeners.is_empty() {
            return;
        }
        let mut line = serde_json::to_vec(event).unwrap_or_default();
        line.push(b'\n');
        listeners.retain(|listener| listener.try_send(Ok(line.clone())).is_ok());
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Vec<Listener>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(unit: &str) -> EventLine {
        EventLine {
            at_ms: 1,
            unit: unit.into(),
            state: "ready".into(),
            reason: String::new(),
        }
    }

    #[test]
    fn everyone_who_listens_is_told_and_who_is_too_slow_is_cut_off() {
        let events = Events::default();
        events.tell(&event("before"));
        let (mut one, two) = (events.subscribe(), events.subscribe());
        events.tell(&event("a"));
        drop(two);
        for _ in 0..WAITING {
            events.tell(&event("b"));
        }
        let mut lines = Vec::new();
        while let Some(line) = one.blocking_recv() {
            lines.push(String::from_utf8(line.unwrap()).unwrap());
        }
        assert_eq!(lines.len(), WAITING, "the stream ends where one would be missing");
        assert!(lines[0].contains("\"unit\":\"a\"") && lines[0].ends_with('\n'));
        assert!(events.listeners().is_empty());
    }
}
