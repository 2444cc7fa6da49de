//! What the supervisor costs: a sandbox's start beside bubblewrap's in the same machine; restarts, stops, memory and reloads beside
//! systemd's, in machines with the same QEMU flags and the same program as a service.

mod guest;
mod units;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cairn_unit::Arch;
use imagegen::machine::Boot;
use serde_json::Value;

use crate::figure::{Goal, Row, Samples, Unit};
use crate::peer::Peers;
use guest::{Guest, System};
use units::{ALL, CRASHES, Crash, SOME, idle};

const PROBE: &str = "/usr/bin/cairn-probe";
/// How often sandboxes are started, each kind; a unit is killed; choices are put in force.
const SPAWNS: usize = 60;
const KILLS: usize = 7;
const RELOADS: usize = 15;
/// How long nobody may have waited for a processor (but for 20 ms) where nothing is under way.
const QUIET: Duration = Duration::from_secs(2);
const SITE: &str = "/data/site/site.toml";
const POWER_OFF: [&str; 2] = ["/usr/bin/cairn", "poweroff"];

/// What is told of either system.
#[derive(Default)]
struct Told {
    crashes: Vec<Vec<f64>>,
    stop: f64,
    /// PID 1, and what stands beside it.
    memory: [f64; 2],
    /// As the client sees it, and as the manager does.
    reload: [Vec<f64>; 2],
}

/// The figures, in our machine and in the peer's.
pub(crate) fn figures(folder: &Path) -> Result<Vec<Row>, Box<dyn Error>> {
    let bed = folder.join("supervisor");
    fs::create_dir_all(&bed)?;
    let programs = programs()?;
    let probe = probe(&bed)?;
    let scratch = tempfile::tempdir_in(&bed)?;
    let (ours, spawns) = ours(&bed, scratch.path(), &programs, &probe)?;
    // Our figures stand even where the peer cannot be measured.
    let theirs = debian(folder, &programs, &probe)
        .and_then(|system| theirs(&system, scratch.path()).map_err(|error| error.to_string()))
        .map_err(|why| format!("Debian: {why}"));
    let mut rows = spawns;
    rows.extend(beside(&ours, &theirs));
    Ok(rows)
}

/// The folder with our programs and the test agent: `BENCH_BINARIES`, or what the ordinary test image's build makes.
fn programs() -> Result<PathBuf, Box<dyn Error>> {
    if let Some(folder) = std::env::var_os("BENCH_BINARIES") {
        return Ok(folder.into());
    }
    qemu_tests::images::base()?;
    let target = qemu_tests::images::target().join("appliance");
    Ok(target.join(Arch::Amd64.rust_target()).join("appliance"))
}

/// The program for the inside, static, so that one file serves both systems.
fn probe(bed: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let target = Arch::Amd64.rust_target();
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "build",
            "--release",
            "--quiet",
            "--locked",
            "-p",
            "cairn-bench-probe",
            "--target",
            target,
        ])
        .arg("--target-dir")
        .arg(bed.join("probe"))
        .current_dir(qemu_tests::images::workspace())
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()?;
    if !status.success() {
        return Err(format!("cargo build of the probe: {status}").into());
    }
    Ok(bed.join("probe").join(target).join("release/cairn-probe"))
}

fn ours(bed: &Path, scratch: &Path, programs: &Path, probe: &Path) -> Result<(Told, Vec<Row>), Box<dyn Error>> {
    let system = build(bed, scratch, programs, probe)?;
    let mut told = Told::default();
    // The first boot sets the machine up, and runs every unit.
    let mut guest = Guest::start(&system, scratch)?;
    settle(&mut guest)?;
    // The first choice makes the folder.
    guest.run(&["/usr/bin/cairn", "enable", &idle(0)])?;
    for turn in 0..RELOADS {
        let weight = if turn % 2 == 0 { 200 } else { 100 };
        guest.write(SITE, &units::site(ALL, weight))?;
        let took: Value = serde_json::from_str(&guest.run(&[PROBE, "time", "/usr/bin/cairn", "--json", "reload"])?)?;
        let answer: Value = serde_json::from_str(took["said"].as_str().unwrap_or_default())?;
        if answer["changes"].as_array().map(Vec::len) != Some(1) {
            return Err(format!("a reload changed something else: {answer}").into());
        }
        told.reload[0].push(took["took"].as_f64().ok_or("no time")? / 1e9);
        told.reload[1].push(answer["took_us"].as_f64().ok_or("no time")? / 1e6);
    }
    guest.write(SITE, &units::site(SOME, 100))?;
    guest.run(&["/usr/bin/cairn", "reload"])?;
    settle(&mut guest)?;
    guest.off(&POWER_OFF)?;
    // The second runs a part of them.
    let mut guest = Guest::start(&system, scratch)?;
    settle(&mut guest)?;
    let manager = guest.find("cairn-manager")?;
    told.memory = [guest.resident("1")?, guest.resident(&manager)?];
    let spawns = spawns(&guest.run(&[PROBE, "spawn", &format!("/services/{}", idle(0)), &SPAWNS.to_string()])?)?;
    for crash in CRASHES {
        let group = format!("/sys/fs/cgroup/cairn/units/{}", crash.name);
        // What the manager says of the unit stands in its log, too.
        let log = ["/usr/bin/cairn", "logs", crash.name, "-n", "1", "--grep", "began "];
        told.crashes.push(kill(&mut guest, &group, &log)?);
    }
    guest.write(SITE, &units::site(0, 100))?;
    let took: f64 = guest.run(&[PROBE, "stop", &SOME.to_string()])?.trim().parse()?;
    told.stop = took / 1e9;
    guest.off(&POWER_OFF)?;
    Ok((told, spawns))
}

fn build(bed: &Path, scratch: &Path, programs: &Path, probe: &Path) -> Result<System, Box<dyn Error>> {
    let project = bed.join("project");
    // A lock of other units is no lock of these.
    if project.exists() {
        fs::remove_dir_all(&project)?;
    }
    units::project(&project, probe)?;
    let host = qemu_tests::images::workspace().join("overlays/host");
    crate::build::copy(&host, &project.join("overlays/host"))?;
    let recipe = project.join("appliances/bench-units.toml");
    let report = crate::build::imagegen(&recipe, &bed.join("out"), None, Some(programs), &["--profile", "fast"])?;
    let image = PathBuf::from(
        report["build"]["images"][0]
            .as_str()
            .ok_or("imagegen did not name the image")?,
    );
    let disk = scratch.join("cairn.raw");
    qemu_tests::disk::copy_grown(&image, &disk, 4 << 30)?;
    Ok(System {
        name: "cairn",
        boot: Boot::Direct {
            kernel: image.with_extension("vmlinuz"),
            initrd: image.with_extension("initrd"),
            command_line: fs::read_to_string(image.with_extension("cmdline"))?.trim().to_owned(),
        },
        disk,
    })
}

/// Waits until every unit that is to run does, and the others do not.
fn settle(guest: &mut Guest) -> Result<(), Box<dyn Error>> {
    guest.wait("every unit's start", |guest| {
        guest.try_run(&["/usr/bin/cairn", "status"])
    })?;
    guest.wait("rest", quiet)
}

/// Nothing is under way any more when nothing waits for a processor.
fn quiet(guest: &mut Guest) -> Result<Option<()>, Box<dyn Error>> {
    let mut waited = || -> Result<u64, Box<dyn Error>> {
        let text = guest.read("/proc/pressure/cpu")?;
        let total = text
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix("total="));
        Ok(total.ok_or("no total in /proc/pressure/cpu")?.parse()?)
    };
    let before = waited()?;
    std::thread::sleep(QUIET);
    Ok((waited()? - before < 20_000).then_some(()))
}

fn debian(folder: &Path, programs: &Path, probe: &Path) -> Result<System, String> {
    let peers = Peers::prepare(folder)?;
    let laid = units::peer(&peers.out().join("units"), probe, &programs.join("cairn-test-agent"));
    laid.map_err(|error| error.to_string())?;
    peers.run("units.sh", &[]).map_err(|error| error.to_string())?;
    Ok(System {
        name: "debian",
        boot: Boot::Direct {
            kernel: peers.out().join("units.vmlinuz"),
            initrd: peers.out().join("units.initrd"),
            command_line: "root=LABEL=peer rw console=ttyS0 quiet panic=10".into(),
        },
        disk: peers.out().join("units.ext4"),
    })
}

fn theirs(system: &System, scratch: &Path) -> Result<Told, Box<dyn Error>> {
    let mut guest = Guest::start(system, scratch)?;
    guest.wait("the boot's end", |guest| {
        guest.try_run(&["/usr/bin/systemctl", "is-system-running", "--quiet"])
    })?;
    guest.wait("rest", quiet)?;
    let mut told = Told::default();
    let journal = guest.find("systemd-journal")?;
    told.memory = [guest.resident("1")?, guest.resident(&journal)?];
    for crash in CRASHES {
        let group = format!("/sys/fs/cgroup/system.slice/{}.service", crash.name);
        let unit = format!("_SYSTEMD_UNIT={}.service", crash.name);
        let log = [
            "/usr/bin/journalctl",
            "-o",
            "cat",
            "-n",
            "1",
            "-t",
            "cairn-probe",
            unit.as_str(),
        ];
        told.crashes.push(kill(&mut guest, &group, &log)?);
    }
    let timed = |guest: &mut Guest, command: &[&str]| -> Result<f64, Box<dyn Error>> {
        let said = guest.run(&[&[PROBE, "time"], command].concat())?;
        let took: Value = serde_json::from_str(&said)?;
        Ok(took["took"].as_f64().ok_or("no time")? / 1e9)
    };
    told.stop = timed(&mut guest, &["/usr/bin/systemctl", "stop", "idle*.service"])?;
    let all: Vec<String> = (0..ALL).map(|number| format!("{}.service", idle(number))).collect();
    let start: Vec<&str> = ["/usr/bin/systemctl", "start"]
        .into_iter()
        .chain(all.iter().map(String::as_str))
        .collect();
    guest.run(&start)?;
    guest.wait("rest", quiet)?;
    for _ in 0..RELOADS {
        told.reload[0].push(timed(&mut guest, &["/usr/bin/systemctl", "daemon-reload"])?);
    }
    guest.off(&["/usr/bin/systemctl", "poweroff", "--no-block"])?;
    Ok(told)
}

/// Kills the service in a cgroup again and again: seconds from each kill to the first instruction of the next process, which the
/// last line of its log tells.
fn kill(guest: &mut Guest, group: &str, log: &[&str]) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..KILLS {
        let killed: u64 = guest.run(&[PROBE, "crash", group])?.trim().parse()?;
        let began = guest.wait("a killed unit", |guest| {
            let said = guest.try_run(log)?.unwrap_or_default();
            let word = said.trim_end().rsplit("began ").next();
            let began: Option<u64> = word.and_then(|word| word.parse().ok());
            Ok(began.filter(|began| *began > killed))
        })?;
        times.push((began - killed) as f64 / 1e9);
    }
    Ok(times)
}

/// The rows of sandboxes, from what the probe printed.
fn spawns(printed: &str) -> Result<Vec<Row>, Box<dyn Error>> {
    let all: Value = serde_json::from_str(printed)?;
    let samples = |kind: &str, which: usize| -> Samples {
        let turns = all[kind].as_array().into_iter().flatten();
        Samples(
            turns
                .filter_map(|turn| turn[which].as_f64())
                .map(|ns| ns / 1e9)
                .collect(),
        )
    };
    let row = |what: &str, kind: &str, which, goal| Row {
        what: what.into(),
        unit: Unit::Millis,
        ours: samples(kind, which),
        peer: Ok(("bubblewrap".into(), samples("bwrap", which))),
        goal,
    };
    Ok(vec![
        row("sandbox until the first instruction", "ours", 0, Goal::Share(1.0)),
        row("sandbox until the end is known", "ours", 1, Goal::Share(1.0)),
        row(
            "the same with addresses on a bridge, first instruction",
            "veth",
            0,
            Goal::None,
        ),
        row("the same with addresses on a bridge, end", "veth", 1, Goal::None),
    ])
}

fn beside(ours: &Told, theirs: &Result<Told, String>) -> Vec<Row> {
    let row = |what: String, unit, own: &[f64], goal, of: &dyn Fn(&Told) -> Vec<f64>| Row {
        what,
        unit,
        ours: Samples(own.to_vec()),
        peer: theirs
            .as_ref()
            .map(|told| ("systemd".to_owned(), Samples(of(told))))
            .map_err(Clone::clone),
        goal,
    };
    let named = |crash: &Crash| {
        let said = |delay: Option<&str>, default: &str| delay.map_or(default.to_owned(), str::to_owned);
        let (ours, theirs) = (said(crash.ours, "default, 1 s"), said(crash.theirs, "default, 100 ms"));
        let boxed = if crash.sandboxed { ", sandboxed" } else { "" };
        format!("killed to running (delay {ours}; systemd's {theirs}{boxed})")
    };
    let mut rows: Vec<Row> = CRASHES
        .iter()
        .enumerate()
        .map(|(at, crash)| {
            let goal = Goal::Share(1.0 / 3.0);
            row(named(crash), Unit::Millis, &ours.crashes[at], goal, &move |told| {
                told.crashes[at].clone()
            })
        })
        .collect();
    rows.extend([
        row(
            format!("stop of {SOME} idle units"),
            Unit::Millis,
            &[ours.stop],
            Goal::AtMost(1.0),
            &|told| vec![told.stop],
        ),
        row(
            format!("memory of PID 1, {SOME} units"),
            Unit::Bytes,
            &ours.memory[..1],
            Goal::AtMost(1e6),
            &|told| vec![told.memory[0]],
        ),
        row(
            format!("memory of the manager, {SOME} units (beside journald)"),
            Unit::Bytes,
            &ours.memory[1..],
            Goal::AtMost(10e6),
            &|told| vec![told.memory[1]],
        ),
        row(
            format!("reload with {ALL} units, in the manager"),
            Unit::Millis,
            &ours.reload[1],
            Goal::AtMost(0.02),
            &|told| told.reload[1].clone(),
        ),
        row(
            format!("reload with {ALL} units, as the client sees it"),
            Unit::Millis,
            &ours.reload[0],
            Goal::AtMost(0.02),
            &|told| told.reload[0].clone(),
        ),
    ]);
    rows
}
