//! What lies on a disk of an appliance, as plain values: the partition table ([`gpt`]) and the hash tree over a
//! root file system ([`verity`]); bounds on what a folder of the data partition may hold ([`quota`]); and the firmware's variables ([`efivars`]).
//!
//! The build writes them, and the initrd stage of PID 1 reads, repairs and extends them. So nothing here panics on
//! any bytes that a disk may hold, nothing here decides policy, and every change of a disk is ordered so that a
//! power cut at any sector leaves the old state or the new one.

mod device;
pub mod efivars;
pub mod gpt;
mod guid;
pub mod quota;
pub mod verity;

pub use device::{BlockDevice, FileDevice, ReadAt, SectorSize, Window};
pub use guid::{Guid, GuidError};
