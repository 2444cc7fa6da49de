//! The one place that performs a plan.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use cairn_unit::{Arch, Enroll, Format, Name, Profile};
use sha2::{Digest as _, Sha256};

use super::contents::{self, Loaded};
use super::manifest::{ImageManifest, describe};
use super::outputs::{Outputs, full_disk};
use super::report::{StageTime, Watch, milliseconds};
use super::roots::{Root, service_root};
use super::stamp::{self, Stamp};
use super::{BuildError, BuildPlan, Report, RootPlan, binaries, host, initrd};
use crate::archive::Mirror;
use crate::cache::{Cache, FetchOptions, Transport, fetch_all};
use crate::image::erofs::{Compression, Options as ErofsOptions};
use crate::image::secureboot::{self, SigningKey};
use crate::image::tool::ToolRunner;
use crate::image::{disk, erofs, esp, formats, guid_for, uki};
use crate::progress::{Progress, Stage};
use crate::tools::{ToolSet, load_tools};
use crate::tree::{Rules, Tree, write_tar};

/// What a build uses of its surroundings.
pub struct Services<'a> {
    /// The cache.
    pub cache: &'a Cache,
    /// Downloads; `offline` fetches nothing.
    pub fetch: &'a FetchOptions,
    /// The mirror, looked for only if something must be fetched.
    pub mirror: &'a (dyn Fn() -> Result<Mirror, String> + Sync),
    /// The tools; `None`: the tools tree of the cache, fetched if need be.
    pub tools: Option<&'a dyn ToolRunner>,
    /// The program that sets up the tools' sandbox; `None`: this program.
    pub helper: Option<PathBuf>,
    /// Who is told how far it is.
    pub progress: &'a dyn Progress,
}

/// Performs the plan, or finds that its outputs are there already.
pub fn run(plan: &BuildPlan, services: &Services<'_>) -> Result<Report, BuildError> {
    let begun = Instant::now();
    let outputs = Outputs::of(plan);
    let tools_hash = match services.tools {
        Some(_) => "given".to_owned(),
        None => format!("{:?}", ToolSet::Tools.lock()?.inputs),
    };
    let key = stamp::key(plan, &tools_hash)?;
    let report = |root_hash: String, unchanged, stages| Report {
        unchanged,
        images: plan.formats.iter().map(|f| outputs.image(*f)).collect(),
        manifest: outputs.manifest(),
        kernel: outputs.kernel(),
        initrd: outputs.initrd(),
        command_line: outputs.command_line(),
        root_hash,
        stages,
        milliseconds: milliseconds(begun.elapsed()),
    };
    let files = outputs.all(&plan.formats);
    if let Some(stamp) = Stamp::valid(&outputs.stamp(), &key, &files) {
        return Ok(report(stamp.root_hash, true, Vec::new()));
    }
    let _in_use = services.cache.in_use()?;
    let workshop = outputs.workshop()?;
    let stages = Mutex::new(Vec::new());
    let made = make(plan, services, &outputs, workshop.path(), &stages);
    let needed = plan.packages().iter().map(|p| p.size * 4).sum::<u64>() + plan.recipe.image.esp.0;
    let root_hash = made.map_err(|error| full_disk(error, &plan.output, needed))?;
    Stamp::new(&key, &root_hash, files.iter().map(PathBuf::as_path)).write(&outputs.stamp())?;
    let stages = stages.into_inner().unwrap_or_default();
    Ok(report(root_hash, false, stages))
}

/// A unit's root as it will be in the image, without building one: for tests and for looking at it. Its `programs` are empty files.
pub fn preview_root(plan: &BuildPlan, unit: &Name, services: &Services<'_>) -> Result<Tree, BuildError> {
    let rules = Rules::new(&plan.recipe.exclude)?;
    let loaded = fetch_and_unpack(plan, services, &|_| ())?;
    let (Some(root), Some(spec)) = (plan.roots.get(unit), plan.units.get(unit)) else {
        return Err(BuildError::NoCommand {
            unit: unit.to_string(),
            path: "the unit".into(),
        });
    };
    Ok(service_root(plan, unit, root, spec, &loaded, &rules)?.tree)
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn make(
    plan: &BuildPlan,
    services: &Services<'_>,
    outputs: &Outputs,
    workshop: &Path,
    stages: &Mutex<Vec<StageTime>>,
) -> Result<String, BuildError> {
    let stage = |time: StageTime| {
        if let Ok(mut stages) = stages.lock() {
            stages.push(time);
        }
    };
    let rules = Rules::new(&plan.recipe.exclude)?;
    // Our own programs compile while packages are fetched and unpacked and the service roots are put together.
    let (programs, loaded, assembled) = std::thread::scope(|scope| {
        let programs = scope.spawn(|| {
            let watch = Watch::start("programs");
            services.progress.start(Stage::Compile, 0);
            let folder = plan.binaries.provide(plan.arch, plan.extras(), &plan.units);
            services.progress.finish(Stage::Compile);
            stage(watch.stop(0));
            folder
        });
        let made = fetch_and_unpack(plan, services, &stage).and_then(|loaded| {
            let watch = Watch::start("roots");
            let assembled = assemble(plan, services, &loaded, &rules)?;
            stage(watch.stop(0));
            Ok((loaded, assembled))
        });
        let programs = join(programs);
        made.and_then(|(loaded, assembled)| Ok((programs?, loaded, assembled)))
    })?;
    let (kernel, mut roots) = assembled;
    for (name, root) in &mut roots {
        if plan.agent() {
            binaries::lay_agent(&programs, &mut root.tree)?;
        }
        binaries::lay_programs(&programs, &plan.units[name], &mut root.tree)?;
    }
    let own_tools;
    let tools: &dyn ToolRunner = match services.tools {
        Some(tools) => tools,
        None => {
            let watch = Watch::start("tools");
            let (cache, fetch, helper) = (services.cache, services.fetch, services.helper.clone());
            own_tools = load_tools(ToolSet::Tools, cache, services.mirror, fetch, helper, services.progress)?;
            stage(watch.stop(0));
            &own_tools
        }
    };

    let watch = Watch::start("assemble");
    let manifest = host::manifest(plan, &roots)?;
    super::templates::check(&manifest, &roots)?;
    let (stub, loader) = boot_files(plan, &loaded)?;
    let keys = plan.secure_boot.as_ref();
    let key = keys.map(|keys| SigningKey::read(&keys.folder)).transpose()?;
    let signed = |program: Vec<u8>| match &key {
        Some(key) => secureboot::sign(&program, key),
        None => Ok(program),
    };
    let loader = signed(loader)?;
    let arch = match plan.arch {
        Arch::Amd64 => cairn_disk::gpt::Arch::X86_64,
        Arch::Arm64 => cairn_disk::gpt::Arch::Arm64,
    };
    // Nobody mends the ESP of an image that does not hold the program for it.
    let copies = match plan.recipe.upgrade {
        Some(_) => esp::loader(arch, &loader, keys.map_or(Enroll::Off, |keys| keys.enroll)),
        None => BTreeMap::new(),
    };
    let host_root = host::host_root(
        plan,
        &loaded,
        &rules,
        kernel.tree.clone(),
        &programs,
        &manifest,
        &copies,
    )?;
    let whole = whole_tree(&host_root, &roots);
    stage(watch.stop(whole.iter().filter_map(|(_, n)| n.content()).map(|c| c.len).sum()));

    let root_file = workshop.join("root.erofs");
    let uuid = guid_for("root file system", &tree_digest(&whole, plan.epoch));
    let options = ErofsOptions {
        compression: match plan.profile {
            Profile::Fast => Compression::Lz4,
            Profile::Release => Compression::Zstd(cairn_upgrade::units::LEVEL),
        },
        epoch: plan.epoch,
        uuid,
    };
    let mut all: BTreeMap<String, (&RootPlan, &Root)> = roots
        .iter()
        .map(|(name, root)| (name.to_string(), (&plan.roots[name], root)))
        .collect();
    all.insert(crate::sbom::HOST.into(), (&plan.host, &host_root));
    let compiled = super::crates::Compiled::beside(&programs)?;
    let (root, initrd, (inventory, entries)) = std::thread::scope(|scope| {
        let described = scope.spawn(|| describe(plan, &all, &loaded, &compiled));
        let initrd = scope.spawn(|| {
            let watch = Watch::start("initrd");
            let path = programs.join("cairn-init");
            let init = fs::read(&path).map_err(BuildError::io("read", &path))?;
            let bytes = initrd::initrd(plan, &kernel, init.clone())?;
            let recovery = recovery_initrd(plan, &kernel, &programs, init, &manifest)?;
            stage(watch.stop((bytes.len() + recovery.as_ref().map_or(0, Vec::len)) as u64));
            Ok::<_, BuildError>((bytes, recovery))
        });
        let root = (|| {
            let watch = Watch::start("root");
            let total = whole.iter().filter_map(|(_, n)| n.content()).map(|c| c.len).sum();
            services.progress.start(Stage::Write, total);
            let progress = services.progress;
            let write = |out: &mut dyn std::io::Write| {
                write_tar(&whole, plan.epoch, out, &mut |n| progress.advance(Stage::Write, n)).map(|_| ())
            };
            let made = erofs::from_stream(tools, write, &root_file, &options);
            services.progress.finish(Stage::Write);
            let size = made?;
            stage(watch.stop(size));
            let watch = Watch::start("verity");
            let file = File::open(&root_file).map_err(BuildError::io("open", &root_file))?;
            let tree = disk::hash_tree(&file, size, uuid)?;
            stage(watch.stop(tree.size()));
            Ok::<_, BuildError>((file, size, tree))
        })();
        (root, join(initrd), join(described))
    });
    let ((root, root_size, tree), (initrd, recovery)) = (root?, initrd?);
    let root_hash = tree.root.to_string();

    let watch = Watch::start("disk");
    let command_line = plan.command_line(&root_hash);
    let release = host::release(plan).text();
    let parts = uki::Parts {
        osrel: &release,
        cmdline: &command_line,
        uname: &kernel.modules.release,
        initrd: &initrd,
        linux: &kernel.image,
    };
    let time = u32::try_from(plan.epoch).unwrap_or(u32::MAX);
    let uki = signed(uki::build(&stub, &parts, time)?)?;
    let recovery = recovery.map(|initrd| {
        let parts = uki::Parts {
            osrel: &host::recovery_release(plan),
            cmdline: &plan.recovery_command_line(),
            initrd: &initrd,
            ..parts
        };
        uki::build(&stub, &parts, time).and_then(signed)
    });
    let recovery = recovery.transpose()?;
    let esp = esp::contents(&esp::Inputs {
        arch,
        name: plan.recipe.name.as_str(),
        version: &plan.recipe.version,
        loader: &loader,
        uki: &uki,
        recovery: recovery.as_deref(),
        epoch: plan.epoch,
        setup: plan.setup.as_deref(),
        keys: keys.map(|keys| esp::Keys {
            enroll: keys.enroll,
            files: &keys.enrolment.files,
        }),
    })?;
    if recovery.is_some() {
        esp::check_room(&esp, uki.len() as u64, plan.recipe.image.esp.0)?;
    }
    let sizes = disk::Sizes {
        esp: plan.recipe.image.esp.0,
        root: root_size,
        slot: plan.recipe.image.slot.0,
    };
    let layout = disk::plan(arch, sizes, &tree, &esp)?;
    let raw = workshop.join("image.raw");
    disk::write(
        &layout,
        &disk::Contents {
            esp: &esp,
            tree: &tree,
            root: &root,
        },
        &raw,
    )?;
    stage(watch.stop(layout.size));

    let mut made: Vec<(PathBuf, PathBuf)> = Vec::new();
    for format in plan.formats.iter().filter(|f| **f != Format::Raw) {
        let watch = Watch::start(format.extension());
        let path = workshop.join(format!("image.{}", format.extension()));
        let from = File::open(&raw).map_err(BuildError::io("open", &raw))?;
        let kind = match format {
            Format::Qcow2 => formats::Format::Qcow2,
            Format::Vmdk => formats::Format::Vmdk,
            _ => formats::Format::Vhdx,
        };
        formats::convert(&from, kind, &path, layout.table.disk)?;
        stage(watch.stop(fs::metadata(&path).map_or(0, |m| m.len())));
        made.push((path, outputs.image(*format)));
    }
    made.push((raw, outputs.image(Format::Raw)));

    let watch = Watch::start("manifest");
    let manifest = ImageManifest {
        states: super::states::all(&manifest),
        root_hash: root_hash.clone(),
        arch: plan.arch.to_string(),
        root_size,
        initrd_size: initrd.len() as u64,
        inventory,
        roots: entries,
    };
    let manifest = serde_json::to_vec(&manifest).unwrap_or_default();
    stage(watch.stop(manifest.len() as u64));
    let mut text = command_line;
    text.push('\n');
    for (name, bytes, to) in [
        ("manifest", &manifest[..], outputs.manifest()),
        ("vmlinuz", &kernel.image[..], outputs.kernel()),
        ("initrd", &initrd[..], outputs.initrd()),
        ("cmdline", text.as_bytes(), outputs.command_line()),
    ] {
        let path = workshop.join(name);
        fs::write(&path, bytes).map_err(BuildError::io("write", &path))?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .map_err(BuildError::io("set the mode of", &path))?;
        made.push((path, to));
    }
    // An earlier image is no longer what its stamp says from here on.
    let _ = fs::remove_file(outputs.stamp());
    for (from, to) in made {
        outputs.hand_out(&from, &to)?;
    }
    Ok(root_hash)
}

/// The initrd of recovery, for an appliance that has versions to choose from.
fn recovery_initrd(
    plan: &BuildPlan,
    kernel: &host::Kernel,
    programs: &Path,
    init: Vec<u8>,
    manifest: &cairn_unit::Manifest,
) -> Result<Option<Vec<u8>>, BuildError> {
    let Some(trusted) = &plan.trusted else { return Ok(None) };
    let path = programs.join(binaries::RECOVERY);
    let program = fs::read(&path).map_err(BuildError::io("read", &path))?;
    let recovery = initrd::Recovery {
        init,
        program,
        manifest: &host::manifest_text(manifest),
        trusted,
    };
    initrd::recovery(plan, kernel, recovery).map(Some)
}

/// The kernel and the service roots.
fn assemble(
    plan: &BuildPlan,
    services: &Services<'_>,
    loaded: &BTreeMap<String, Loaded>,
    rules: &Rules,
) -> Result<(host::Kernel, BTreeMap<Name, Root>), BuildError> {
    std::thread::scope(|scope| {
        let kernel = scope.spawn(|| host::kernel(plan, loaded, services.cache, rules));
        let roots: Result<BTreeMap<Name, Root>, BuildError> = plan
            .roots
            .iter()
            .map(|(name, root)| {
                let made = service_root(plan, name, root, &plan.units[name], loaded, rules)?;
                Ok((name.clone(), made))
            })
            .collect();
        Ok((join(kernel)?, roots?))
    })
}

fn fetch_and_unpack(
    plan: &BuildPlan,
    services: &Services<'_>,
    stage: &dyn Fn(StageTime),
) -> Result<BTreeMap<String, Loaded>, BuildError> {
    let packages = plan.packages();
    let watch = Watch::start("fetch");
    let missing = packages
        .iter()
        .filter(|p| services.cache.blob(&p.sha256, p.size).is_none())
        .count();
    let mut received = 0;
    if missing > 0 {
        let wanted: std::collections::HashSet<_> = packages.iter().map(|p| p.sha256.to_string()).collect();
        let mirror = if services.fetch.offline {
            // Nothing is asked of it: the error lists what is missing.
            Mirror::new("file:///nonexistent", None)
        } else {
            (services.mirror)().map_err(BuildError::Mirror)?
        };
        let wants: Vec<_> = plan
            .lock
            .wants(&mirror)
            .into_iter()
            .filter(|w| wanted.contains(&w.sha256.to_string()))
            .collect();
        let transport = Transport::new(contents::PATIENCE);
        received = fetch_all(services.cache, &transport, &wants, services.fetch, services.progress)?.received;
    }
    stage(watch.stop(received));
    let watch = Watch::start("unpack");
    let loaded = contents::load_by_name(services.cache, &packages, services.progress)?;
    stage(watch.stop(loaded.values().map(|p| p.bytes).sum()));
    Ok(loaded)
}

/// The host root with every service root below `/services`.
fn whole_tree(host: &Root, roots: &BTreeMap<Name, Root>) -> Tree {
    let mut whole = host.tree.clone();
    for (name, root) in roots {
        whole.graft(&format!("services/{name}"), root.tree.clone());
    }
    whole
}

/// A hash over everything that the tree is.
fn tree_digest(tree: &Tree, epoch: u64) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(epoch.to_le_bytes());
    for (path, node) in tree.iter() {
        hash.update((path.len() as u64).to_le_bytes());
        hash.update(path);
        hash.update([node.mode.to_le_bytes(), node.uid.to_le_bytes(), node.gid.to_le_bytes()].concat());
        match &node.kind {
            crate::tree::Kind::File(content) => hash.update(content.digest),
            other => hash.update(format!("{other:?}")),
        }
        hash.update(format!("{:?}", node.xattrs));
    }
    hash.finalize().into()
}

/// systemd's stub and boot loader for the image's architecture.
fn boot_files(plan: &BuildPlan, loaded: &BTreeMap<String, Loaded>) -> Result<(Vec<u8>, Vec<u8>), BuildError> {
    let suffix = match plan.arch {
        Arch::Amd64 => "x64",
        Arch::Arm64 => "aa64",
    };
    let read = |path: String| {
        let entries = plan
            .loader
            .iter()
            .filter_map(|p| loaded.get(&p.name))
            .flat_map(|p| &p.files.entries);
        let content = entries.filter(|(at, _)| *at == path).find_map(|(_, n)| n.content());
        let content = content.ok_or_else(|| BuildError::NoBootFile {
            what: format!("/{path}"),
        })?;
        content.read().map_err(BuildError::io("read", path.as_ref()))
    };
    Ok((
        read(format!("usr/lib/systemd/boot/efi/linux{suffix}.efi.stub"))?,
        read(format!("usr/lib/systemd/boot/efi/systemd-boot{suffix}.efi"))?,
    ))
}
