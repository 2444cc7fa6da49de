//! `imagegen run`: builds if needed and boots the image under QEMU at this terminal.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use cairn_unit::{Name, Protocol, Unit};
use serde_json::json;

use super::arguments::{Build, Run};
use super::interrupt::Interrupt;
use super::{build, project};
use crate::archive::Mirror;
use crate::build::{BuildPlan, Report};
use crate::cache::{Cache, FetchOptions};
use crate::leftovers;
use crate::machine::{
    Boot, Cache as DiskCache, Disk, DiskBus, DiskFormat, Firmware, Forward, MachineSpec, RunOptions, Video,
    decide_accel, run_interactive,
};
use crate::report::{Bars, print_json};
use crate::tools::{ToolSet, load_tools};

/// The least size of the disk that the guest gets; the image itself is smaller and grows at its first boot.
const DISK: u64 = 8 << 30;

/// Returns the exit status.
pub(super) fn run(options: &Run, interrupt: &Interrupt, json: bool) -> Result<u8, Box<dyn Error>> {
    // Before the build, which may take minutes.
    for (host, _) in &options.ports {
        free_port(*host)?;
    }
    // It goes to the guest, so that the image is the one that is handed out.
    let build = Build {
        site: None,
        ..options.build.clone()
    };
    if let Some(file) = &options.build.site {
        let arch = project::arch(build.arch)?;
        project::load(&build.recipe.recipe, arch)?.choices(file)?;
    }
    let (plan, report, _) = build::build(&build, json)?;
    let cache = Cache::from_env()?;
    let fetch = FetchOptions {
        offline: options.build.offline,
        ..FetchOptions::default()
    };
    let mirror = || Mirror::discover().map_err(|e| e.to_string());
    let tools = load_tools(ToolSet::Tools, &cache, &mirror, &fetch, None, &Bars::new(json))?;
    let accel = decide_accel(&tools, &cache.root().join("accel.json"))?;
    let folder = tempfile::Builder::new().prefix("imagegen-run-").tempdir()?;
    let _watched = leftovers::watch(folder.path());
    let disk = disk(options, &report, folder.path())?;
    let boot = if options.direct_kernel {
        let command_line = fs::read_to_string(&report.command_line)?;
        Boot::Direct {
            kernel: absolute(&report.kernel)?,
            initrd: absolute(&report.initrd)?,
            command_line: command_line.trim().into(),
        }
    } else {
        // The data partition is encrypted only where Secure Boot is in force.
        let secure = options.secure_boot || plan.recipe.image.data_encryption.is_some();
        Firmware::find(&tools.root, secure)?.boot(folder.path())?
    };
    let mut spec = MachineSpec::new(plan.recipe.name.as_str(), accel.accel, boot);
    spec.cpus = options.cpus;
    spec.memory_mib = u32::try_from(options.memory.0 >> 20)?;
    spec.video = if options.headless { Video::Off } else { Video::Offscreen };
    spec.forwards = forwards(options, &plan);
    spec.setup = options.build.site.as_deref().map(absolute).transpose()?;
    // An appliance that has its key kept wants one; with a disk that is kept, it is kept beside it.
    spec.tpm = plan.recipe.image.data_encryption.map(|_| match &options.disk {
        Some(disk) => disk.with_extension("tpm"),
        None => folder.path().join("tpm"),
    });
    if let Some(state) = &mut spec.tpm {
        fs::create_dir_all(&*state)?;
        *state = absolute(state)?;
    }
    spec.disks = vec![Disk {
        id: "disk0".into(),
        path: disk,
        format: DiskFormat::Raw,
        bus: DiskBus::VirtioBlk,
        snapshot: false,
        cache: if options.disk.is_some() {
            DiskCache::Writeback
        } else {
            DiskCache::Unsafe
        },
        filter: None,
    }];
    interrupt.disarm();
    let run = RunOptions {
        console_on_stderr: json,
        ..RunOptions::default()
    };
    let status = run_interactive(&tools, &spec, &run)?;
    if json {
        print_json(&json!({ "run": { "name": plan.recipe.name, "shut_down": status == 0 } }))?;
    }
    Ok(status)
}

/// The disk to boot from: the one to keep, made from the image if it is not there yet, or a copy to throw away.
fn disk(options: &Run, report: &Report, folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let image = report.images.first().ok_or("the build made no raw image")?;
    let path = match &options.disk {
        Some(path) if path.exists() => return absolute(path),
        Some(path) => path.clone(),
        None => folder.join("disk.raw"),
    };
    let failed = |e: std::io::Error| {
        let advice = match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space",
            ErrorKind::NotFound => "make its folder first",
            _ => "name another file with --disk",
        };
        format!("cannot make the disk {}: {e}; {advice}", path.display())
    };
    // Under another name until it is whole: half a disk would be gone on with next time.
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    let unfinished = tempfile::Builder::new()
        .prefix(".imagegen-disk-")
        .tempfile_in(parent.unwrap_or(Path::new(".")))
        .map_err(failed)?;
    let _watched = leftovers::watch(unfinished.path());
    fs::copy(image, unfinished.path()).map_err(failed)?;
    let file = unfinished.as_file();
    let size = file.metadata().map_err(failed)?.len();
    file.set_len(size.max(DISK)).map_err(failed)?;
    unfinished.persist(&path).map_err(|e| failed(e.error))?;
    absolute(&path)
}

/// Fails, saying what to do, where the port of this machine's loopback is not to be had.
fn free_port(port: u16) -> Result<(), String> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(format!(
            "port {port} of this machine is taken: choose another with --port, or leave it out for a free one"
        )),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(format!(
            "port {port} of this machine is kept for root: choose one from 1024 on with --port"
        )),
        Err(error) => Err(format!("port {port} of this machine is not to be had: {error}")),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Box<dyn Error>> {
    Ok(fs::canonicalize(path)?)
}

/// The ports that were asked for, or every published TCP port on a free one.
fn forwards(options: &Run, plan: &BuildPlan) -> Vec<Forward> {
    if !options.ports.is_empty() {
        return options
            .ports
            .iter()
            .map(|(host, guest)| Forward {
                host: *host,
                guest: *guest,
            })
            .collect();
    }
    let guests = published(&plan.units, plan.recipe.setup.as_ref());
    guests.into_iter().map(|guest| Forward { host: 0, guest }).collect()
}

/// The TCP ports that units publish; first those of the unit by which the appliance is set up, which alone answers until then.
fn published(units: &BTreeMap<Name, Unit>, setup: Option<&Name>) -> Vec<u16> {
    let mut units: Vec<(&Name, &Unit)> = units.iter().collect();
    units.sort_by_key(|(name, _)| Some(*name) != setup);
    let all = units.into_iter().flat_map(|(_, unit)| &unit.network.publish);
    all.filter(|publish| publish.protocol == Protocol::Tcp)
        .map(|publish| publish.port)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_unit::Source;

    #[test]
    fn the_address_at_which_an_appliance_is_set_up_comes_first() {
        let unit = |name: &str, ports: &[u16]| {
            let publish: String = ports
                .iter()
                .map(|port| format!("[[network.publish]]\nport = {port}\n"))
                .collect();
            let text = format!("description = \"d\"\n[service]\ncommand = [\"/bin/true\"]\n{publish}");
            let file = "unit.toml".into();
            let unit: Unit = Source { file, text }.parse().unwrap();
            (name.parse::<Name>().unwrap(), unit)
        };
        let units = BTreeMap::from([unit("caddy", &[80, 443]), unit("panel", &[8443]), unit("slapd", &[636])]);
        let setup = "panel".parse().ok();
        assert_eq!(published(&units, setup.as_ref()), [8443, 80, 443, 636]);
        assert_eq!(published(&units, None), [80, 443, 8443, 636]);
    }
}
