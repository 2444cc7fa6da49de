//! Direct-kernel boots until the services answer through forwarded ports, with the same QEMU flags for both.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use imagegen::machine::{Boot, Disk, Forward, MachineSpec, Video, decide_accel};
use qemu_tests::Machine;
use qemu_tests::images;

use crate::figure::{Goal, Row, Samples, Unit};
use crate::peer::Peers;
use crate::runs;

const LDAP: u16 = 389;
const SQL: u16 = 3306;
/// How long a pressed power button is given, and how often it is pressed.
const PRESS: Duration = Duration::from_secs(15);
const PRESSES: u32 = 8;
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

pub(crate) struct System {
    pub(crate) name: &'static str,
    pub(crate) boot: Boot,
    pub(crate) disk: PathBuf,
    /// Whether the test agent is in it.
    pub(crate) agent: bool,
    pub(crate) setup: Option<PathBuf>,
}

pub(crate) fn spec(system: &System) -> Result<MachineSpec, Box<dyn Error>> {
    let tools = qemu_tests::tools::tools()?;
    let accel = decide_accel(&tools, &qemu_tests::tools::cache()?.root().join("accel.json"))?.accel;
    let mut spec = MachineSpec::new(system.name, accel, system.boot.clone());
    spec.cpus = 2;
    spec.memory_mib = 2048;
    spec.video = Video::Off;
    spec.control = system.agent;
    spec.setup.clone_from(&system.setup);
    spec.forwards = [LDAP, SQL].map(|guest| Forward { host: 0, guest }).to_vec();
    spec.disks.push(Disk::raw("disk0", &system.disk));
    Ok(spec)
}

/// Whether something behind a forwarded port says a word: QEMU itself accepts before the guest does.
pub(crate) fn answers(port: u16, say: &[u8]) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(700)));
    let mut byte = [0];
    stream.write_all(say).is_ok() && matches!(stream.read(&mut byte), Ok(1))
}

/// An anonymous simple bind, LDAP version 3 (RFC 4511, 4.2).
const BIND: [u8; 14] = [
    0x30, 0x0c, 0x02, 0x01, 0x01, 0x60, 0x07, 0x02, 0x01, 0x03, 0x04, 0x00, 0x80, 0x00,
];

/// Seconds from power-on until slapd and until MariaDB answer. The machine is then shut down in order.
pub(crate) fn boot(system: &System, folder: &Path) -> Result<(f64, f64), Box<dyn Error>> {
    let start = Instant::now();
    let mut machine = Machine::start(system.name, &spec(system)?, folder)?;
    let (mut ldap, mut sql) = (None, None);
    let (ldap_port, sql_port) = (machine.port(LDAP)?, machine.port(SQL)?);
    std::thread::scope(|scope| {
        let wait = |port: u16, say: &'static [u8]| {
            move || loop {
                if answers(port, say) {
                    return Some(start.elapsed().as_secs_f64());
                }
                if start.elapsed() > LIMIT {
                    return None;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        let one = scope.spawn(wait(ldap_port, &BIND));
        let two = scope.spawn(wait(sql_port, &[]));
        ldap = one.join().ok().flatten();
        sql = two.join().ok().flatten();
    });
    // Who reads the button may itself still be starting: it is pressed until somebody does.
    let mut presses = 0;
    loop {
        machine.power_button()?;
        presses += 1;
        match machine.wait_off(PRESS) {
            Ok(()) => break,
            Err(error) if presses == PRESSES => return Err(error.into()),
            Err(_) => {}
        }
    }
    let silent = |what: &str| format!("{}: {what} did not answer within {} s", system.name, LIMIT.as_secs());
    Ok((
        ldap.ok_or_else(|| silent("slapd"))?,
        sql.ok_or_else(|| silent("MariaDB"))?,
    ))
}

/// By which the appliance sets itself up. Nobody logs in.
const CHOICES: &str =
    "[appliance]\nname = \"bench\"\n[administrator]\nname = \"bench\"\npassword = \"of no use to anybody\"\n";

/// The appliance as it is shipped, or with the test agent, which is another program to start.
pub(crate) fn ours(image: &Path, agent: bool, folder: &Path) -> Result<System, Box<dyn Error>> {
    let beside = |ending: &str| -> Result<PathBuf, Box<dyn Error>> {
        let path = image.with_extension(ending);
        path.exists()
            .then_some(path.clone())
            .ok_or_else(|| format!("{} is missing", path.display()).into())
    };
    let disk = folder.join(if agent { "cairn-test.raw" } else { "cairn.raw" });
    qemu_tests::disk::copy_grown(image, &disk, 8 << 30)?;
    let boot = Boot::Direct {
        kernel: beside("vmlinuz")?,
        initrd: beside("initrd")?,
        command_line: fs::read_to_string(beside("cmdline")?)?.trim().to_owned(),
    };
    // Found at the first start, which is not counted.
    let setup = folder.join("setup.toml");
    fs::write(&setup, CHOICES)?;
    Ok(System {
        name: "cairn",
        boot,
        disk,
        agent,
        setup: Some(setup).filter(|_| !agent),
    })
}

pub(crate) fn debian(folder: &Path) -> Result<System, String> {
    let peers = Peers::prepare(folder)?;
    let disk = peers.out().join("debian.ext4");
    if !disk.exists() {
        peers.run("debian.sh", &[]).map_err(|e| e.to_string())?;
    }
    let boot = Boot::Direct {
        kernel: peers.out().join("debian.vmlinuz"),
        initrd: peers.out().join("debian.initrd"),
        command_line: "root=LABEL=peer rw console=ttyS0 quiet panic=10".into(),
    };
    Ok(System {
        name: "debian",
        boot,
        disk,
        agent: false,
        setup: None,
    })
}

/// Second boots, data in place.
pub(crate) fn times(folder: &Path) -> Result<Vec<Row>, Box<dyn Error>> {
    let scratch = tempfile::tempdir_in(folder)?;
    let cairn = ours(&images::shipped()?, false, scratch.path())?;
    let first = boot(&cairn, scratch.path())?;
    chart(&ours(&images::base()?, true, scratch.path())?, folder, scratch.path())?;
    let peer = debian(folder);
    let mut theirs = peer
        .as_ref()
        .map_err(|why| format!("Debian: {why}"))
        .map(|_| (vec![], vec![]));
    let (mut ldap, mut sql) = (vec![], vec![]);
    if let Ok(debian) = &peer {
        // Its first boot makes keys and ids; not counted, as ours is not.
        boot(debian, scratch.path())?;
    }
    for _ in 0..runs() {
        let (l, s) = boot(&cairn, scratch.path())?;
        ldap.push(l);
        sql.push(s);
        if let (Ok(debian), Ok((l, s))) = (&peer, &mut theirs) {
            let times = boot(debian, scratch.path())?;
            l.push(times.0);
            s.push(times.1);
        }
    }
    let named = |samples: &Vec<f64>| ("Debian + systemd".to_owned(), Samples(samples.clone()));
    let row = |what: &str, ours: Vec<f64>, peer, goal| Row {
        what: what.into(),
        unit: Unit::Seconds,
        ours: Samples(ours),
        peer,
        goal,
    };
    Ok(vec![
        row(
            "boot until slapd answers",
            ldap,
            theirs.as_ref().map(|t| named(&t.0)).map_err(Clone::clone),
            Goal::Share(1.0 / 3.0),
        ),
        row(
            "boot until MariaDB answers",
            sql,
            theirs.as_ref().map(|t| named(&t.1)).map_err(Clone::clone),
            Goal::Share(1.0 / 3.0),
        ),
        row(
            "first boot until slapd answers",
            vec![first.0],
            Err(String::new()),
            Goal::None,
        ),
        row(
            "first boot until MariaDB answers",
            vec![first.1],
            Err(String::new()),
            Goal::None,
        ),
    ])
}

/// Writes the chart of a second boot, drawn by the appliance itself.
fn chart(system: &System, folder: &Path, scratch: &Path) -> Result<(), Box<dyn Error>> {
    boot(system, scratch)?;
    let mut machine = Machine::start(system.name, &spec(system)?, scratch)?;
    machine.wait_for("Ready: ", LIMIT)?;
    let drawn = machine
        .agent()?
        .exec(&["/usr/bin/cairn", "chart"], Duration::from_secs(60))?;
    if drawn.status != 0 {
        return Err(format!("cairn chart: {}", String::from_utf8_lossy(&drawn.stderr)).into());
    }
    let path = folder.join("boot.svg");
    fs::write(&path, drawn.stdout)?;
    println!("the chart of a boot is in {}", path.display());
    machine.power_button()?;
    machine.wait_off(LIMIT)?;
    Ok(())
}
