//! The table of routes.

use schemars::{Schema, SchemaGenerator};

use crate::accounts::Accounts;
use crate::answers::{Accepted, Boot, EventLine, Explained, Graph, Reloaded, Status, Top};
use crate::certificates::{Certificates, ImportCertificate, Imported};
use crate::dumps::{Dumps, UnitDumps};
use crate::learned::Learned;
use crate::machine::{MachineState, RecoveryKey};
use crate::network::{NetworkChoices, NetworkState};
use crate::parameters::{self, Parameter};
use crate::setup::{FirstAccount, Setup, SetupAnswers, SetupCode};
use crate::site::{SettingsWritten, SiteDiff, SiteHistory, SiteText, SiteWritten};
use crate::upgrade::{UpgradeHistory, Upgrades};

/// How a route is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Changes nothing.
    Get,
    /// Changes something.
    Post,
}

/// What a caller may ask. Each holds all that stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// What anybody on the appliance may know.
    Observe,
    /// Running it: starting and stopping units, reading logs, handing over certificates.
    Operate,
    /// The owner's choices, certificates, and the machine's power.
    Own,
    /// What reaches past the sandboxes; root alone.
    Root,
}

impl Scope {
    /// Who has it, as a text says it.
    pub fn who(self) -> &'static str {
        match self {
            Scope::Observe => "anybody",
            Scope::Operate => "root, a unit with `operate` or `own`",
            Scope::Own => "root, a unit with `own`",
            Scope::Root => "root",
        }
    }
}

impl Method {
    /// The word of HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is described in its route")]
pub enum Endpoint {
    OpenApi,
    Status,
    Boot,
    Top,
    Graph,
    Events,
    Explain,
    Logs,
    Security,
    SecurityOfUnit,
    EnterJob,
    Learned,
    Learn,
    Start,
    Stop,
    Restart,
    ReloadUnit,
    Kill,
    /// The dumps of all units.
    Dumps,
    /// Those of one.
    DumpsOfUnit,
    Dump,
    /// What a dump holds.
    ReadDump,
    Restore,
    WriteSettings,
    Enable,
    Disable,
    Reload,
    Machine,
    RecoveryKey,
    RecoveryKeySaved,
    Site,
    WriteSite,
    SiteHistory,
    SiteDiff,
    SiteRollback,
    Network,
    ChangeNetwork,
    ConfirmNetwork,
    UndoNetwork,
    Accounts,
    Rotate,
    Purge,
    Setup,
    SetupCode,
    SetupApply,
    /// The owner's account from first choices.
    Administrator,
    /// It was taken.
    AdministratorTaken,
    Certificates,
    RenewCertificates,
    ImportCertificate,
    RemoveCertificate,
    ReplaceAuthority,
    Upgrade,
    Upgrades,
    UpgradeHistory,
    CheckUpgrade,
    InstallUpgrade,
    HoldUpgrade,
    UnholdUpgrade,
    RollBackUpgrade,
    PowerOff,
    Reboot,
    FactoryReset,
}

/// One route.
#[derive(Clone, Copy)]
pub struct Route {
    /// What is asked for.
    pub endpoint: Endpoint,
    /// How.
    pub method: Method,
    /// Where; a part in braces stands for a value.
    pub path: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The values of its query.
    pub query: &'static [Parameter],
    /// What a caller needs.
    pub scope: Scope,
    /// The request's body, in JSON; `None` if it has none.
    pub body: Option<fn(&mut SchemaGenerator) -> Schema>,
    /// The answer's type; `None` for text or a stream of lines.
    pub answer: Option<fn(&mut SchemaGenerator) -> Schema>,
    /// The answer's media type.
    pub media: &'static str,
}

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

const fn get(
    endpoint: Endpoint,
    path: &'static str,
    summary: &'static str,
    answer: Option<fn(&mut SchemaGenerator) -> Schema>,
) -> Route {
    Route {
        endpoint,
        method: Method::Get,
        path,
        summary,
        query: &[],
        scope: Scope::Observe,
        body: None,
        answer,
        media: JSON,
    }
}

const fn post(
    endpoint: Endpoint,
    path: &'static str,
    summary: &'static str,
    answer: fn(&mut SchemaGenerator) -> Schema,
) -> Route {
    Route {
        endpoint,
        method: Method::Post,
        path,
        summary,
        query: &[],
        scope: Scope::Operate,
        body: None,
        answer: Some(answer),
        media: JSON,
    }
}

fn of<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Every route. `{unit}` is a unit's name.
pub const ROUTES: &[Route] = &[
    get(
        Endpoint::OpenApi,
        "/v1/openapi.json",
        "This description of the API.",
        None,
    ),
    get(
        Endpoint::Status,
        "/v1/status",
        "The appliance and the state of its units.",
        Some(of::<Status>),
    ),
    get(
        Endpoint::Boot,
        "/v1/boot",
        "When each step of the boot and each unit's states began.",
        Some(of::<Boot>),
    ),
    get(
        Endpoint::Top,
        "/v1/top",
        "What the units use, and how much they wait.",
        Some(of::<Top>),
    ),
    get(
        Endpoint::Graph,
        "/v1/graph",
        "The units and what is between them.",
        Some(of::<Graph>),
    ),
    Route {
        media: LINES,
        ..get(
            Endpoint::Events,
            "/v1/events",
            "A line for each change of a unit's state, as it happens.",
            Some(of::<EventLine>),
        )
    },
    get(
        Endpoint::Explain,
        "/v1/units/{unit}/explain",
        "Why a unit is as it is, and what will happen to it.",
        Some(of::<Explained>),
    ),
    Route {
        query: parameters::LOGS,
        scope: Scope::Operate,
        media: "text/plain",
        ..get(Endpoint::Logs, "/v1/logs", "What units have written.", None)
    },
    get(
        Endpoint::Security,
        "/v1/security",
        "What is declared of every unit's sandbox, beside what is in force.",
        None,
    ),
    get(
        Endpoint::SecurityOfUnit,
        "/v1/units/{unit}/security",
        "What is declared of a unit's sandbox, beside what is in force.",
        None,
    ),
    Route {
        scope: Scope::Root,
        ..get(
            Endpoint::EnterJob,
            "/v1/units/{unit}/enter",
            "What cairn-exec has to be told to start a command in the unit's sandbox.",
            None,
        )
    },
    Route {
        scope: Scope::Root,
        ..get(
            Endpoint::Learned,
            "/v1/units/{unit}/learned",
            "What a unit that is or was learned from did, and what its file should say.",
            Some(of::<Learned>),
        )
    },
    Route {
        query: &[Parameter {
            name: "for",
            meaning: "How long, like `60s` or `10m`, at most `1d`; `60s` if left out. `0s` ends it.",
        }],
        scope: Scope::Root,
        ..post(
            Endpoint::Learn,
            "/v1/units/{unit}/learn",
            "Start a unit again with its system calls recorded instead of refused, and again as it was when the time is over.",
            of::<Accepted>,
        )
    },
    post(
        Endpoint::Start,
        "/v1/units/{unit}/start",
        "Start a unit and what it needs.",
        of::<Accepted>,
    ),
    post(
        Endpoint::Stop,
        "/v1/units/{unit}/stop",
        "Stop a unit and what needs it.",
        of::<Accepted>,
    ),
    post(
        Endpoint::Restart,
        "/v1/units/{unit}/restart",
        "Stop a unit and start it again.",
        of::<Accepted>,
    ),
    post(
        Endpoint::ReloadUnit,
        "/v1/units/{unit}/reload",
        "Let a running unit read its configuration again.",
        of::<Accepted>,
    ),
    Route {
        query: &[Parameter {
            name: "signal",
            meaning: "Its name without `SIG`; `TERM` if left out.",
        }],
        ..post(
            Endpoint::Kill,
            "/v1/units/{unit}/kill",
            "Send a signal to a unit's main process.",
            of::<Accepted>,
        )
    },
    get(
        Endpoint::Dumps,
        "/v1/dumps",
        "The dumps of what units keep.",
        Some(of::<Dumps>),
    ),
    get(
        Endpoint::DumpsOfUnit,
        "/v1/units/{unit}/dumps",
        "The dumps of what a unit keeps.",
        Some(of::<UnitDumps>),
    ),
    post(
        Endpoint::Dump,
        "/v1/units/{unit}/dumps",
        "Make a dump of what a unit keeps, while it runs. It is there once the list of its dumps has it.",
        of::<Accepted>,
    ),
    Route {
        scope: Scope::Own,
        media: "application/octet-stream",
        ..get(
            Endpoint::ReadDump,
            "/v1/units/{unit}/dumps/{dump}",
            "A dump as a whole, as the unit's program wrote it.",
            None,
        )
    },
    Route {
        query: parameters::RESTORE,
        scope: Scope::Own,
        ..post(
            Endpoint::Restore,
            "/v1/units/{unit}/restore",
            "Stop a unit, make what it keeps anew of a dump, and start it. What was written since is gone once the next dump is made. If the \
             restore fails, all stays as it was.",
            of::<Accepted>,
        )
    },
    Route {
        scope: Scope::Own,
        body: Some(of::<SettingsWritten>),
        ..post(
            Endpoint::WriteSettings,
            "/v1/units/{unit}/settings",
            "Choose what a unit offers as settings, and put it in force. If something is wrong with one, none changes.",
            of::<Reloaded>,
        )
    },
    Route {
        scope: Scope::Own,
        ..post(
            Endpoint::Enable,
            "/v1/units/{unit}/enable",
            "Let a unit start with the appliance, and now.",
            of::<Reloaded>,
        )
    },
    Route {
        scope: Scope::Own,
        ..post(
            Endpoint::Disable,
            "/v1/units/{unit}/disable",
            "Stop a unit and keep it from starting.",
            of::<Reloaded>,
        )
    },
    Route {
        scope: Scope::Own,
        ..post(
            Endpoint::Reload,
            "/v1/reload",
            "Put the owner's choices in force; only what differs is touched.",
            of::<Reloaded>,
        )
    },
    get(
        Endpoint::Machine,
        "/v1/machine",
        "The machine: its memory, the room for data, and the clock.",
        Some(of::<MachineState>),
    ),
    Route {
        scope: Scope::Own,
        ..get(
            Endpoint::RecoveryKey,
            "/v1/data/recovery-key",
            "The recovery key of an encrypted data partition, until it is said to be saved.",
            Some(of::<RecoveryKey>),
        )
    },
    Route {
        scope: Scope::Own,
        ..post(
            Endpoint::RecoveryKeySaved,
            "/v1/data/recovery-key/saved",
            "The recovery key is saved elsewhere: it goes from the appliance.",
            of::<Accepted>,
        )
    },
    Route {
        scope: Scope::Operate,
        ..get(
            Endpoint::Site,
            "/v1/site",
            "The owner's choices as they are written (site.toml).",
            Some(of::<SiteText>),
        )
    },
    Route {
        query: parameters::CONFIRM,
        scope: Scope::Own,
        body: Some(of::<SiteWritten>),
        ..post(
            Endpoint::WriteSite,
            "/v1/site",
            "Write the owner's choices as a whole, as a new version, and put them in force. If something is wrong with them, nothing changes, \
             and each mistake is told with its line. Another network has to be confirmed.",
            of::<Reloaded>,
        )
    },
    Route {
        scope: Scope::Operate,
        ..get(
            Endpoint::SiteHistory,
            "/v1/site/history",
            "The versions of the owner's choices, the newest first.",
            Some(of::<SiteHistory>),
        )
    },
    Route {
        scope: Scope::Operate,
        query: parameters::DIFF,
        ..get(
            Endpoint::SiteDiff,
            "/v1/site/diff",
            "What differs between two versions of the owner's choices.",
            Some(of::<SiteDiff>),
        )
    },
    Route {
        query: parameters::ROLLBACK,
        scope: Scope::Own,
        ..post(
            Endpoint::SiteRollback,
            "/v1/site/rollback",
            "Put an earlier version of the owner's choices in force, as a new version.",
            of::<Reloaded>,
        )
    },
    get(
        Endpoint::Network,
        "/v1/network",
        "The outside network: as it is, as it was chosen, and a change that waits to be confirmed.",
        Some(of::<NetworkState>),
    ),
    Route {
        query: parameters::CONFIRM,
        scope: Scope::Own,
        body: Some(of::<NetworkChoices>),
        ..post(
            Endpoint::ChangeNetwork,
            "/v1/network",
            "Choose the outside network anew. It changes two seconds later, and the one of before comes back unless the change is confirmed.",
            of::<Reloaded>,
        )
    },
    Route {
        scope: Scope::Own,
        ..post(
            Endpoint::ConfirmNetwork,
            "/v1/network/confirm",
            "Keep a change of the network.",
            of::<Accepted>,
        )
    },
    Route {
        scope: Scope::Own,
        ..post(
            Endpoint::UndoNetwork,
            "/v1/network/undo",
            "Let the network of before come back now.",
            of::<Reloaded>,
        )
    },
    get(
        Endpoint::Setup,
        "/v1/setup",
        "Whether the appliance is set up, what it can run, and on what machine.",
        Some(of::<Setup>),
    ),
    Route {
        scope: Scope::Own,
        body: Some(of::<SetupCode>),
        ..post(
            Endpoint::SetupCode,
            "/v1/setup/code",
            "Tell the code that the console shows. Wrong ones make everybody wait.",
            of::<Accepted>,
        )
    },
    Route {
        scope: Scope::Own,
        ..get(
            Endpoint::Administrator,
            "/v1/setup/administrator",
            "The owner's account from first choices that came without a person, until it is taken.",
            Some(of::<FirstAccount>),
        )
    },
    Route {
        scope: Scope::Own,
        ..post(
            Endpoint::AdministratorTaken,
            "/v1/setup/administrator/taken",
            "Say that the account was made; it is forgotten then.",
            of::<Accepted>,
        )
    },
    Route {
        scope: Scope::Own,
        body: Some(of::<SetupAnswers>),
        ..post(
            Endpoint::SetupApply,
            "/v1/setup/apply",
            "Set the appliance up: its first choices are written, and what was chosen starts.",
            of::<Reloaded>,
        )
    },
    Route {
        scope: Scope::Operate,
        ..get(
            Endpoint::Accounts,
            "/v1/accounts",
            "The accounts that units have at others by their bindings.",
            Some(of::<Accounts>),
        )
    },
    Route {
        scope: Scope::Own,
        query: &[Parameter {
            name: "unit",
            meaning: "The unit whose accounts get other passwords; left out: every unit.",
        }],
        ..post(
            Endpoint::Rotate,
            "/v1/accounts/rotate",
            "Change the passwords of accounts while the units run; the old ones are good until their units use the new ones.",
            of::<Accepted>,
        )
    },
    Route {
        scope: Scope::Own,
        query: &[Parameter {
            name: "unit",
            meaning: "A unit that has accounts which no binding needs any more.",
        }],
        ..post(
            Endpoint::Purge,
            "/v1/accounts/purge",
            "Remove what the accounts own that a unit had and that no binding needs any more. This cannot be undone.",
            of::<Accepted>,
        )
    },
    get(
        Endpoint::Certificates,
        "/v1/certificates",
        "The certificate authority and the units' certificates.",
        Some(of::<Certificates>),
    ),
    post(
        Endpoint::RenewCertificates,
        "/v1/certificates/renew",
        "Look at the certificates now instead of within ten minutes, and renew those that are due.",
        of::<Accepted>,
    ),
    // A unit that gets certificates hands them over by this, and need not own the appliance for it.
    Route {
        body: Some(of::<ImportCertificate>),
        ..post(
            Endpoint::ImportCertificate,
            "/v1/certificates/imported",
            "Take a certificate with its key, in place of one for the same names. Units that are reached by one of its names show it.",
            of::<Imported>,
        )
    },
    Route {
        query: &[Parameter {
            name: "id",
            meaning: "What it is called in the list.",
        }],
        scope: Scope::Own,
        ..post(
            Endpoint::RemoveCertificate,
            "/v1/certificates/imported/remove",
            "Remove an imported certificate with its key. Units that showed it show the authority's again.",
            of::<Accepted>,
        )
    },
    Route {
        scope: Scope::Own,
        ..post(
            Endpoint::ReplaceAuthority,
            "/v1/certificates/replace-authority",
            "Make another certificate authority, and every certificate anew. Whoever trusts the old one has to be told the new one.",
            of::<Accepted>,
        )
    },
    Route {
        query: &[Parameter {
            name: "file",
            meaning: "The new manager's program, by its absolute path on the appliance.",
        }],
        scope: Scope::Root,
        ..post(
            Endpoint::Upgrade,
            "/v1/manager/upgrade",
            "Put another manager in this one's place; no unit notices, and one that does not come up is given up.",
            of::<Accepted>,
        )
    },
    get(
        Endpoint::Upgrades,
        "/v1/upgrade",
        "The versions that the appliance has, and what is being done about them.",
        Some(of::<Upgrades>),
    ),
    get(
        Endpoint::UpgradeHistory,
        "/v1/upgrade/history",
        "What happened to versions, the newest first.",
        Some(of::<UpgradeHistory>),
    ),
    Route {
        query: parameters::FROM,
        scope: Scope::Own,
        ..post(
            Endpoint::CheckUpgrade,
            "/v1/upgrade/check",
            "Ask what the repository offers; `/v1/upgrade` tells when that is known.",
            of::<Accepted>,
        )
    },
    Route {
        query: parameters::INSTALL,
        scope: Scope::Own,
        ..post(
            Endpoint::InstallUpgrade,
            "/v1/upgrade/install",
            "Bring the newest version into the free slot; `/v1/upgrade` tells how far that is. It starts with the next restart.",
            of::<Accepted>,
        )
    },
    Route {
        query: parameters::HOLD,
        scope: Scope::Own,
        ..post(
            Endpoint::HoldUpgrade,
            "/v1/upgrade/hold",
            "Install nothing by itself, and nothing at all that is not forced; written into the owner's choices.",
            of::<Reloaded>,
        )
    },
    Route {
        scope: Scope::Own,
        ..post(
            Endpoint::UnholdUpgrade,
            "/v1/upgrade/unhold",
            "Take that back.",
            of::<Reloaded>,
        )
    },
    Route {
        query: parameters::LOSE_DATA,
        scope: Scope::Own,
        ..post(
            Endpoint::RollBackUpgrade,
            "/v1/upgrade/rollback",
            "Let the next restart start the version of before, which the other slot holds. Refused if it cannot read the data of a unit. Where \
             units bring their data back, that is done first, and then the appliance restarts.",
            of::<Accepted>,
        )
    },
    Route {
        scope: Scope::Own,
        ..post(
            Endpoint::PowerOff,
            "/v1/power/poweroff",
            "Stop all units and switch the machine off.",
            of::<Accepted>,
        )
    },
    Route {
        scope: Scope::Own,
        ..post(
            Endpoint::Reboot,
            "/v1/power/reboot",
            "Stop all units and start the machine again.",
            of::<Accepted>,
        )
    },
    Route {
        query: parameters::FACTORY_RESET,
        scope: Scope::Own,
        ..post(
            Endpoint::FactoryReset,
            "/v1/power/factory-reset",
            "Remove all data of all units and the owner's choices, and start again to be set up. The installed version stays.",
            of::<Accepted>,
        )
    },
];

/// The route of a request, and the values of its path's parts in braces; `None` if there is none at that path. A path that is
/// there for another method gives that route.
pub fn find<'a>(method: &str, path: &'a str) -> Option<(&'static Route, Vec<&'a str>)> {
    let parts: Vec<&str> = path.split('/').collect();
    let values = |route: &Route| {
        let own: Vec<&str> = route.path.split('/').collect();
        let fits = own.len() == parts.len()
            && own
                .iter()
                .zip(&parts)
                .all(|(own, part)| own == part || (own.starts_with('{') && !part.is_empty()));
        fits.then(|| {
            own.iter()
                .zip(&parts)
                .filter(|(own, _)| own.starts_with('{'))
                .map(|(_, part)| *part)
                .collect::<Vec<&str>>()
        })
    };
    let mut at_path: Vec<_> = ROUTES
        .iter()
        .filter_map(|route| Some((route, values(route)?)))
        .collect();
    let by_method = at_path.iter().position(|(route, _)| route.method.as_str() == method);
    (!at_path.is_empty()).then(|| at_path.swap_remove(by_method.unwrap_or(0)))
}
