//! Dumps of what units keep, and the way back.
//!
//! | below `/data` | what it is |
//! | --- | --- |
//! | `dumps/UNIT/YYYYMMDDTHHMMSSZ` | a dump, by the time (UTC) at which it was begun |
//! | `dumps/UNIT/YYYYMMDDTHHMMSSZ.json` | its note: version of the state and of the appliance, size, SHA-256; it is there before the dump has its name |
//! | `dumps/UNIT/YYYYMMDDTHHMMSSZ.new` | a dump that is being made; removed by whoever comes next |
//! | `state/UNIT.restore` | the request for a restore, until it is done or given up |
//! | `state/UNIT.new` | the state that is made of a dump |
//! | `state/UNIT.before-restore` | the state of before, until the next dump is whole |

mod due;
mod restore;
mod room;
mod store;
mod tell;
mod work;

pub use due::{Facts, wait};
pub use restore::{BEFORE, Marker, Restores, Settled, TRIES};
pub use room::{Room, room, room_to_restore};
pub use store::{Dumps, Held, Note, is_name, name_of, time_of};
pub(crate) use work::Work;
