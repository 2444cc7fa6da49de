//! Reading: no lock, beside the writer, from any process that may open the files.

pub(crate) mod chunks;
pub(crate) mod follow;
pub(crate) mod query;
pub(crate) mod records;
pub(crate) mod unit;
