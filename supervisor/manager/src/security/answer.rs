//! The supervisor's part: which processes are whose, and the answer.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use cairn_sandbox::{OnViolation, Plan};

use super::{Report, observe, report};
use crate::control::Answered;
use crate::error::Error;
use crate::plan::{Input, Role};
use crate::supervisor::Supervisor;

impl Supervisor {
    /// The report of one unit, or of all.
    pub(crate) fn security(&self, name: Option<&str>) -> Answered {
        let reports: Result<Vec<Report>, String> = match name {
            Some(name) if !self.live.contains_key(name) => {
                return Answered::error(404, &format!("there is no unit {name}"));
            }
            Some(name) => self.secured(name).map(|report| vec![report]),
            None => self.live.keys().map(|name| self.secured(name)).collect(),
        };
        match reports {
            Ok(reports) => Answered::json(200, &json!({ "units": reports })),
            Err(why) => Answered::error(500, &why),
        }
    }

    /// The sandbox of a unit's main process without what its files hold, which no secret has to be read for.
    pub(crate) fn bare_plan(&self, name: &str) -> Result<Plan, Error> {
        let missing = || Error::Missing {
            unit: name.to_owned(),
            what: "the unit".into(),
        };
        let unit = self.manifest.units.get(name).ok_or_else(missing)?;
        let none = BTreeMap::new();
        let input = Input {
            config: &self.config,
            manifest: &self.manifest,
            name,
            unit,
            secrets: &none,
            rendered: &none,
            resolv: None,
            optional: &[],
        };
        crate::plan::of(&input, Role::Main)
    }

    fn secured(&self, name: &str) -> Result<Report, String> {
        let unit = self.manifest.units.get(name).ok_or("the unit is gone")?;
        let mut plan = self.bare_plan(name).map_err(|error| error.to_string())?;
        let open = self.saved.units.get(name).is_some_and(|kept| kept.open);
        if let Some(seccomp) = plan.seccomp.as_mut().filter(|_| open) {
            seccomp.on_violation = OnViolation::UnsafeLearn;
        }
        let pid = |name: &str| self.saved.units.get(name).map(|kept| kept.pid).filter(|pid| *pid > 0);
        let others: Vec<i32> = self
            .live
            .keys()
            .filter(|other| *other != name)
            .filter_map(|other| pid(other))
            .collect();
        let protected = [plan.masked.as_slice(), &plan.read_only].concat();
        let stub = pid(name).filter(|_| plan.reaper);
        let seen = observe::unit(Path::new("/proc"), &self.config.cgroup(name), stub, &others, &protected);
        Ok(report::report(name, unit, &plan, &seen))
    }
}
