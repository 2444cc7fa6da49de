//! cairn-manager: started by cairn-init with its socket at descriptor 3.

use std::path::Path;
use std::process::ExitCode;

use cairn_manager::config::Config;

fn main() -> ExitCode {
    let socket = cairn_manager::manager_socket();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let config = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Config::appliance(),
        ["--prefix", folder] => Config::below(Path::new(folder)),
        _ => {
            eprintln!("cairn-manager is started by cairn-init, without arguments (for tests: --prefix FOLDER)");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build();
    let result = match runtime {
        Ok(runtime) => runtime
            .block_on(cairn_manager::run(config, socket))
            .map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("cairn-manager: {e}");
            ExitCode::FAILURE
        }
    }
}
