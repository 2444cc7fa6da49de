//! cairn-recovery. See the library.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cairn_recovery::machine::Machine;
use cairn_recovery::menu;

/// How long the appliance's disk is waited for before the first screen.
const DISK: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(250);

fn main() {
    let machine = match Machine::open() {
        Ok(machine) => machine,
        Err(why) => {
            eprintln!("cairn-recovery: {why}; write the image again");
            std::process::exit(1);
        }
    };
    let begun = Instant::now();
    while !machine.is_there() && begun.elapsed() < DISK {
        thread::sleep(LOOK);
    }
    let machine = Arc::new(Mutex::new(machine));
    let consoles: Vec<_> = consoles()
        .into_iter()
        .map(|name| {
            let machine = machine.clone();
            thread::spawn(move || serve(&machine, &name))
        })
        .collect();
    for console in consoles {
        let _ = console.join();
    }
}

/// The kernel's consoles: whoever sits at one of them is served.
fn consoles() -> Vec<String> {
    let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let names: Vec<String> = active.split_whitespace().map(str::to_owned).collect();
    match names.is_empty() {
        true => vec!["console".into()],
        false => names,
    }
}

fn serve(machine: &Mutex<Machine>, name: &str) {
    let path = Path::new("/dev").join(name);
    loop {
        let opened = File::open(&path).and_then(|from| Ok((from, File::options().write(true).open(&path)?)));
        if let Ok((from, to)) = opened {
            let _ = menu::run(machine, BufReader::new(from), to);
        }
        // A console that is gone may come again; an end of input (Ctrl-D) only begins anew.
        thread::sleep(Duration::from_secs(1));
    }
}
