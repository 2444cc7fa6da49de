//! The publisher's side: a repository as plain files that any web server can serve.
//!
//! ```text
//! metadata/   N.root.json N.targets.json N.snapshot.json timestamp.json   signed (The Update Framework)
//! targets/    SHA256.NAME-VERSION-ARCH.index, .json, .spdx.json           signed for by their hashes
//!             SHA256.NAME-VERSION-ARCH.from-VERSION.delta                 likewise
//! packs/      NAME-VERSION-ARCH.pack                                      chunks, each known by its hash
//!             NAME-VERSION-ARCH.from-VERSION.pack                         a delta's frames
//!             channels.json is one of the targets; its custom data says how versions are given out
//! incoming/   what was added and not published yet; not for the server
//! ```

mod difference;
mod gc;
mod giving;
mod keys;
mod pack;
mod repository;

pub use difference::Difference;
pub use giving::{Expires, Offered, Status};
pub use keys::{Role, key_file};
pub use pack::{Image, Packed, pack_release};
pub use repository::{Added, Expiry, Published, Publisher, Threshold};

use crate::error::Error;

/// Runs tough's futures, which only read and write files.
fn block_on<T>(future: impl Future<Output = Result<T, tough::error::Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(Error::io("start", "a runtime"))?;
    runtime.block_on(future).map_err(|e| Error::Untrusted(e.to_string()))
}
