//! cairn-init where it is PID 1, cairn-exec where it is not: the real ones, for tests that need the whole supervisor.

use cairn_sandbox::{Mode, helper_main};

fn main() {
    if std::process::id() == 1 {
        cairn_init::main()
    }
    helper_main(Mode::Detach)
}
