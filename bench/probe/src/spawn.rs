//! From asking for a sandbox to the first instruction of the program in it, and to its end: ours and bubblewrap's, in turns.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use cairn_sandbox::{Ipv4, Ipv6, Mount, Network, Plan, Resource, Rlimit, Stream, Veth, file, run_plan};
use serde_json::json;

use crate::now;

const HELPER: &str = "/usr/lib/cairn/cairn-exec";
const BWRAP: &str = "/usr/bin/bwrap";
const PROGRAM: &str = "/usr/bin/cairn-probe";
/// Who asks bubblewrap: it is made for users without privileges, and needs none.
const NOBODY: u32 = 65_534;

/// Nanoseconds to the first instruction and to the end.
type Times = (u64, u64);

/// What the manager makes of a unit that declares no more than a command and has no network.
fn unit(root: &Path) -> Plan {
    let mut plan = Plan::new("spawn", root, 900_000, vec![PROGRAM.into(), "stamp".into()]);
    plan.hostname = Some("spawn".into());
    plan.oom_score_adj = Some(0);
    plan.user.uid = 100;
    plan.user.gid = 100;
    plan.rlimits = [(Resource::Nofile, 16_384), (Resource::Core, 0)]
        .map(|(resource, most)| Rlimit {
            resource,
            soft: most,
            hard: most,
        })
        .to_vec();
    plan.env = [("HOME", "/"), ("LANG", "C.UTF-8"), ("PATH", "/usr/bin:/bin")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    plan.mounts.push(Mount::Tmpfs {
        target: "/run".into(),
        size: 16 << 20,
        mode: 0o755,
        uid: 0,
        gid: 0,
        exec: false,
    });
    plan.mounts.push(file("/etc/hosts", "127.0.0.1 localhost\n", 0o644));
    // In place of the sockets for logs and notices.
    for target in ["/dev/log", "/run/notify"] {
        plan.mounts.push(Mount::Bind {
            source: "/dev/null".into(),
            target: target.into(),
            read_only: false,
            idmapped: false,
            recursive: false,
            exec: false,
            suid: false,
        });
    }
    plan
}

/// The same with a network of its own, as units have by default.
fn with_network(root: &Path, run: usize) -> Plan {
    let mut plan = unit(root);
    plan.network = Network::Veth(Veth {
        // Not the last one's: the kernel removes links late.
        host_name: format!("probe{run}"),
        bridge: None,
        name: "eth0".into(),
        mac: Some("02:00:00:00:00:01".into()),
        ipv4: Some(Ipv4 {
            address: [10, 254, 0, 2].into(),
            prefix: 24,
            gateway: Some([10, 254, 0, 1].into()),
        }),
        ipv6: Some(Ipv6 {
            address: [0xfd00, 0, 0, 0, 0, 0, 0, 2].into(),
            prefix: 64,
            gateway: Some([0xfd00, 0, 0, 0, 0, 0, 0, 1].into()),
        }),
    });
    plan
}

fn began(mut pipe: impl Read) -> Result<u64, Box<dyn Error>> {
    let mut stamp = [0; 8];
    pipe.read_exact(&mut stamp)
        .map_err(|_| "the program in the sandbox said nothing")?;
    Ok(u64::from_ne_bytes(stamp))
}

fn ours(plan: &Plan, helper: &Path) -> Result<Times, Box<dyn Error>> {
    let start = now();
    let mut child = run_plan(plan, helper, [Stream::Null, Stream::Pipe, Stream::Inherit])?;
    let pipe: File = child.stdout.take().ok_or("no pipe")?;
    let outcome = child.wait()?;
    let end = now();
    if !outcome.success() {
        return Err(format!("ours: {outcome:?}").into());
    }
    Ok((began(pipe)? - start, end - start))
}

fn bubblewrap(root: &Path, program: &str) -> Result<Times, Box<dyn Error>> {
    let mut command = Command::new(program);
    command
        .args(["--unshare-all", "--new-session", "--die-with-parent", "--clearenv"])
        .args(["--setenv", "PATH", "/usr/bin:/bin", "--hostname", "spawn"])
        .arg("--ro-bind")
        .args([root, Path::new("/")])
        .args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"])
        .args([PROGRAM, "stamp"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .uid(NOBODY)
        .gid(NOBODY);
    let start = now();
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    let pipe = child.stdout.take().ok_or("no pipe")?;
    let status = child.wait()?;
    let end = now();
    if !status.success() {
        return Err(format!("bwrap: {status}").into());
    }
    Ok((began(pipe)? - start, end - start))
}

/// Prints the times of `runs` turns after one that is not counted.
pub(crate) fn measure(root: &Path, runs: usize) -> Result<(), Box<dyn Error>> {
    let named = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let (helper, bwrap) = (named("PROBE_HELPER", HELPER), named("PROBE_BWRAP", BWRAP));
    let plain = unit(root);
    let mut times: [Vec<Times>; 3] = Default::default();
    for run in 0..=runs {
        let turn = [
            ours(&plain, helper.as_ref())?,
            bubblewrap(root, &bwrap)?,
            ours(&with_network(root, run), helper.as_ref())?,
        ];
        if run > 0 {
            times.iter_mut().zip(turn).for_each(|(all, one)| all.push(one));
        }
    }
    let [plain, bwrap, linked] = times;
    println!("{}", json!({ "ours": plain, "bwrap": bwrap, "veth": linked }));
    Ok(())
}
