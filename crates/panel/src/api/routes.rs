//! The API's routes: how each is asked, the scope that a token needs, and who answers.

use crate::store::Scope;

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// The manager, at this path; a part in braces is taken from the request's.
    Manager(&'static str),
    /// The panel.
    Panel(Own),
}

/// What the panel answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    People,
    AddPerson,
    Import,
    Person,
    EditPerson,
    RemovePerson,
    Disable,
    Enable,
    Reset,
    TotpOff,
    PasskeysOff,
    Groups,
    AddGroup,
    Group,
    RemoveGroup,
    AddMember,
    DropMember,
    Diagnosis,
    LookUp,
    Logs,
    Support,
    Audit,
}

/// One route.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) to: To,
    /// The values of the query that the manager is told.
    pub(super) query: &'static [&'static str],
    /// Whether the manager is told the request's body.
    pub(super) body: bool,
    pub(super) scope: Scope,
    pub(super) summary: &'static str,
}

const fn manager(
    method: &'static str,
    path: &'static str,
    to: &'static str,
    scope: Scope,
    summary: &'static str,
) -> Route {
    Route {
        method,
        path,
        to: To::Manager(to),
        query: &[],
        body: false,
        scope,
        summary,
    }
}

/// People are nobody's business but the owner's.
const fn own(method: &'static str, path: &'static str, to: Own, summary: &'static str) -> Route {
    Route {
        method,
        path,
        to: To::Panel(to),
        query: &[],
        body: false,
        scope: Scope::Own,
        summary,
    }
}

use Scope::{Operate, Own as Owner, Read};

/// What is asked of logs; the manager knows more.
pub(super) const LOGS: &[&str] = &["unit", "since", "until", "grep", "priority", "lines"];

/// Every route.
#[rustfmt::skip]
pub(super) const ROUTES: &[Route] = &[
    manager("GET", "/api/v1/status", "/v1/status", Read, "The appliance and the state of its units."),
    manager("GET", "/api/v1/top", "/v1/top", Read, "What the units use."),
    manager("GET", "/api/v1/graph", "/v1/graph", Read, "The units and what is between them."),
    manager("GET", "/api/v1/boot", "/v1/boot", Read, "When each unit began and was ready at the last boot."),
    manager("GET", "/api/v1/network", "/v1/network", Read, "The outside network: as it is, as it was chosen, and a change that waits to be confirmed."),
    Route { query: &["within"], body: true, ..manager("POST", "/api/v1/network", "/v1/network", Owner, "Choose the outside network anew; the one of before comes back unless that is confirmed.") },
    manager("POST", "/api/v1/network/confirm", "/v1/network/confirm", Owner, "Keep a change of the network."),
    manager("POST", "/api/v1/network/undo", "/v1/network/undo", Owner, "Let the network of before come back now."),
    manager("GET", "/api/v1/certificates", "/v1/certificates", Read, "The certificates."),
    manager("GET", "/api/v1/security", "/v1/security", Read, "Every unit's sandbox."),
    manager("GET", "/api/v1/units/{unit}", "/v1/units/{unit}/explain", Read, "Why a unit is as it is."),
    manager("GET", "/api/v1/units/{unit}/security", "/v1/units/{unit}/security", Read, "A unit's sandbox."),
    manager("POST", "/api/v1/units/{unit}/start", "/v1/units/{unit}/start", Operate, "Start a unit."),
    manager("POST", "/api/v1/units/{unit}/stop", "/v1/units/{unit}/stop", Operate, "Stop a unit."),
    manager("POST", "/api/v1/units/{unit}/restart", "/v1/units/{unit}/restart", Operate, "Restart a unit."),
    manager("POST", "/api/v1/units/{unit}/reload", "/v1/units/{unit}/reload", Operate, "Let a unit read its configuration again."),
    manager("GET", "/api/v1/dumps", "/v1/dumps", Read, "The dumps of what units keep."),
    manager("GET", "/api/v1/units/{unit}/dumps", "/v1/units/{unit}/dumps", Read, "The dumps of what a unit keeps."),
    manager("POST", "/api/v1/units/{unit}/dumps", "/v1/units/{unit}/dumps", Operate, "Make a dump of what a unit keeps, while it runs."),
    Route { query: &["dump"], ..manager("POST", "/api/v1/units/{unit}/restore", "/v1/units/{unit}/restore", Owner, "Make what a unit keeps anew of a dump; what was written since is gone once the next dump is made.") },
    Route { body: true, ..manager("POST", "/api/v1/units/{unit}/settings", "/v1/units/{unit}/settings", Owner, "Choose what a unit offers as settings, and put it in force.") },
    manager("POST", "/api/v1/units/{unit}/enable", "/v1/units/{unit}/enable", Owner, "Let a unit start with the appliance, and now."),
    manager("POST", "/api/v1/units/{unit}/disable", "/v1/units/{unit}/disable", Owner, "Stop a unit and keep it from starting."),
    manager("GET", "/api/v1/machine", "/v1/machine", Read, "The machine: its memory, the room for data, and the clock."),
    manager("GET", "/api/v1/data/recovery-key", "/v1/data/recovery-key", Owner, "The recovery key of an encrypted data partition, until it is said to be saved."),
    manager("POST", "/api/v1/data/recovery-key/saved", "/v1/data/recovery-key/saved", Owner, "The recovery key is saved elsewhere: it goes from the appliance."),
    manager("GET", "/api/v1/site", "/v1/site", Owner, "The owner's choices as they are written."),
    Route { query: &["within"], body: true, ..manager("POST", "/api/v1/site", "/v1/site", Owner, "Write the owner's choices as a whole, as a new version, and put them in force. Mistakes change nothing and are told with their lines; another network has to be confirmed.") },
    manager("GET", "/api/v1/site/history", "/v1/site/history", Owner, "The versions of the owner's choices."),
    Route { query: &["from", "to"], ..manager("GET", "/api/v1/site/diff", "/v1/site/diff", Owner, "What differs between two versions of the owner's choices.") },
    Route { query: &["to"], ..manager("POST", "/api/v1/site/rollback", "/v1/site/rollback", Owner, "Put an earlier version of the owner's choices in force.") },
    manager("POST", "/api/v1/certificates/renew", "/v1/certificates/renew", Owner, "Renew the certificates that are due."),
    manager("GET", "/api/v1/upgrade", "/v1/upgrade", Read, "The versions that the appliance has, and what is being done about them."),
    manager("GET", "/api/v1/upgrade/history", "/v1/upgrade/history", Read, "What happened to versions, the newest first."),
    manager("POST", "/api/v1/upgrade/check", "/v1/upgrade/check", Owner, "Ask the repository for a new version; `/api/v1/upgrade` tells what it offers."),
    Route { query: &["now", "force"], ..manager("POST", "/api/v1/upgrade/install", "/v1/upgrade/install", Owner, "Bring the newest version into the free slot; `/api/v1/upgrade` tells how far that is. The next restart starts it.") },
    Route { query: &["until", "for", "reason"], ..manager("POST", "/api/v1/upgrade/hold", "/v1/upgrade/hold", Owner, "Install nothing by itself, and nothing at all that is not forced.") },
    manager("POST", "/api/v1/upgrade/unhold", "/v1/upgrade/unhold", Owner, "Take that back."),
    Route { query: &["lose-data"], ..manager("POST", "/api/v1/upgrade/rollback", "/v1/upgrade/rollback", Owner, "Let the next restart start the version of before.") },
    manager("POST", "/api/v1/power/reboot", "/v1/power/reboot", Owner, "Start the machine again."),
    manager("POST", "/api/v1/power/poweroff", "/v1/power/poweroff", Owner, "Switch the machine off."),
    Route { query: &["name"], ..manager("POST", "/api/v1/power/factory-reset", "/v1/power/factory-reset", Owner, "Remove all data and the owner's choices, and start again to be set up; `name` is the appliance's.") },
    Route { method: "GET", path: "/api/v1/diagnosis", to: To::Panel(Own::Diagnosis), query: &[], body: false, scope: Read, summary: "How the appliance is, what that means and what to do; the worst first." },
    Route { scope: Read, query: &["name"], ..own("GET", "/api/v1/dns", Own::LookUp, "To where the owner's domain leads, or a name in it, as the diagnosis looks it up.") },
    Route { scope: Operate, query: LOGS, ..own("GET", "/api/v1/logs", Own::Logs, "What units have written; the last 200 lines, or as many as `lines` says, up to 2000.") },
    Route { scope: Operate, ..own("GET", "/api/v1/support", Own::Support, "The file for somebody who helps (tar, gzip): state, diagnosis and the ends of the logs, without secrets.") },
    own("GET", "/api/v1/audit", Own::Audit, "What was asked for, the newest first."),
    own("GET", "/api/v1/people", Own::People, "People; with `search` those of whom the login, the name or an address has this text."),
    own("POST", "/api/v1/people", Own::AddPerson, "Make a person, without a password."),
    own("POST", "/api/v1/people/import", Own::Import, "Make everybody who stands in a table (CSV, up to 4 MiB and 10,000 rows), or nobody."),
    own("GET", "/api/v1/people/{uid}", Own::Person, "A person."),
    own("PUT", "/api/v1/people/{uid}", Own::EditPerson, "Write what is known of a person."),
    own("DELETE", "/api/v1/people/{uid}", Own::RemovePerson, "Remove a person, from the groups too."),
    own("POST", "/api/v1/people/{uid}/disable", Own::Disable, "Close a person's account, and end the sessions."),
    own("POST", "/api/v1/people/{uid}/enable", Own::Enable, "Open a person's account again."),
    own("POST", "/api/v1/people/{uid}/reset", Own::Reset, "Make a code by which the person sets a password at `/reset`, once and within a day."),
    own("POST", "/api/v1/people/{uid}/totp-off", Own::TotpOff, "End a person's authenticator."),
    own("POST", "/api/v1/people/{uid}/passkeys-off", Own::PasskeysOff, "Remove a person's passkeys."),
    own("GET", "/api/v1/groups", Own::Groups, "The groups with their members."),
    own("POST", "/api/v1/groups", Own::AddGroup, "Make a group."),
    own("GET", "/api/v1/groups/{group}", Own::Group, "A group."),
    own("DELETE", "/api/v1/groups/{group}", Own::RemoveGroup, "Remove a group."),
    own("PUT", "/api/v1/groups/{group}/members/{uid}", Own::AddMember, "Have a person in a group."),
    own("DELETE", "/api/v1/groups/{group}/members/{uid}", Own::DropMember, "Have a person in a group no more."),
];
