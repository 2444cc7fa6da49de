//! Build times and image sizes of `appliances/base.toml`.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use cairn_unit::Arch;
use imagegen::cache::Cache;
use serde_json::Value;

use crate::figure::{Goal, Row, Samples, Unit};
use crate::peer::Peers;
use crate::runs;

/// A copy of the recipes that the benchmark may change, and a cache that it may empty.
pub(crate) struct Bed {
    pub(crate) project: PathBuf,
    cache: PathBuf,
    out: PathBuf,
    pub(crate) binaries: PathBuf,
}

impl Bed {
    pub(crate) fn new(folder: &Path) -> Result<Bed, Box<dyn Error>> {
        let workspace = qemu_tests::images::workspace();
        let bed = Bed {
            project: folder.join("project"),
            cache: folder.join("cache"),
            out: folder.join("out"),
            binaries: folder.join("binaries"),
        };
        for part in [&bed.project, &bed.cache, &bed.out, &bed.binaries] {
            if part.exists() {
                fs::remove_dir_all(part)?;
            }
            fs::create_dir_all(part)?;
        }
        for part in ["appliances", "units", "overlays"] {
            copy(&workspace.join(part), &bed.project.join(part))?;
        }
        // One ordinary build fetches packages and tools and builds our programs; none of that is measured.
        imagegen(
            &workspace.join("appliances/base.toml"),
            &folder.join("warm"),
            None,
            None,
            &[],
        )?;
        let target = Arch::Amd64.rust_target();
        let programs = qemu_tests::images::target()
            .join("appliance")
            .join(target)
            .join("appliance");
        for entry in fs::read_dir(&programs)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), bed.binaries.join(entry.file_name()))?;
            }
        }
        Ok(bed)
    }

    /// Packages and tools are there, nothing is unpacked.
    fn cold(&self) -> Result<(), Box<dyn Error>> {
        fs::remove_dir_all(&self.cache)?;
        fs::remove_dir_all(&self.out)?;
        let from = Cache::from_env()?;
        for part in ["blobs", "tools", "indexes"] {
            let (from, to) = (from.root().join(part), self.cache.join(part));
            if from.exists() {
                fs::create_dir_all(&self.cache)?;
                let done = Command::new("cp").arg("-al").args([&from, &to]).status()?;
                if !done.success() {
                    return Err(format!(
                        "cannot link {} to {}: are they on one file system?",
                        from.display(),
                        to.display()
                    )
                    .into());
                }
            }
        }
        Ok(())
    }

    fn build(&self, arguments: &[&str]) -> Result<(f64, Value), Box<dyn Error>> {
        let recipe = self.project.join("appliances/base.toml");
        let start = Instant::now();
        let report = imagegen(&recipe, &self.out, Some(&self.cache), Some(&self.binaries), arguments)?;
        Ok((start.elapsed().as_secs_f64(), report))
    }
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

pub(crate) fn imagegen(
    recipe: &Path,
    out: &Path,
    cache: Option<&Path>,
    binaries: Option<&Path>,
    arguments: &[&str],
) -> Result<Value, Box<dyn Error>> {
    let mut command = Command::new(qemu_tests::images::imagegen()?);
    command
        .args(["build", "--json", "--format", "raw"])
        .args(arguments)
        .arg(recipe)
        .arg("-o")
        .arg(out);
    if let Some(cache) = cache {
        command.env("IMAGEGEN_CACHE", cache);
    }
    if let Some(binaries) = binaries {
        command.arg("--binaries").arg(binaries);
    }
    let output = command.output()?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        return Err(format!("imagegen build failed: {}", String::from_utf8_lossy(&said)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The packages that base.toml names: what a peer is asked for too.
fn packages() -> Result<Vec<String>, Box<dyn Error>> {
    let recipe = qemu_tests::images::workspace().join("appliances/base.toml");
    let options = imagegen::build::Options {
        arch: Arch::Amd64,
        formats: None,
        profile: None,
        output: "build".into(),
        binaries: None,
    };
    let plan = imagegen::build::plan(&recipe, &options)?;
    let mut names: Vec<String> = plan.recipe.host.packages.clone();
    names.push(plan.recipe.host.kernel.replace("{arch}", Arch::Amd64.debian()));
    names.extend(plan.units.values().flat_map(|unit| unit.packages.clone()));
    names.sort();
    names.dedup();
    Ok(names)
}

/// Cold, unchanged and changed builds.
pub(crate) fn times(folder: &Path) -> Result<Vec<Row>, Box<dyn Error>> {
    let bed = Bed::new(folder)?;
    let peers = Peers::prepare(folder);
    let names = packages()?;
    let (mut cold, mut same, mut changed) = (vec![], vec![], vec![]);
    let mut theirs: Result<Vec<f64>, String> = match &peers {
        // The first run fills mkosi's own package cache; it is not counted.
        Ok(peers) => peers
            .run("mkosi.sh", &names)
            .map(|()| vec![])
            .map_err(|e| format!("mkosi: {e}")),
        Err(why) => Err(format!("mkosi: {why}")),
    };
    let page = bed.project.join("overlays/caddy/usr/share/cairn/caddy/style.css");
    for run in 0..runs() {
        bed.cold()?;
        cold.push(bed.build(&["--profile", "fast", "--offline"])?.0);
        same.push(bed.build(&["--profile", "fast", "--offline"])?.0);
        fs::write(&page, format!("/* {run} */\n"))?;
        changed.push(bed.build(&["--profile", "fast", "--offline"])?.0);
        if let (Ok(peers), Ok(samples)) = (&peers, &mut theirs) {
            let start = Instant::now();
            peers.run("mkosi.sh", &names)?;
            samples.push(start.elapsed().as_secs_f64());
        }
    }
    let peer = theirs.map(|samples| ("mkosi".to_owned(), Samples(samples)));
    let row = |what: &str, ours: Vec<f64>, peer: Result<(String, Samples), String>, goal| Row {
        what: what.into(),
        unit: Unit::Seconds,
        ours: Samples(ours),
        peer,
        goal,
    };
    let none = || Err(String::new());
    Ok(vec![
        row(
            "cold build of base, fast, packages cached",
            cold,
            peer,
            Goal::Share(0.125),
        ),
        row("the same again, nothing changed", same, none(), Goal::AtMost(0.5)),
        row(
            "after a change to one unit's overlay",
            changed,
            none(),
            Goal::AtMost(2.0),
        ),
    ])
}

/// The release image and the initrd.
pub(crate) fn sizes(folder: &Path) -> Result<Vec<Row>, Box<dyn Error>> {
    let bed = Bed::new(folder)?;
    let mkosi = |file: &str| match Peers::prepare(folder) {
        Ok(peers) => {
            let path = peers.out().join(file);
            if !path.exists() {
                let names = packages().map_err(|e| e.to_string())?;
                peers.run("mkosi.sh", &names).map_err(|e| format!("mkosi: {e}"))?;
            }
            let length = fs::metadata(&path)
                .map_err(|e| format!("mkosi: {}: {e}", path.display()))?
                .len();
            Ok(("mkosi".to_owned(), Samples(vec![length as f64])))
        }
        Err(why) => Err(format!("mkosi: {why}")),
    };
    bed.cold()?;
    let (_, report) = bed.build(&["--profile", "release", "--offline"])?;
    let size = |key: &Value| -> Result<f64, Box<dyn Error>> {
        let path = key.as_str().ok_or("imagegen did not name a file")?;
        Ok(fs::metadata(path)?.len() as f64)
    };
    let row = |what: &str, ours, peer, goal| Row {
        what: what.into(),
        unit: Unit::Bytes,
        ours: Samples(vec![ours]),
        peer,
        goal,
    };
    let build = &report["build"];
    Ok(vec![
        row(
            "image of base, release",
            size(&build["images"][0])?,
            mkosi("mkosi.raw"),
            Goal::Share(0.25),
        ),
        row(
            "initrd",
            size(&build["initrd"])?,
            mkosi("mkosi.initrd"),
            Goal::AtMost(8e6),
        ),
    ])
}
