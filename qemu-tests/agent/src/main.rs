//! The test agent: does, as root, what the control channel asks. Only test images carry it (recipe: `[test] agent = true`).
//! The protocol is in the library.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

use cairn_test_agent::{PORT, hex, unhex};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let path = find_port()?;
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
    if let Some(path) = request["write"].as_str() {
        let mut file = File::create(path)?;
        file.write_all(&unhex(&request["data"]))?;
        file.sync_all()?;
        return Ok(json!({}));
    }
    Err("unknown request".into())
}

/// `/dev/vportNpM`, by the name in sysfs: there is no udev to make links.
fn find_port() -> Result<PathBuf, Box<dyn Error>> {
    for entry in fs::read_dir("/sys/class/virtio-ports")? {
        let entry = entry?;
        if fs::read_to_string(entry.path().join("name")).unwrap_or_default().trim() == PORT {
            return Ok(PathBuf::from("/dev").join(entry.file_name()));
        }
    }
    Err(format!("no virtio port is named {PORT}").into())
}
