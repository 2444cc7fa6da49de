//! A machine as a value, and the QEMU command line it stands for. No I/O here: the same value gives the same words.

use std::path::{Path, PathBuf};

use super::accel::Accel;
use super::launch::Bind;

/// The name of the virtio-serial port through which tests drive a test image. The guest finds it under
/// `/sys/class/virtio-ports/*/name`.
pub const CONTROL_PORT: &str = "org.cairn.control";

/// The processor under TCG: everything that QEMU can emulate, less what is slow when emulated.
///
/// Measured in one guest with two CPUs, QEMU 10.0, kernel 6.12, one run each on a host that had other work: the size of the
/// differences counts, not the last digit.
/// - `erms` and `fsrm` make kernel and glibc copy by `rep movsb`, which TCG does byte by byte: reading from the page
///   cache 99 MB/s with them, 679 MB/s without.
/// - `sha-ni` (in `max`) makes SHA-256 52 MB/s, if the guest loads `sha256-ssse3`; the kernel's own C code makes 34, AVX2
///   under TCG 10. So the guest's initrd should carry that module, and `sha-ni` must stay.
/// - `la57` is off for the fifth level in every emulated page walk; its gain was below the noise.
const TCG_CPU: &str = "max,-erms,-fsrm,-la57";

/// A virtual machine: what it has, not how it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    /// Its name, for QEMU's window and process list.
    pub name: String,
    /// Virtual CPUs, at least 1.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// How instructions are run.
    pub accel: Accel,
    /// Firmware or direct kernel.
    pub boot: Boot,
    /// Disks, in the order in which the firmware tries them.
    pub disks: Vec<Disk>,
    /// Ports of the guest reachable on the host's loopback. Empty: the guest still has the user-mode network.
    pub forwards: Vec<Forward>,
    /// False takes the network card out.
    pub network: bool,
    /// What its screen is.
    pub video: Video,
    /// True for the port that the test agent listens on.
    pub control: bool,
    /// First choices that the appliance finds in the firmware's configuration, as `opt/cairn.setup`.
    pub setup: Option<PathBuf>,
    /// A file with a string of the firmware for whoever provides the machine (SMBIOS, type 11).
    pub oem_string: Option<PathBuf>,
    /// The folder that keeps the state of a TPM 2, which outlives each start. None: there is no TPM.
    pub tpm: Option<PathBuf>,
    /// True for an i6300ESB watchdog, which resets the machine when it is not fed.
    pub watchdog: bool,
    /// True for a virtio random number generator.
    pub rng: bool,
    /// False turns ACPI off: no power button.
    pub acpi: bool,
    /// True ends QEMU where the guest would reset.
    pub exit_on_reset: bool,
    /// What its clock shows when it is switched on (`1970-01-01T00:00:00`, in UTC); left out, the time.
    pub clock: Option<String>,
}

/// How a machine starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// QEMU loads the kernel itself: faster, and without the boot loader.
    Direct {
        /// A bzImage.
        kernel: PathBuf,
        /// Its initrd.
        initrd: PathBuf,
        /// Its command line.
        command_line: String,
    },
    /// UEFI firmware, which finds the boot loader on the first disk.
    Uefi {
        /// The firmware's code; never written.
        code: PathBuf,
        /// This machine's own copy of the firmware's variables; written by the guest.
        vars: PathBuf,
        /// Whether only the firmware itself may write them, by system management mode: Secure Boot is worth nothing without.
        secure: bool,
    },
}

/// A disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its name: the device's id, for hot unplugging, and its serial number in the guest.
    pub id: String,
    /// The image or block device.
    pub path: PathBuf,
    /// How the file is to be read; never guessed.
    pub format: DiskFormat,
    /// What it hangs on.
    pub bus: DiskBus,
    /// True keeps the file as it is: writes go to a temporary file that ends with the machine.
    pub snapshot: bool,
    /// What the host's page cache does.
    pub cache: Cache,
    /// A driver of QEMU's between the image's format and its file.
    pub filter: Option<Filter>,
}

/// What stands between a disk and its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Faults by this file's rules, as QEMU's `blkdebug` reads them.
    Faults(PathBuf),
    /// A log of all writes, discards and flushes, by `blklogwrites`. The disk needs [`Cache::Writeback`] or [`Cache::None`]: otherwise flushes
    /// do not get so far.
    LogWrites {
        /// The log's file, which must exist.
        log: PathBuf,
        /// Whether it holds a log that is to go on.
        append: bool,
    },
}

impl Filter {
    /// Its options, and what it calls the file below it.
    fn options(&self) -> (String, &'static str) {
        match self {
            Self::Faults(rules) => (format!("file.driver=blkdebug,file.config={}", path(rules)), "image"),
            Self::LogWrites { log, append } => {
                let append = if *append { "on" } else { "off" };
                let log = path(log);
                let options = format!(
                    "file.driver=blklogwrites,file.log-append={append},file.log.driver=file,file.log.filename={log}"
                );
                (options, "file")
            }
        }
    }
}

/// A disk image's file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// The disk's bytes and nothing else.
    Raw,
    /// QEMU's own, with holes and backing files.
    Qcow2,
}

/// What a disk hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskBus {
    /// `virtio-blk`: `/dev/vda`.
    VirtioBlk,
    /// `virtio-scsi`: `/dev/sda`.
    VirtioScsi,
    /// NVMe: `/dev/nvme0n1`.
    Nvme,
}

/// What the host's page cache does with a disk's writes. A killed QEMU loses nothing that reached the page cache in any of
/// them; the difference is what the guest's flushes cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Writes stay in the page cache until the guest flushes.
    Writeback,
    /// As `Writeback`, and flushes are not passed on: only for machines whose disks are thrown away.
    Unsafe,
    /// Past the page cache.
    None,
}

/// A port of the guest on the host's loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The port on 127.0.0.1; 0 lets QEMU take a free one, which [`super::Running::port`] tells.
    pub host: u16,
    /// The TCP port in the guest.
    pub guest: u16,
}

/// A machine's screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Video {
    /// No graphics card.
    Off,
    /// A graphics card that nobody sees; screenshots work.
    Offscreen,
    /// A graphics card in a window.
    Window,
}

/// The Unix sockets on which the starter listens before QEMU starts. QEMU connects to them, so no one polls for a socket
/// to appear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sockets {
    /// For QMP, QEMU's control protocol.
    pub qmp: PathBuf,
    /// For the guest's control port; used when the machine has one.
    pub control: PathBuf,
    /// Where the TPM listens, when the machine has one.
    pub tpm: PathBuf,
}

impl MachineSpec {
    /// A machine with two CPUs, 2 GiB, one disk, network, watchdog and random numbers, and nothing else.
    pub fn new(name: &str, accel: Accel, boot: Boot) -> MachineSpec {
        MachineSpec {
            name: name.to_owned(),
            cpus: 2,
            memory_mib: 2048,
            accel,
            boot,
            disks: Vec::new(),
            forwards: Vec::new(),
            network: true,
            video: Video::Off,
            control: false,
            setup: None,
            oem_string: None,
            tpm: None,
            watchdog: true,
            rng: true,
            acpi: true,
            exit_on_reset: false,
            clock: None,
        }
    }

    /// QEMU's arguments, without the program's name. Serial output goes to QEMU's standard output.
    ///
    /// Nothing is there by default (`-nodefaults`, no user's configuration), so the machine is the same everywhere.
    pub fn args(&self, sockets: &Sockets) -> Vec<String> {
        let mut a = Args::default();
        a.flag("-nodefaults").flag("-no-user-config");
        a.pair("-name", format!("guest={0},process={0}", escape(&self.name)));
        self.machine(&mut a);
        a.pair("-smp", self.cpus.to_string());
        a.pair("-m", format!("{}M", self.memory_mib));
        a.pair("-rtc", format!("base={}", self.clock.as_deref().unwrap_or("utc")));
        a.pair("-boot", "menu=off,strict=on");
        a.pair("-chardev", format!("socket,id=qmp,path={}", path(&sockets.qmp)));
        a.pair("-mon", "chardev=qmp,mode=control");
        a.pair("-chardev", "stdio,id=serial,signal=off,mux=off");
        a.pair("-serial", "chardev:serial");
        self.screen(&mut a);
        self.boot_args(&mut a);
        self.disk_args(&mut a);
        if self.network {
            let forwards: String = self
                .forwards
                .iter()
                .map(|f| format!(",hostfwd=tcp:127.0.0.1:{}-:{}", f.host, f.guest))
                .collect();
            a.pair("-netdev", format!("user,id=net0,ipv6=off{forwards}"));
            // Without its boot ROM: the firmware then never tries the network.
            a.pair("-device", "virtio-net-pci,netdev=net0,id=nic0,romfile=");
        }
        if self.rng {
            a.pair("-object", "rng-builtin,id=rng0")
                .pair("-device", "virtio-rng-pci,rng=rng0");
        }
        if self.control {
            a.pair("-device", "virtio-serial-pci,id=ports0");
            a.pair("-chardev", format!("socket,id=control,path={}", path(&sockets.control)));
            a.pair(
                "-device",
                format!("virtserialport,bus=ports0.0,chardev=control,name={CONTROL_PORT}"),
            );
        }
        if let Some(file) = &self.setup {
            a.pair("-fw_cfg", format!("name=opt/cairn.setup,file={}", path(file)));
        }
        if let Some(file) = &self.oem_string {
            a.pair("-smbios", format!("type=11,path={}", path(file)));
        }
        if self.tpm.is_some() {
            a.pair("-chardev", format!("socket,id=tpm,path={}", path(&sockets.tpm)));
            a.pair("-tpmdev", "emulator,id=tpm0,chardev=tpm")
                .pair("-device", "tpm-crb,tpmdev=tpm0");
        }
        if self.watchdog {
            a.pair("-device", "i6300esb,id=watchdog0")
                .pair("-action", "watchdog=reset");
        }
        if self.exit_on_reset {
            a.pair("-action", "reboot=shutdown");
        }
        a.0
    }

    /// Every file that QEMU opens, so that a sandbox can show it those and no others.
    pub fn binds(&self, sockets: &Sockets) -> Vec<Bind> {
        let mut binds = vec![Bind::writable(&sockets.qmp)];
        let files = self.setup.iter().chain(&self.oem_string);
        binds.extend(files.map(|file| Bind::read_only(file)));
        if self.control {
            binds.push(Bind::writable(&sockets.control));
        }
        if self.tpm.is_some() {
            binds.push(Bind::writable(&sockets.tpm));
        }
        match &self.boot {
            Boot::Direct { kernel, initrd, .. } => binds.extend([Bind::read_only(kernel), Bind::read_only(initrd)]),
            Boot::Uefi { code, vars, .. } => binds.extend([Bind::read_only(code), Bind::writable(vars)]),
        }
        for disk in &self.disks {
            binds.push(if disk.snapshot {
                Bind::read_only(&disk.path)
            } else {
                Bind::writable(&disk.path)
            });
            match &disk.filter {
                Some(Filter::Faults(rules)) => binds.push(Bind::read_only(rules)),
                Some(Filter::LogWrites { log, .. }) => binds.push(Bind::writable(log)),
                None => {}
            }
        }
        if self.accel == Accel::Kvm {
            binds.push(Bind::writable(Path::new("/dev/kvm")));
        }
        binds
    }

    fn machine(&self, a: &mut Args) {
        let acpi = if self.acpi { "on" } else { "off" };
        let flash = match self.boot {
            Boot::Uefi { .. } => ",pflash0=code,pflash1=vars",
            Boot::Direct { .. } => "",
        };
        let smm = match self.boot {
            Boot::Uefi { secure: true, .. } => "on",
            _ => "off",
        };
        // q35 is what the appliance meets on real machines and clouds: PCIe, AHCI, an ACPI power button.
        a.pair(
            "-machine",
            format!("q35,acpi={acpi},hpet=off,vmport=off,smm={smm}{flash}"),
        );
        match self.accel {
            Accel::Tcg => a.pair("-accel", "tcg,thread=multi").pair("-cpu", TCG_CPU),
            Accel::Kvm => a.pair("-accel", "kvm").pair("-cpu", "host"),
        };
    }

    fn screen(&self, a: &mut Args) {
        match self.video {
            Video::Off => a.pair("-display", "none"),
            Video::Offscreen => a.pair("-display", "none").pair("-device", "VGA,id=video0"),
            Video::Window => a.pair("-display", "gtk").pair("-device", "VGA,id=video0"),
        };
    }

    fn boot_args(&self, a: &mut Args) {
        match &self.boot {
            Boot::Direct {
                kernel,
                initrd,
                command_line,
            } => {
                a.pair("-kernel", kernel.display().to_string());
                a.pair("-initrd", initrd.display().to_string());
                a.pair("-append", command_line.clone());
            }
            Boot::Uefi { code, vars, secure } => {
                if *secure {
                    a.pair("-global", "driver=cfi.pflash01,property=secure,value=on");
                }
                let flash = |name: &str, file: &Path, read_only: &str| {
                    format!(
                        "driver=file,node-name={name},filename={},read-only={read_only}",
                        path(file)
                    )
                };
                a.pair("-blockdev", flash("code", code, "on"))
                    .pair("-blockdev", flash("vars", vars, "off"));
            }
        }
    }

    fn disk_args(&self, a: &mut Args) {
        if self.disks.iter().any(|d| d.bus == DiskBus::VirtioScsi) {
            a.pair("-device", "virtio-scsi-pci,id=scsi0");
        }
        for (index, disk) in self.disks.iter().enumerate() {
            a.pair("-drive", disk.drive());
            a.pair("-device", disk.device(index));
        }
    }
}

impl Disk {
    /// A virtio disk in a raw file, written back.
    pub fn raw(id: &str, path: &Path) -> Disk {
        Disk {
            id: id.to_owned(),
            path: path.to_owned(),
            format: DiskFormat::Raw,
            bus: DiskBus::VirtioBlk,
            snapshot: false,
            cache: Cache::Writeback,
            filter: None,
        }
    }

    fn drive(&self) -> String {
        let format = match self.format {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        };
        let cache = match self.cache {
            Cache::Writeback => "writeback",
            Cache::Unsafe => "unsafe",
            Cache::None => "none",
        };
        let file = match &self.filter {
            None => format!("file={}", path(&self.path)),
            Some(filter) => {
                let (options, below) = filter.options();
                let file = path(&self.path);
                format!("{options},file.{below}.driver=file,file.{below}.filename={file}")
            }
        };
        let snapshot = if self.snapshot { ",snapshot=on" } else { "" };
        format!(
            "if=none,id=drive-{id},{file},format={format},cache={cache},discard=unmap,detect-zeroes=unmap{snapshot}",
            id = self.id
        )
    }

    fn device(&self, index: usize) -> String {
        let id = &self.id;
        let index = index + 1;
        match self.bus {
            DiskBus::VirtioBlk => {
                // QEMU joins neighbouring requests up to the most pieces that a write can have; blklogwrites then adds two, and the write fails.
                let merging = match self.filter {
                    Some(Filter::LogWrites { .. }) => ",request-merging=off",
                    _ => "",
                };
                format!("virtio-blk-pci,drive=drive-{id},id={id},serial={id},bootindex={index}{merging}")
            }
            DiskBus::VirtioScsi => {
                format!("scsi-hd,bus=scsi0.0,drive=drive-{id},id={id},serial={id},bootindex={index}")
            }
            DiskBus::Nvme => format!("nvme,drive=drive-{id},id={id},serial={id},bootindex={index}"),
        }
    }
}

/// A comma ends a QEMU option unless it stands twice.
fn escape(text: &str) -> String {
    text.replace(',', ",,")
}

fn path(path: &Path) -> String {
    escape(&path.display().to_string())
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn flag(&mut self, flag: &str) -> &mut Args {
        self.0.push(flag.to_owned());
        self
    }

    fn pair(&mut self, flag: &str, value: impl Into<String>) -> &mut Args {
        self.0.push(flag.to_owned());
        self.0.push(value.into());
        self
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
