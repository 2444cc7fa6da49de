//! Recovery: what the third boot entry runs when no version of the appliance can be started. It says why, on the console, and offers ways out.
//!
//! [`findings`] is what was found, [`plan`](mod@plan) what can be done about it, both plain values; [`machine`] looks and does;
//! [`menu`] is the console. Nothing is changed that was not shown as a plan and confirmed.

pub mod findings;
pub mod machine;
pub mod menu;
pub mod plan;
#[cfg(test)]
mod testing;
