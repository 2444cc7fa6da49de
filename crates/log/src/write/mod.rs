//! Writing: the store, a unit's folder in it, and what may be deleted again.

pub(crate) mod open_segment;
pub(crate) mod retention;
pub(crate) mod store;
pub(crate) mod unit;
