//! The units that are measured, as ours and as systemd's: the same program, as many of them.

use std::error::Error;
use std::fs;
use std::path::Path;

/// How many units there are.
pub(super) const ALL: usize = 200;
/// How many of them run where fewer do.
pub(super) const SOME: usize = 50;
/// The programs' place in both systems, and in the units' roots.
pub(super) const PROBE: &str = "usr/bin/cairn-probe";

/// The name of an idle unit.
pub(super) fn idle(number: usize) -> String {
    format!("idle{number:03}")
}

/// A unit that is killed: its name, and the delay before its restart for ours and for systemd; none where it is the default.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crash {
    pub(super) name: &'static str,
    pub(super) ours: Option<&'static str>,
    pub(super) theirs: Option<&'static str>,
    /// Whether systemd is asked for a sandbox too, of what it has that is like ours.
    pub(super) sandboxed: bool,
}

/// The units that are killed.
pub(super) const CRASHES: [Crash; 3] = [
    Crash {
        name: "crash-least",
        ours: Some("0ms"),
        theirs: Some("0"),
        sandboxed: false,
    },
    Crash {
        name: "crash-default",
        ours: None,
        theirs: None,
        sandboxed: false,
    },
    Crash {
        name: "crash-boxed",
        ours: Some("0ms"),
        theirs: Some("0"),
        sandboxed: true,
    },
];

/// What systemd has that is most like a sandbox of ours.
const BOX: &str = "PrivateUsers=yes\nPrivateNetwork=yes\nPrivateIPC=yes\nPrivateTmp=yes\nPrivateDevices=yes\nProtectSystem=strict\n\
    ProtectHome=yes\nProtectProc=invisible\nProcSubset=pid\nProtectClock=yes\nProtectHostname=yes\nProtectControlGroups=yes\n\
    ProtectKernelTunables=yes\nProtectKernelModules=yes\nProtectKernelLogs=yes\nRestrictNamespaces=yes\nLockPersonality=yes\n\
    RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\nMemoryDenyWriteExecute=yes\nNoNewPrivileges=yes\n\
    CapabilityBoundingSet=\nSystemCallArchitectures=native\nSystemCallFilter=@system-service\n";

fn write(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(path, text)?)
}

fn copy(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    // Copies keep the mode.
    fs::copy(from, to).map_err(|error| format!("{}: {error}", from.display()))?;
    Ok(())
}

/// A project with our recipe, units and overlays. bubblewrap, with which sandboxes are compared, is in the host root.
pub(super) fn project(folder: &Path, probe: &Path) -> Result<(), Box<dyn Error>> {
    let mut names: Vec<String> = (0..ALL).map(idle).collect();
    for name in &names {
        let text = format!(
            "description = \"Does nothing\"\noverlays = [\"probe\"]\n\n[service]\ncommand = [\"/{PROBE}\", \"idle\"]\n"
        );
        write(&folder.join(format!("units/{name}.toml")), &text)?;
    }
    for crash in CRASHES {
        let delay = crash
            .ours
            .map_or(String::new(), |delay| format!("restart_delay = \"{delay}\"\n"));
        // Each crash is to be the first: what came before is forgotten at once.
        let text = format!(
            "description = \"Is killed\"\noverlays = [\"probe\"]\n\n[service]\ncommand = [\"/{PROBE}\", \"idle\"]\n\
             healthy_after = \"0ms\"\n{delay}"
        );
        write(&folder.join(format!("units/{}.toml", crash.name)), &text)?;
        names.push(crash.name.into());
    }
    let recipe = format!(
        "name = \"bench-units\"\nversion = \"1.0.0\"\ndescription = \"Many small units to be measured; never hand it out\"\n\
         units = {names:?}\n\n[host]\npackages = [\"e2fsprogs\", \"nftables\", \"bubblewrap\"]\noverlays = [\"host\", \"probe\"]\n\n\
         [test]\nagent = true\n"
    );
    write(&folder.join("appliances/bench-units.toml"), &recipe)?;
    copy(probe, &folder.join("overlays/probe").join(PROBE))
}

/// The choices of an owner who runs so many of the idle units. `weight` is one unit's share of the processor.
pub(super) fn site(running: usize, weight: u32) -> String {
    let limits = format!("[units.{}.limits]\ncpu_weight = {weight}\n", idle(0));
    let off = (running..ALL).map(|number| format!("[units.{}]\nenabled = false\n", idle(number)));
    std::iter::once(limits).chain(off).collect()
}

/// What is laid on the peer's root: the programs, the units, and links for those that start by themselves.
pub(super) fn peer(folder: &Path, probe: &Path, agent: &Path) -> Result<(), Box<dyn Error>> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    copy(probe, &folder.join(PROBE))?;
    copy(agent, &folder.join("usr/lib/cairn/test-agent"))?;
    let units = folder.join("etc/systemd/system");
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    let enable = |name: &str| -> Result<(), Box<dyn Error>> {
        Ok(std::os::unix::fs::symlink(
            format!("../{name}.service"),
            wants.join(format!("{name}.service")),
        )?)
    };
    write(
        &units.join("test-agent.service"),
        "[Unit]\nDescription=Test agent\n[Service]\nExecStart=/usr/lib/cairn/test-agent\nRestart=on-failure\n",
    )?;
    enable("test-agent")?;
    for number in 0..ALL {
        let name = idle(number);
        let text = format!("[Unit]\nDescription=Does nothing\n[Service]\nExecStart=/{PROBE} idle\n");
        write(&units.join(format!("{name}.service")), &text)?;
        if number < SOME {
            enable(&name)?;
        }
    }
    for crash in CRASHES {
        let delay = crash
            .theirs
            .map_or(String::new(), |delay| format!("RestartSec={delay}\n"));
        let boxed = if crash.sandboxed { BOX } else { "" };
        let text = format!(
            "[Unit]\nDescription=Is killed\nStartLimitIntervalSec=0\n[Service]\nExecStart=/{PROBE} idle\nRestart=on-failure\n{delay}{boxed}"
        );
        write(&units.join(format!("{}.service", crash.name)), &text)?;
        enable(crash.name)?;
    }
    Ok(())
}
