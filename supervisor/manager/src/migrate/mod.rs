//! A unit's state from one version to another.
//!
//! Steps run on a copy of the state. When all have succeeded and are on the disk, copy and state change places in one operation of the file
//! system: so whatever happens before leaves the state as it was, and what was there before is the snapshot, for the version of the appliance
//! that wrote it. Which folders there are says how far it got; there is no other journal:
//!
//! | below `/data/state` | what it is |
//! | --- | --- |
//! | `UNIT` | the state; `UNIT/.cairn` says which version it has |
//! | `UNIT.new` | a copy that steps work on; removed whenever one is begun anew |
//! | `UNIT.before` | the state of before, if its version is the lower one; else a copy that has not changed places, or was given up |
//! | `UNIT.gone` | what is being removed |
//! | `UNIT.tries` | how often steps were begun without an end that anybody saw |

mod back;
mod copy;
mod decide;
mod follow;
mod place;
mod record;

pub use back::{Back, Lowering, Means, means};
pub use copy::{Copied, copy};
pub use decide::{Decision, Found, NoWay, TRIES, Way, decide, way};
pub use place::{Cut, Next, States, settle};
pub use record::{Record, Tries};
