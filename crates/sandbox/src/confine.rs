//! What the command may do: ids, capabilities, Landlock.

use std::collections::HashSet;
use std::path::Path;

use caps::{CapSet, Capability};
use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::enter::{Access, Grant};
use crate::mounts::Mount;
use crate::plan::Plan;
use crate::report::Failure;

/// What the appliance's kernel, 6.12, has: files, devices, abstract sockets and signals.
const LANDLOCK: ABI = ABI::V6;

/// Landlock rules ready to be put in force, if the plan wants them.
pub(crate) type Rules = Option<RulesetCreated>;

/// Takes on ids inside. `groups` none leaves the supplementary groups, which single ids cannot change.
pub(crate) fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> Result<(), Failure> {
    let failed = |what: String| move |error| Failure::new("user", what, error);
    if let Some(groups) = groups {
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups).map_err(failed("groups".to_owned()))?;
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setresgid(gid, gid, gid).map_err(failed(format!("gid {gid}")))?;
    setresuid(uid, uid, uid).map_err(failed(format!("uid {uid}")))
}

/// Takes on the plan's user with the plan's capabilities.
pub(crate) fn become_plan_user(plan: &Plan) -> Result<(), Failure> {
    let bounding = parse(&plan.capabilities.bounding)?;
    let ambient = parse(&plan.capabilities.ambient)?;
    for capability in &bounding {
        if !caps::has_cap(None, CapSet::Bounding, *capability).map_err(failed("bounding"))? {
            let why = "this host does not have it to give";
            return Err(Failure::new("capabilities", capability.to_string(), why));
        }
    }
    // Also those that are not there: asking costs as much as dropping.
    for capability in caps::all().iter().filter(|capability| !bounding.contains(capability)) {
        caps::drop(None, CapSet::Bounding, *capability).map_err(failed("bounding"))?;
    }
    caps::clear(None, CapSet::Ambient).map_err(failed("ambient"))?;
    prctl::set_keepcaps(true).map_err(failed("keep"))?;
    let groups = (plan.ids != crate::Ids::Single).then_some(plan.user.groups.as_slice());
    become_user(plan.user.uid, plan.user.gid, groups)?;
    keep_only(&ambient)?;
    for capability in ambient {
        caps::raise(None, CapSet::Ambient, capability).map_err(failed("ambient"))?;
    }
    prctl::set_keepcaps(false).map_err(failed("keep"))
}

/// Drops every capability of this process but these.
pub(crate) fn keep_only(capabilities: &[Capability]) -> Result<(), Failure> {
    let set: HashSet<Capability> = capabilities.iter().copied().collect();
    // What can be inherited may not exceed what is permitted, so it is cut first; what is effective likewise.
    caps::set(None, CapSet::Inheritable, &set).map_err(failed("inheritable"))?;
    caps::set(None, CapSet::Effective, &set).map_err(failed("effective"))?;
    caps::set(None, CapSet::Permitted, &set).map_err(failed("permitted"))
}

fn parse(names: &[String]) -> Result<Vec<Capability>, Failure> {
    let parse = |name: &String| {
        name.parse()
            .map_err(|_| Failure::new("capabilities", name, "there is no capability of this name (CAP_...)"))
    };
    names.iter().map(parse).collect()
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Failure {
    move |error| Failure::new("capabilities", what, error)
}

/// Makes the Landlock rules of these grants; `scope` is what must stay in the domain besides.
pub(crate) fn rules(grants: &[Grant], scope: BitFlags<Scope>) -> Result<RulesetCreated, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(
            "landlock",
            "kernel",
            format!("{error}; it needs Linux 6.12 with landlock in its lsm list"),
        )
    };
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|rules| {
            if scope.is_empty() {
                Ok(rules)
            } else {
                rules.scope(scope)
            }
        })
        .and_then(Ruleset::create)
        .map_err(|error| failed(&error))?;
    for Grant { path, access } in grants {
        let failed = |error: &dyn std::fmt::Display| Failure::new("landlock", path, error);
        let folder = path.metadata().map_err(|error| failed(&error))?.is_dir();
        let access = if folder {
            rights(*access)
        } else {
            rights(*access) & AccessFs::from_file(LANDLOCK)
        };
        let place = PathFd::new(path).map_err(|error| failed(&error))?;
        ruleset = ruleset
            .add_rule(PathBeneath::new(place, access))
            .map_err(|error| failed(&error))?;
    }
    Ok(ruleset)
}

/// Everything that a scope can keep in the domain.
pub(crate) fn whole_scope() -> BitFlags<Scope> {
    Scope::from_all(LANDLOCK)
}

fn rights(access: Access) -> BitFlags<AccessFs> {
    let read = AccessFs::from_read(LANDLOCK);
    let write = AccessFs::WriteFile | AccessFs::Truncate;
    match access {
        Access::Read => read,
        Access::WriteFiles => read | write,
        Access::Devices => read | write | AccessFs::IoctlDev,
        Access::All => AccessFs::from_all(LANDLOCK),
    }
}

impl Plan {
    /// What Landlock lets the command reach: read and execute everywhere, and more where a mount is writable. None if the
    /// plan wants no Landlock.
    #[must_use]
    pub fn grants(&self) -> Option<Vec<Grant>> {
        let grant = |path: &Path, access| Grant {
            path: path.to_owned(),
            access,
        };
        let mut grants = vec![grant(Path::new("/"), Access::Read)];
        for mount in &self.mounts {
            match mount {
                Mount::Bind {
                    target,
                    read_only: false,
                    ..
                }
                | Mount::Tmpfs { target, .. } => grants.push(grant(target, Access::All)),
                Mount::Proc { target } => grants.push(grant(target, Access::WriteFiles)),
                Mount::Dev { target, shm_size, .. } => {
                    grants.push(grant(target, Access::Devices));
                    grants.extend(shm_size.map(|_| grant(&target.join("shm"), Access::All)));
                }
                _ => {}
            }
        }
        self.landlock.then_some(grants)
    }
}

/// Puts the rules in force.
pub(crate) fn restrict(rules: RulesetCreated, no_new_privs: bool) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new("landlock", Path::new("/"), error);
    let status = rules
        .no_new_privs(no_new_privs)
        .restrict_self()
        .map_err(|error| failed(&error))?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        other => Err(failed(&format!("{other:?}, though all of it is required"))),
    }
}
