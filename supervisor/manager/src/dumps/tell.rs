//! What is told of dumps.

use cairn_api::{Dump, RestoreEnd, UnitDumps};

use super::restore::{Restores, fits};
use super::store::{Dumps, Held, time_of};
use crate::clock::{now_ms, seconds};
use crate::control::Answered;
use crate::supervisor::Supervisor;

/// A unit that is dumped every night and was not for so long is told of, in seconds.
const OVERDUE: u64 = 2 * 24 * 3600;

impl Supervisor {
    fn unit_dumps(&self, name: &str) -> Option<UnitDumps> {
        let unit = self.manifest.units.get(name)?;
        let dump = unit.unit.dump.as_ref()?;
        let kept = self.saved.units.get(name)?;
        let told = |held: Held| {
            let at = time_of(&held.name).unwrap_or(0);
            let (bytes, appliance, refused) = match held.note {
                Ok(note) => {
                    let refused = fits(&note.version, &unit.state_version).err().unwrap_or_default();
                    (note.bytes, note.appliance, refused)
                }
                Err(why) => (0, String::new(), why),
            };
            Dump {
                name: held.name,
                at,
                bytes,
                appliance,
                refused,
            }
        };
        let restores = Restores::of(&self.config, name);
        // Before the first one it counts from the appliance's start.
        let silent = match self.newest_dump(name) {
            Some(newest) => seconds().saturating_sub(newest),
            None => now_ms().saturating_sub(self.saved.begun_ms) / 1000,
        };
        Some(UnitDumps {
            unit: name.to_owned(),
            daily: dump.daily,
            keep: dump.keep,
            dumps: Dumps::of(&self.config, name)
                .list()
                .into_iter()
                .rev()
                .map(told)
                .collect(),
            under_way: self.dumps_now(name),
            next_ms: self.dump_wait(name),
            failed: self.dump_failure(name).to_owned(),
            overdue: dump.daily && self.site.enabled(name) && silent >= OVERDUE,
            restoring: restores.marker().ok().flatten().map(|marker| marker.dump),
            restored: kept.restored.as_ref().map(|(at, ended)| RestoreEnd {
                at: *at,
                dump: ended.clone().unwrap_or_default(),
                why: ended.clone().err().unwrap_or_default(),
            }),
            before: restores.before().exists(),
        })
    }

    pub(crate) fn dumps_of(&self, name: &str) -> Answered {
        match self.unit_dumps(name) {
            Some(dumps) => Answered::of(200, &dumps),
            None => Answered::error(404, &format!("{name} is not dumped: its file has no [dump]")),
        }
    }

    pub(crate) fn all_dumps(&self) -> Answered {
        let units = self
            .manifest
            .units
            .keys()
            .filter_map(|name| self.unit_dumps(name.as_str()));
        Answered::of(200, &cairn_api::Dumps { units: units.collect() })
    }
}
