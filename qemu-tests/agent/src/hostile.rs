//! The hostile unit of test images: tries to break out of its sandbox, one probe at a time, and says how each ended.
//!
//! `hostile` is the unit's service: it takes orders on a socket in its state folder. `ask SOCKET PROBE...`, on the host, gives
//! one. `probe PROBE...` makes it where it stands; made on the host it is the control that shows that a probe which is refused
//! in the unit can succeed at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{CWD, FallocateFlags, FileType, Mode, fallocate, makedev, mknodat};
use rustix::net::{AddressFamily, Protocol, SocketType, ipproto, socket};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit, test_kill_process};
use rustix::thread::UnshareFlags;
use rustix::time::{ClockId, clock_gettime, clock_settime};

/// Where the unit takes orders, in its own paths.
const ORDERS: &str = "/var/lib/hostile/orders";
/// How long a port may take to answer before it counts as closed by a firewall.
const PATIENCE: Duration = Duration::from_secs(3);

/// Serves orders for ever.
pub(crate) fn serve() -> io::Result<()> {
    let _ = fs::remove_file(ORDERS);
    let listener = UnixListener::bind(ORDERS)?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut order = String::new();
        BufReader::new(stream.try_clone()?).read_line(&mut order)?;
        let words: Vec<&str> = order.trim_end().split('\t').collect();
        // In a process of its own, so that one that is killed does not end the service. What it floods goes to the log.
        let ran = Command::new("/proc/self/exe")
            .arg("probe")
            .args(&words)
            .stderr(Stdio::inherit())
            .output();
        let said = match ran {
            Ok(output) if output.status.success() => output.stdout,
            Ok(output) => {
                let signal = output.status.signal().unwrap_or(0);
                format!("PROBE {}: refused (signal {signal})\n", words[0]).into_bytes()
            }
            Err(error) => format!("PROBE {}: not made ({error})\n", words[0]).into_bytes(),
        };
        let _ = stream.write_all(&said);
    }
    Ok(())
}

/// Gives one order and prints the answer; one that ended the whole unit is the end of the stream.
pub(crate) fn ask(path: &str, words: &[String]) -> io::Result<()> {
    let mut stream = UnixStream::connect(path)?;
    writeln!(stream, "{}", words.join("\t"))?;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    if answer.is_empty() {
        answer = format!("PROBE {}: refused (the unit was killed)\n", words[0]);
    }
    print!("{answer}");
    Ok(())
}

/// Makes a probe and prints how it ended.
pub(crate) fn probe(words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let how = match attempt(&words) {
        Ok(()) => "SUCCEEDED".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(number) => format!("refused (errno {number})"),
            None => format!("refused ({})", error.kind()),
        },
    };
    println!("PROBE {}: {how}", words.first().copied().unwrap_or_default());
}

fn number<T: std::str::FromStr>(word: &str) -> io::Result<T> {
    word.parse().map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn attempt(words: &[&str]) -> io::Result<()> {
    match words {
        ["signal", pid] => {
            let pid = Pid::from_raw(number(pid)?).ok_or(io::ErrorKind::InvalidInput)?;
            Ok(test_kill_process(pid)?)
        }
        ["read", path] => File::open(path)?.read(&mut [0]).map(drop),
        ["list", path] => fs::read_dir(path).map(drop),
        ["write", path, text] => OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes()),
        ["create", path] => OpenOptions::new().write(true).create_new(true).open(path).map(drop),
        ["connect", to] => connect(number(to)?),
        ["unix", path] => UnixStream::connect(path).map(drop),
        // A connection from somebody else's address.
        ["spoof", from, to] => {
            let from: SocketAddr = number(from)?;
            let family = if from.is_ipv4() {
                AddressFamily::INET
            } else {
                AddressFamily::INET6
            };
            let own = socket(family, SocketType::STREAM, None)?;
            rustix::net::bind(&own, &from)?;
            Ok(rustix::net::connect(&own, &number::<SocketAddr>(to)?)?)
        }
        ["socket", kind] => open_socket(kind),
        ["mount", path] => Ok(rustix::mount::mount(
            "none",
            *path,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            None,
        )?),
        ["module"] => Ok(rustix::system::init_module(&[], c"")?),
        #[allow(deprecated)]
        ["unshare"] => Ok(rustix::thread::unshare(UnshareFlags::NEWUSER)?),
        // To what it is: the control changes nothing.
        ["clock"] => Ok(clock_settime(ClockId::Realtime, clock_gettime(ClockId::Realtime))?),
        ["device", path] => {
            let made = mknodat(CWD, *path, FileType::CharacterDevice, Mode::RUSR, makedev(1, 11));
            let _ = fs::remove_file(path);
            Ok(made?)
        }
        ["limit"] => {
            let more = getrlimit(Resource::Nofile).maximum.unwrap_or(1 << 20) + 1;
            let limit = Rlimit {
                current: Some(more),
                maximum: Some(more),
            };
            Ok(setrlimit(Resource::Nofile, limit)?)
        }
        ["fork", count] => fork(number(count)?),
        ["pause"] => io::stdin().read(&mut [0]).map(drop),
        ["memory", mib] => {
            let mut held = Vec::new();
            for _ in 0..number::<usize>(mib)? {
                held.push(vec![1_u8; 1 << 20]);
            }
            std::hint::black_box(held);
            Ok(())
        }
        ["fill", path, mib] => {
            let mut file = File::create(path)?;
            let block = vec![1_u8; 1 << 20];
            let written = (0..number::<usize>(mib)?).try_for_each(|_| file.write_all(&block));
            let _ = fs::remove_file(path);
            written
        }
        // All that there is, in ever smaller pieces, and keeps it until the file is removed.
        ["disk", path] => {
            let file = File::create(path)?;
            let (mut at, mut piece) = (0, 1 << 28);
            loop {
                match fallocate(&file, FallocateFlags::empty(), at, piece) {
                    Ok(()) => at += piece,
                    Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) if piece > 4096 => piece /= 2,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        ["larger", folder, mib] => {
            if size(Path::new(folder))? > number::<u64>(mib)? << 20 {
                Ok(())
            } else {
                Err(io::ErrorKind::InvalidData.into())
            }
        }
        ["remove", path] => fs::remove_file(path),
        ["flood", mib] => {
            let line = [b"flood ".repeat(20).as_slice(), b"\n"].concat();
            let block = line.repeat(8);
            let mut out = io::stderr().lock();
            (0..number::<usize>(mib)? * (1 << 20) / block.len()).try_for_each(|_| out.write_all(&block))
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// All bytes below a folder.
fn size(folder: &Path) -> io::Result<u64> {
    fs::read_dir(folder)?.try_fold(0, |all, entry| {
        let entry = entry?;
        let kind = entry.metadata()?;
        Ok(all
            + if kind.is_dir() {
                size(&entry.path())?
            } else {
                kind.len()
            })
    })
}

fn connect(to: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&to, PATIENCE).map(drop)
}

fn open_socket(kind: &str) -> io::Result<()> {
    let (family, of, protocol): (AddressFamily, SocketType, Option<Protocol>) = match kind {
        "packet" => (AddressFamily::PACKET, SocketType::RAW, None),
        "raw" => (AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)),
        "raw6" => (AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)),
        "vsock" => (AddressFamily::VSOCK, SocketType::STREAM, None),
        "alg" => (AddressFamily::from_raw(38), SocketType::SEQPACKET, None),
        "bluetooth" => (AddressFamily::BLUETOOTH, SocketType::RAW, None),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    Ok(socket(family, of, protocol).map(drop)?)
}

/// Makes that many processes that wait, then ends them.
fn fork(count: usize) -> io::Result<()> {
    let mut children: Vec<Child> = Vec::new();
    let mut made = Ok(());
    for _ in 0..count {
        let child = Command::new("/proc/self/exe")
            .args(["probe", "pause"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        match child {
            Ok(child) => children.push(child),
            Err(error) => {
                made = Err(error);
                break;
            }
        }
    }
    for mut child in children {
        let _ = child.kill();
        let _ = child.wait();
    }
    made
}
