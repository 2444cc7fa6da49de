//! The test agent: does, as root, what the control channel asks. Only test images carry it (recipe: `[test] agent = true`).
//! The protocol is in the library.

mod act;
mod campaign;
mod demand;
mod hostile;
mod names;
mod terminal;

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cairn_test_agent::{PORT, hex, unhex};
use rustix::mount::{MountFlags, mount_remount};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// How long the port's driver may take to be loaded.
const DRIVER: Duration = Duration::from_secs(60);
/// How long a unit may take to do what is to be learned.
const LESSON: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => control()?,
        ["hostile"] => hostile::serve()?,
        ["ask", socket, _, ..] => hostile::ask(socket, &arguments[2..])?,
        ["probe", ..] => hostile::probe(&arguments[1..]),
        ["act", ..] => return Ok(act::act(&arguments[1..])?),
        ["kills", plan] => campaign::kills(plan)?,
        ["follow", unit, count] => follow(unit, count.parse()?)?,
        ["learn", unit, line] => learn(unit, line)?,
        ["say", word, ..] => demand::say(word, &arguments[2..])?,
        ["outlive", pid, word, ..] => demand::outlive(pid, word, &arguments[3..])?,
        ["at-terminal", _, ..] => terminal::run(&arguments[1..])?,
        // In one step, so that nobody sees half of it.
        ["rename", from, to] => fs::rename(from, to)?,
        ["address", name] => println!("{}", names::address(name)?),
        ["put", path, text] => fs::write(path, text)?,
        ["show", path] => print!("{}", fs::read_to_string(path)?),
        // With its permissions.
        ["copy", from, to] => drop(fs::copy(from, to)?),
        _ => return Err(format!("what is {words:?}?").into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the next lines of a unit's log as they come.
fn follow(unit: &str, count: usize) -> Result<(), Box<dyn Error>> {
    let mut child = Command::new("/usr/bin/cairn")
        .args(["logs", unit, "--follow", "-n", "0"])
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or("no output")?;
    for line in BufReader::new(out).lines().take(count) {
        println!("{}", line?);
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Learns from a unit until its log has these words, and ends the lesson as Ctrl-C does. Prints how the units stood then, and what
/// was learned.
fn learn(unit: &str, words: &str) -> Result<(), Box<dyn Error>> {
    let cairn = |arguments: &[&str]| -> Result<String, Box<dyn Error>> {
        let output = Command::new("/usr/bin/cairn").args(arguments).output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    let lesson = Command::new("/usr/bin/cairn")
        .args(["learn", unit, "--for", "1h"])
        .stdout(Stdio::piped())
        .spawn()?;
    let deadline = Instant::now() + LESSON;
    let heard = loop {
        if cairn(&["logs", unit, "-n", "all"])?.contains(words) {
            break true;
        }
        if Instant::now() > deadline {
            break false;
        }
        sleep(LOOK_AGAIN);
    };
    let status = cairn(&["status"])?;
    kill_process(Pid::from_child(&lesson), Signal::INT)?;
    let learned = lesson.wait_with_output()?;
    print!("{status}{}", String::from_utf8_lossy(&learned.stdout));
    if !heard || !learned.status.success() {
        return Err(format!("{words:?} was heard: {heard}; the lesson ended with {}", learned.status).into());
    }
    Ok(())
}

/// Serves the control channel.
fn control() -> Result<(), Box<dyn Error>> {
    if !has_console_device() {
        // Started without a control channel, for example by `imagegen run`: nobody will ask for anything.
        return Ok(());
    }
    // A sandbox's mounts open no device nodes; this one, in the agent's own namespace, is to.
    mount_remount("/dev", MountFlags::BIND | MountFlags::NOSUID | MountFlags::NOEXEC, c"")?;
    let path = wait_for_port()?;
    // A port opens once at a time, so one description serves both ways.
    let port = File::options().read(true).write(true).open(&path)?;
    let mut out = port.try_clone()?;
    println!("test agent: serving {}", path.display());
    for line in BufReader::new(port).split(b'\n') {
        let line = line?;
        let request: Value = serde_json::from_slice(&line).unwrap_or_default();
        if request["id"].is_null() {
            continue;
        }
        let mut answer = serve(&request).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        answer["id"] = request["id"].clone();
        out.write_all(format!("{answer}\n").as_bytes())?;
    }
    Ok(())
}

fn serve(request: &Value) -> Result<Value, Box<dyn Error>> {
    if let Some(argv) = request["exec"].as_array() {
        let mut words = argv.iter().filter_map(Value::as_str);
        let output = Command::new(words.next().ok_or("no program")?).args(words).output()?;
        let status = output
            .status
            .code()
            .unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        return Ok(json!({ "status": status, "stdout": hex(&output.stdout), "stderr": hex(&output.stderr) }));
    }
    if let Some(path) = request["read"].as_str() {
        return Ok(json!({ "data": hex(&fs::read(path)?) }));
    }
    if let Some(path) = request["link"].as_str() {
        return Ok(json!({ "data": hex(fs::read_link(path)?.as_os_str().as_bytes()) }));
    }
    if let Some(path) = request["write"].as_str() {
        // The folder may be one that the appliance makes with its first file.
        if let Some(folder) = Path::new(path).parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::create(path)?;
        file.write_all(&unhex(&request["data"]))?;
        file.sync_all()?;
        return Ok(json!({}));
    }
    if let Some(pid) = request["kill"].as_i64() {
        let pid = i32::try_from(pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw);
        let signal = request["signal"].as_i64().and_then(|number| i32::try_from(number).ok());
        let signal = signal.and_then(Signal::from_named_raw).ok_or("no signal")?;
        kill_process(pid.ok_or("no process id")?, signal)?;
        return Ok(json!({}));
    }
    Err("unknown request".into())
}

/// Whether the machine has a virtio console on PCI at all. The kernel lists PCI devices before any program runs, and their drivers
/// come later, from cairn-init. The ids are those of virtio 1.2, 4.1.2 and 5.3: transitional and modern.
fn has_console_device() -> bool {
    let Ok(devices) = fs::read_dir("/sys/bus/pci/devices") else {
        return false;
    };
    let id = |device: &Path, file: &str| fs::read_to_string(device.join(file)).unwrap_or_default();
    devices.flatten().map(|entry| entry.path()).any(|device| {
        id(&device, "vendor").trim() == "0x1af4" && matches!(id(&device, "device").trim(), "0x1003" | "0x1043")
    })
}

fn wait_for_port() -> Result<PathBuf, Box<dyn Error>> {
    let deadline = Instant::now() + DRIVER;
    loop {
        match find_port() {
            Some(path) => return Ok(path),
            None if Instant::now() < deadline => sleep(LOOK_AGAIN),
            None => return Err(format!("no virtio port is named {PORT} after {} s", DRIVER.as_secs()).into()),
        }
    }
}

/// `/dev/vportNpM`, by the name in sysfs: there is no udev to make links.
fn find_port() -> Option<PathBuf> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?;
    let named = |path: &Path| fs::read_to_string(path.join("name")).unwrap_or_default().trim() == PORT;
    let port = ports.flatten().find(|entry| named(&entry.path()))?;
    let node = Path::new("/dev").join(port.file_name());
    node.exists().then_some(node)
}
