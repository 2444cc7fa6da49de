//! The timer of the same name: systemd.timer(5).

use cairn_unit::Calendar;

use crate::job::{Job, Part};
use crate::values::{Span, span};

pub(crate) fn read(job: &mut Job) {
    let mut local = false;
    for (id, value) in job.list_of(Part::Timer, "OnCalendar") {
        let value = job.expand(id, &value);
        if value.parse::<Calendar>().is_ok() {
            local |= !value.ends_with("UTC");
            job.draft.calendar.push(value);
            job.carried(id);
            if local {
                job.hint(id, "times are UTC in a unit, and the machine's local time in systemd");
            }
        } else {
            job.decide(id, &format!("`{value}` is no time that a unit can have (time zones and the last days of a month are not known): write it in UTC into `timer.calendar`"));
        }
    }
    for (key, after_boot) in [
        ("OnBootSec", true),
        ("OnStartupSec", true),
        ("OnActiveSec", true),
        ("OnUnitActiveSec", false),
        ("OnUnitInactiveSec", false),
    ] {
        for (id, value) in job.list_of(Part::Timer, key) {
            let Some(Span::Milliseconds(ms)) = span(&value) else {
                job.not_understood(id);
                continue;
            };
            let text = Span::Milliseconds(if after_boot { ms } else { ms.max(1000) }).text();
            let slot = if after_boot {
                &mut job.draft.after_boot
            } else {
                &mut job.draft.interval
            };
            if slot.is_some() {
                job.decide(id, "a timer has one such time, and another line has said it");
                continue;
            }
            *slot = text;
            job.carried(id);
            if key == "OnUnitActiveSec" {
                job.hint(
                    id,
                    "the time counts from the unit's last end, and not from its last start",
                );
            }
        }
    }
    if let Some((id, value)) = job.last_of(Part::Timer, "RandomizedDelaySec") {
        match span(&value) {
            Some(Span::Milliseconds(0)) => job.covered(id),
            Some(time @ Span::Milliseconds(_)) => {
                job.draft.jitter = time.text();
                job.carried(id);
            }
            _ => job.not_understood(id),
        }
    }
    if let Some((id, value)) = job.last_of(Part::Timer, "Persistent") {
        match crate::values::boolean(&value) {
            Some(true) if !job.draft.calendar.is_empty() => {
                job.draft.persistent = true;
                job.carried(id);
            }
            Some(_) => job.covered(id),
            None => job.not_understood(id),
        }
    }
    if let Some((id, value)) = job.last_of(Part::Timer, "Unit") {
        let value = job.expand(id, &value);
        match value.strip_suffix(".service") == Some(&job.name.stem) {
            true => job.covered(id),
            false => job.decide(
                id,
                &format!("the timer starts `{value}`, and not this service: a unit's timer is its own"),
            ),
        }
    }
    let (calendar, interval, boot) = (
        job.draft.calendar.len(),
        job.draft.interval.is_some(),
        job.draft.after_boot.is_some(),
    );
    if job.timer && calendar == 0 && !interval && !boot {
        job.missing(
            crate::Level::Behaviour,
            "the timer has no time that could be carried over, so the unit starts with the appliance: write [timer]",
        );
        job.draft.jitter = None;
    }
}
