//! The supervisor's part: begins and ends lessons, takes the listeners, and sees to it that no unit stays open.

use std::os::fd::OwnedFd;

use cairn_api::{Accepted, LearnState, Learned};
use cairn_init::protocol::{Request, StoreId};
use cairn_sandbox::learn::{Listener, Trace, supported};
use cairn_sandbox::{OnViolation, Plan};
use cairn_unit::Seconds;

use super::advise::{Subject, advise};
use super::lesson::sightings;
use super::toml;
use crate::clock::now_ms;
use crate::control::Answered;
use crate::machine::{Event, State};
use crate::plan::Role;
use crate::saved::Learning;
use crate::supervisor::{Msg, Supervisor};

/// How long a unit is learned from where nothing else is said.
const USUAL: Seconds = Seconds::from_secs(60);
/// And at most.
const LONGEST: Seconds = Seconds::from_secs(86_400);

impl Supervisor {
    /// Begins a lesson, or ends it.
    pub(crate) fn learn(&mut self, name: &str, wanted: Option<&str>) -> Answered {
        let wanted = match wanted.map_or(Ok(USUAL), str::parse::<Seconds>) {
            Ok(wanted) => wanted,
            Err(error) => return Answered::error(400, &error.to_string()),
        };
        let learning = self.saved.units.get(name).is_some_and(|kept| kept.learning.is_some());
        let units = vec![name.to_owned()];
        if wanted.millis() == 0 {
            if !learning {
                return Answered::error(409, &format!("{name} is not learned from"));
            }
            self.end_lesson(name, "");
            return Answered::of(202, &Accepted { units });
        }
        if let Err((status, why)) = self.may_learn(name, wanted, learning) {
            return Answered::error(status, &why);
        }
        let rules = self
            .live
            .get(name)
            .map_or(0, |live| live.rules.stop_ms.saturating_add(live.rules.start_ms));
        if let Some(live) = self.live.get_mut(name) {
            live.lesson = live.lesson.anew();
        }
        if let Some(kept) = self.saved.units.get_mut(name) {
            // Until its first call comes: what it may take to stop and start is not counted.
            kept.learning = Some(Learning {
                for_ms: wanted.millis(),
                until_ms: now_ms().saturating_add(rules).saturating_add(wanted.millis()),
                begun: false,
            });
        }
        self.console.say(&format!(
            "unit {name}: learned from for {wanted}; until then its system call filter refuses nothing"
        ));
        self.feed(name, Event::Restart);
        Answered::of(202, &Accepted { units })
    }

    fn may_learn(&self, name: &str, wanted: Seconds, learning: bool) -> Result<(), (u16, String)> {
        let refuse = |status: u16, why: String| Err((status, why));
        if wanted > LONGEST {
            return refuse(400, format!("{wanted} is too long: at most {LONGEST}"));
        }
        if self.saved.power.is_some() {
            return refuse(409, "the appliance is going down".into());
        }
        if !self.site.enabled(name) {
            return refuse(409, format!("{name} is disabled; `cairn enable {name}` lets it run"));
        }
        if !self.saved.units.get(name).is_some_and(|kept| kept.up) {
            return refuse(409, format!("{name} is not to run; `cairn start {name}` starts it"));
        }
        if self
            .manifest
            .units
            .get(name)
            .is_some_and(|unit| unit.unit.sandbox.clock)
        {
            return refuse(
                409,
                format!("{name} cannot be learned from: it keeps the clock, and its calls for that need an answer"),
            );
        }
        if learning {
            return refuse(
                409,
                format!("{name} is learned from already; `cairn status` says how much longer"),
            );
        }
        supported().map_err(|why| (409, format!("{name} cannot be learned from: {why}")))
    }

    /// Ends a lesson. That the unit is started again follows from it, see [`Supervisor::close_open_units`].
    fn end_lesson(&mut self, name: &str, reason: &str) {
        let Some(kept) = self.saved.units.get_mut(name).filter(|kept| kept.learning.is_some()) else {
            return;
        };
        kept.learning = None;
        if let Some(live) = self.live.get_mut(name) {
            live.lesson.ended = Some(now_ms());
            reason.clone_into(&mut live.lesson.reason);
        }
        let early = if reason.is_empty() {
            String::new()
        } else {
            format!(": {reason}")
        };
        self.console.say(&format!("unit {name}: no longer learned from{early}"));
    }

    /// Opens the plan of one of the unit's commands, if the unit is learned from; whether it did.
    pub(crate) fn open_plan(&self, name: &str, role: Role, plan: &mut Plan) -> bool {
        let watched = matches!(role, Role::Main | Role::Before(_) | Role::After(_));
        let learning = self.saved.units.get(name).is_some_and(|kept| kept.learning.is_some());
        match plan.seccomp.as_mut().filter(|_| watched && learning) {
            Some(seccomp) => {
                seccomp.on_violation = OnViolation::UnsafeLearn;
                true
            }
            None => false,
        }
    }

    /// Takes the listener of an open unit, from its sandbox or, as a successor, from cairn-init. A successor learns nothing any
    /// more, but lets pass what would wait for ever without it, until the unit has been started again.
    pub(crate) fn take_listener(&mut self, name: &str, descriptor: OwnedFd) {
        if !self.saved.units.get(name).is_some_and(|kept| kept.open) {
            let keeps = self
                .manifest
                .units
                .get(name)
                .is_some_and(|unit| unit.unit.sandbox.clock);
            return match keeps {
                true => self.keep_clock(name, descriptor),
                false => self.forget_listener(name),
            };
        }
        if let Ok(copy) = descriptor.try_clone() {
            self.store("learn", name, copy);
        }
        let plan = self.bare_plan(name).map_err(|error| error.to_string());
        let listener = plan.and_then(|plan| Listener::new(descriptor, &plan).map_err(|error| error.to_string()));
        let (now, send, unit) = (now_ms(), self.send.clone(), name.to_owned());
        let Some(live) = self.live.get_mut(name) else { return };
        live.lesson.listener += 1;
        let number = live.lesson.listener;
        let told = move |why| drop(send.send(Msg::Unheard(unit, number, why)));
        let listening =
            listener.and_then(|listener| live.lesson.listen(listener, told).map_err(|error| error.to_string()));
        if let Err(why) = listening {
            return self.unheard(name, number, Some(why));
        }
        live.lesson.began.get_or_insert(now);
        if let Some(learning) = self.saved.units.get_mut(name).and_then(|kept| kept.learning.as_mut())
            && !std::mem::replace(&mut learning.begun, true)
        {
            learning.until_ms = now.saturating_add(learning.for_ms);
        }
    }

    /// A listener's thread has ended. If it was not for want of callers, they now wait for nobody: they are ended.
    pub(crate) fn unheard(&mut self, name: &str, number: u64, why: Option<String>) {
        if self.live.get(name).is_none_or(|live| live.lesson.listener != number) {
            return;
        }
        self.forget_listener(name);
        if let Some(why) = why {
            self.end_lesson(name, &why);
            self.close_open_units();
            // It would answer no polite question: its next call fails.
            crate::cgroup::kill(&self.config.cgroup(name));
        }
    }

    fn forget_listener(&mut self, name: &str) {
        if let Some(id) = StoreId::new(format!("learn@{name}")) {
            self.post(Request::Remove { id }, Vec::new());
        }
    }

    /// Ends the lessons whose time is over.
    pub(crate) fn end_lessons(&mut self, now: u64) {
        let due = |kept: &crate::saved::Kept| kept.learning.is_some_and(|learning| learning.until_ms <= now);
        let names: Vec<String> = self
            .saved
            .units
            .iter()
            .filter(|(_, kept)| due(kept))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.end_lesson(&name, "");
        }
        self.close_open_units();
    }

    /// Starts again, as they are declared, units whose filter is open though nobody learns from them.
    fn close_open_units(&mut self) {
        if self.saved.power.is_some() {
            return;
        }
        let runs = |state: &State| matches!(state, State::Starting { .. } | State::Ready { .. });
        let left = |kept: &crate::saved::Kept| kept.open && kept.learning.is_none() && runs(&kept.machine.state);
        let names: Vec<String> = self
            .saved
            .units
            .iter()
            .filter(|(_, kept)| left(kept))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.feed(&name, Event::Restart);
        }
    }

    /// A successor has no record of what was heard before it, so it goes on with no lesson.
    pub(crate) fn adopt_lessons(&mut self) {
        let names: Vec<String> = self.saved.units.keys().cloned().collect();
        for name in names {
            self.end_lesson(&name, "another manager came, and the record of the former one is gone");
        }
    }

    /// How much longer a unit is open; none if it is not.
    pub(crate) fn learning_ms(&self, name: &str) -> Option<u64> {
        let kept = self.saved.units.get(name)?;
        match kept.learning {
            Some(learning) if learning.begun => Some(learning.until_ms.saturating_sub(now_ms())),
            Some(learning) => Some(learning.for_ms),
            None => kept.open.then_some(0),
        }
    }

    /// What a lesson came to.
    pub(crate) fn learned(&self, name: &str) -> Answered {
        let (Some(unit), Some(live), Some(kept)) = (
            self.manifest.units.get(name),
            self.live.get(name),
            self.saved.units.get(name),
        ) else {
            return Answered::error(404, &format!("there is no unit {name}"));
        };
        let plan = match self.bare_plan(name) {
            Ok(plan) => plan,
            Err(error) => return Answered::error(500, &error.to_string()),
        };
        let lesson = &live.lesson;
        let state = match kept.learning {
            Some(learning) if learning.begun => LearnState::Running,
            Some(_) => LearnState::Waiting,
            None if lesson.asked || lesson.ended.is_some() => LearnState::Ended,
            None => LearnState::Never,
        };
        // A copy, so that no call waits for what is made of it.
        let trace: Trace = lesson.trace().clone();
        let subject = Subject {
            manifest: &self.manifest,
            name,
            unit,
            plan: &plan,
            handed: !live.stored.is_empty() || !unit.unit.sockets.is_empty(),
        };
        let advice = if lesson.asked {
            advise(&subject, &trace)
        } else {
            Vec::new()
        };
        let until = lesson.ended.unwrap_or_else(now_ms);
        let learned = Learned {
            unit: name.to_owned(),
            state,
            left_ms: kept.learning.and(self.learning_ms(name)).unwrap_or(0),
            heard_ms: lesson.began.map_or(0, |began| until.saturating_sub(began)),
            reason: lesson.reason.clone(),
            told: trace.told,
            dropped: trace.dropped,
            seen: sightings(&trace),
            toml: toml::text(&unit.unit, &advice),
            advice,
        };
        Answered::of(200, &learned)
    }
}
