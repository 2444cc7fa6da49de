//! The control API: its routes as one table, the types of its answers, and the OpenAPI document made from both.
//!
//! The manager answers by this table and `cairn` asks by it, so that neither can name what the other does not know.

mod accounts;
mod answers;
mod certificates;
mod dumps;
mod learned;
mod machine;
mod markdown;
mod network;
mod openapi;
mod parameters;
mod routes;
mod setup;
mod site;
mod upgrade;

pub use accounts::{Account, Accounts};
pub use answers::{
    Accepted, Boot, Change, Edge, EdgeKind, EventLine, Explained, Graph, Health, Node, Place, Pressure, Problem,
    Reloaded, RestartPlan, Status, Step, Top, UnitPhases, UnitStatus, Use,
};
pub use certificates::{Authority, Certificate, Certificates, ImportCertificate, Imported};
pub use dumps::{Dump, Dumps, RestoreEnd, UnitDumps};
pub use learned::{Advice, Direction, LearnState, Learned, Sighting, Sightings};
pub use machine::{Clock, DataEncryption, MachineState, RecoveryKey, Room};
pub use markdown::markdown;
pub use network::{
    NetworkAddress, NetworkChoice, NetworkChoices, NetworkDevice, NetworkLease, NetworkPending, NetworkRoute,
    NetworkState, OpenPort,
};
pub use openapi::openapi;
pub use parameters::Parameter;
pub use routes::{Endpoint, Method, ROUTES, Route, Scope, find};
pub use setup::{Administrator, FirstAccount, Machine, Part, Setup, SetupAnswers, SetupCode};
pub use site::{SettingState, SettingsWritten, SiteDiff, SiteHistory, SiteText, SiteVersion, SiteWritten};
pub use upgrade::{
    FailedVersion, Proving, UpgradeHistory, UpgradeHold, UpgradeLine, UpgradeOffer, UpgradePolicy, UpgradeTask,
    UpgradeVersion, UpgradeVersions, Upgrades,
};
