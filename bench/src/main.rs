//! `make bench`: our figures beside the peer's, from the same run on the same machine.
//!
//! `cairn-bench [build] [image] [boot] [first] [config] [panel] [upgrade] [supervisor]` runs the named parts, or all. Every figure is a whole process or a whole boot, measured
//! `BENCH_RUNS` times (3 unless set), ours and the peer's in turn; the median is printed with the least and the greatest. A peer that
//! cannot run here is named with the reason; its figure is never invented. The table is also written to `target/bench/report.md`.

mod boot;
mod build;
mod config;
mod figure;
mod first;
mod panel;
mod peer;
mod supervisor;
mod upgrade;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use figure::Row;

/// Measures one part; its files lie below this folder.
type Figures = fn(&Path) -> Result<Vec<Row>, Box<dyn Error>>;

/// The parts, in the order in which they are measured.
const PARTS: [(&str, Figures); 8] = [
    ("build", build::times),
    ("image", build::sizes),
    ("boot", boot::times),
    ("first", first::figures),
    ("config", config::figures),
    ("panel", panel::figures),
    ("upgrade", upgrade::figures),
    ("supervisor", supervisor::figures),
];

/// How often each figure is measured.
fn runs() -> usize {
    std::env::var("BENCH_RUNS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3)
        .max(1)
}

fn main() -> ExitCode {
    imagegen::tools::helper_if_asked();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = asked.iter().find(|asked| !PARTS.iter().any(|(part, _)| part == asked)) {
        let all = PARTS.map(|(part, _)| part).join(", ");
        return Err(format!("there is no part `{unknown}` (parts: {all})").into());
    }
    let wanted = |part: &str| asked.is_empty() || asked.iter().any(|a| a == part);
    let folder = qemu_tests::images::target().join("bench");
    std::fs::create_dir_all(&folder)?;
    let mut rows: Vec<Row> = Vec::new();
    let mut publish = |new: Vec<Row>| -> Result<(), Box<dyn Error>> {
        rows.extend(new);
        let text = figure::table(&rows);
        println!("{text}");
        std::fs::write(folder.join("report.md"), text)?;
        Ok(())
    };
    for (_, figures) in PARTS.iter().filter(|(part, _)| wanted(part)) {
        publish(figures(&folder)?)?;
    }
    println!("written to {}", folder.join("report.md").display());
    Ok(())
}
