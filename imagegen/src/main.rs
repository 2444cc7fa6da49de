//! `imagegen`: turns a recipe into a verified, bootable image.

use std::process::ExitCode;

fn main() -> ExitCode {
    imagegen::commands::main()
}
