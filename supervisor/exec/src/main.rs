//! Applies one sandbox plan and executes its command, or executes a command in a sandbox that runs.
//!
//! cairn-init starts it with the plan or the entering (JSON, see `cairn_sandbox::Job`) on descriptor 3, a status socket on 4, and the
//! unit's sockets from 5 up; the messages on the status socket are `cairn_sandbox::Report`. With the argument `__sandbox`
//! it waits for the command instead of leaving it to its parent.

use cairn_sandbox::{Mode, helper_if_asked, helper_main};

fn main() {
    helper_if_asked();
    helper_main(Mode::Detach)
}
