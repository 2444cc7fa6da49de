//! The panel's program. It has no options: where it runs, its unit says everything.

use std::process::ExitCode;

use cairn_panel::{server, settings::Settings};

fn main() -> ExitCode {
    let run = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let settings = Settings::from_env()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Passwords and the store are worked on beside the loop; more at once would only wait for each other.
            .max_blocking_threads(4)
            .build()?;
        runtime.block_on(server::run(settings))?;
        Ok(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairn-panel: {error}");
            ExitCode::FAILURE
        }
    }
}
