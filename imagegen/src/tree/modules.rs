//! Kernel modules: decompressed, and indexed the way depmod does it.
//!
//! Dependencies come from what modpost wrote into each module's `.modinfo` (`depends=`), so no symbol table is read.

use std::collections::{BTreeMap, BTreeSet};

use super::elf::section;
use super::{Content, Node, Tree, TreeError};

/// One kernel module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Module {
    /// Path below `usr/lib/modules/RELEASE/`, ending in `.ko`.
    pub path: String,
    /// The modules that it needs, by name.
    pub depends: Vec<String>,
    /// Patterns of the hardware and names that it answers to.
    pub aliases: Vec<String>,
    /// Lines `pre: ...` and `post: ...`.
    pub softdeps: Vec<String>,
    /// Firmware files that it may ask for.
    pub firmware: Vec<String>,
}

/// Every module of one kernel, by name with `-` as `_`.
#[derive(Debug, Clone, Default)]
pub struct KernelModules {
    /// The kernel's release, for example `6.12.48+deb13-cloud-amd64`.
    pub release: String,
    /// The modules.
    pub modules: BTreeMap<String, Module>,
    /// The modules' order as the kernel's build made it (`modules.order`), by name.
    order: BTreeMap<String, usize>,
}

fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

impl Module {
    /// Reads the `.modinfo` section of a decompressed module.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Module, TreeError> {
        let wrong = |why: String| TreeError::Module {
            path: path.to_owned(),
            why,
        };
        let info = section(bytes, ".modinfo").map_err(|e| wrong(e.to_string()))?;
        let info = info.ok_or_else(|| wrong("it has no .modinfo section".into()))?;
        let mut module = Module {
            path: path.to_owned(),
            ..Module::default()
        };
        for entry in info.split(|b| *b == 0) {
            let Ok(entry) = std::str::from_utf8(entry) else {
                continue;
            };
            match entry.split_once('=') {
                Some(("depends", list)) => {
                    module.depends = list
                        .split(',')
                        .filter(|d| !d.is_empty())
                        .map(|d| d.replace('-', "_"))
                        .collect();
                }
                Some(("alias", alias)) => module.aliases.push(alias.to_owned()),
                Some(("softdep", text)) => module.softdeps.push(text.to_owned()),
                Some(("firmware", file)) => module.firmware.push(file.to_owned()),
                _ => {}
            }
        }
        Ok(module)
    }
}

impl KernelModules {
    /// Decompresses every `.ko.xz` below `usr/lib/modules/RELEASE` of `tree` in place, with `threads` threads, and reads
    /// them all. `xz` decompresses one module.
    pub fn unpack(
        tree: &mut Tree,
        threads: usize,
        store: &(dyn Fn(&str, &Content) -> std::io::Result<Content> + Sync),
    ) -> Result<KernelModules, TreeError> {
        let release = tree
            .children("usr/lib/modules")
            .find(|(name, node)| node.is_folder() && tree.get(&format!("usr/lib/modules/{name}/kernel")).is_some())
            .map(|(name, _)| name.to_owned());
        let Some(release) = release else {
            return Ok(KernelModules::default());
        };
        let folder = format!("usr/lib/modules/{release}");
        let below = format!("{folder}/");
        let files: Vec<(String, Content)> = tree
            .nodes
            .range(below.clone()..)
            .take_while(|(p, _)| p.starts_with(&below))
            .filter(|(p, _)| p.ends_with(".ko") || p.ends_with(".ko.xz"))
            .filter_map(|(p, n)| n.content().map(|c| (p.clone(), c.clone())))
            .collect();
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || -> Result<Vec<(String, Content, Module)>, TreeError> {
            let mut out = Vec::new();
            while let Some((path, content)) = files.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                let wrong = |e: std::io::Error| TreeError::Module {
                    path: path.clone(),
                    why: e.to_string(),
                };
                let content = if path.ends_with(".xz") {
                    store(path, content).map_err(wrong)?
                } else {
                    content.clone()
                };
                let plain = path.trim_end_matches(".xz");
                let inner = plain.strip_prefix(&below).unwrap_or(plain);
                let module = Module::parse(inner, &content.read().map_err(wrong)?)?;
                out.push((path.clone(), content, module));
            }
            Ok(out)
        };
        let done = std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
            running
                .into_iter()
                .map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let mut modules = BTreeMap::new();
        for (path, content, module) in done.into_iter().flatten() {
            if let Some(mut node) = tree.nodes.remove(&path) {
                node.kind = super::Kind::File(content);
                tree.nodes.insert(format!("{below}{}", module.path), node);
            }
            modules.insert(name_of(&module.path), module);
        }
        let text = tree
            .text(&format!("{folder}/modules.order"))
            .ok()
            .flatten()
            .unwrap_or_default();
        let order = text.lines().enumerate().map(|(i, line)| (name_of(line), i)).collect();
        Ok(KernelModules {
            release,
            modules,
            order,
        })
    }

    /// Every module that `name` needs, itself left out; each stands before what it needs itself.
    pub fn needs(&self, name: &str) -> Result<Vec<String>, TreeError> {
        let mut out = Vec::new();
        let mut path = Vec::new();
        self.visit(name, &mut path, &mut out)?;
        out.pop();
        out.reverse();
        Ok(out)
    }

    fn visit(&self, name: &str, path: &mut Vec<String>, out: &mut Vec<String>) -> Result<(), TreeError> {
        let wrong = |at: &str, why: String| TreeError::Module {
            path: self.modules.get(at).map_or(at, |m| m.path.as_str()).to_owned(),
            why,
        };
        if out.iter().any(|n| n == name) {
            return Ok(());
        }
        if path.iter().any(|n| n == name) {
            return Err(wrong(name, format!("it needs itself, by way of {}", path.join(", "))));
        }
        let Some(module) = self.modules.get(name) else {
            let by = path.last().cloned().unwrap_or_default();
            return Err(wrong(
                &by,
                format!("it needs the module {name}, which the kernel's package does not hold"),
            ));
        };
        path.push(name.to_owned());
        for need in &module.depends {
            self.visit(need, path, out)?;
        }
        path.pop();
        out.push(name.to_owned());
        Ok(())
    }

    /// These modules with everything that they need, softly too; names that the kernel does not have as modules are
    /// passed over (they may be part of the kernel itself).
    pub fn closure(&self, names: &[String]) -> Result<BTreeSet<String>, TreeError> {
        let mut todo: Vec<String> = names.iter().map(|n| n.replace('-', "_")).collect();
        let mut out = BTreeSet::new();
        while let Some(name) = todo.pop() {
            let found: Vec<String> = if self.modules.contains_key(&name) {
                vec![name]
            } else {
                let by_alias = |m: &Module| m.aliases.iter().any(|a| a.replace('-', "_") == name);
                self.modules
                    .iter()
                    .filter(|(_, m)| by_alias(m))
                    .map(|(n, _)| n.clone())
                    .collect()
            };
            for name in found {
                if !out.insert(name.clone()) {
                    continue;
                }
                todo.extend(self.needs(&name)?);
                for soft in &self.modules[&name].softdeps {
                    todo.extend(
                        soft.split_whitespace()
                            .filter(|w| !w.ends_with(':'))
                            .map(|w| w.replace('-', "_")),
                    );
                }
            }
        }
        Ok(out)
    }

    /// The text indexes for these modules (`None`: all): file name and content.
    pub fn indexes(&self, only: Option<&BTreeSet<String>>) -> Result<Vec<(&'static str, String)>, TreeError> {
        let mut names: Vec<&String> = self
            .modules
            .keys()
            .filter(|n| only.is_none_or(|o| o.contains(*n)))
            .collect();
        names.sort_by_key(|n| (self.order.get(*n).copied().unwrap_or(usize::MAX), (*n).clone()));
        let mut dep = String::new();
        let mut alias = String::from("# Aliases extracted from modules themselves.\n");
        let mut soft = String::from("# Soft dependencies extracted from modules themselves.\n");
        let mut devname = String::from("# Device nodes to trigger on-demand module loading.\n");
        for name in names {
            let module = &self.modules[name];
            dep += &module.path;
            dep.push(':');
            for need in self.needs(name)? {
                dep.push(' ');
                dep += &self.modules[&need].path;
            }
            dep.push('\n');
            for pattern in &module.aliases {
                alias += &format!("alias {pattern} {name}\n");
            }
            for text in &module.softdeps {
                soft += &format!("softdep {name} {text}\n");
            }
            let node = module.aliases.iter().find_map(|a| a.strip_prefix("devname:"));
            let number = module.aliases.iter().find_map(|a| {
                let (kind, rest) = a.split_once("-major-")?;
                let (major, minor) = rest.split_once('-')?;
                let kind = if kind == "char" { 'c' } else { 'b' };
                Some(format!(
                    "{kind}{}:{}",
                    major.parse::<u32>().ok()?,
                    minor.parse::<u32>().ok()?
                ))
            });
            if let (Some(node), Some(number)) = (node, number) {
                devname += &format!("{name} {node} {number}\n");
            }
        }
        Ok(vec![
            ("modules.dep", dep),
            ("modules.alias", alias),
            ("modules.softdep", soft),
            ("modules.devname", devname),
        ])
    }

    /// Puts the indexes of all modules into the tree.
    pub fn write_indexes(&self, tree: &mut Tree) -> Result<(), TreeError> {
        if self.release.is_empty() {
            return Ok(());
        }
        for (name, text) in self.indexes(None)? {
            let path = format!("usr/lib/modules/{}/{name}", self.release);
            tree.put(&path, Node::file(Content::bytes(text), 0o644, "imagegen"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(edges: &[(&str, &[&str])]) -> KernelModules {
        let mut kernel = KernelModules {
            release: "1".into(),
            ..KernelModules::default()
        };
        for (name, needs) in edges {
            let depends = needs.iter().map(|n| (*n).to_owned()).collect();
            let module = Module {
                path: format!("kernel/{name}.ko"),
                depends,
                ..Module::default()
            };
            kernel.modules.insert((*name).to_owned(), module);
        }
        kernel
    }

    #[test]
    fn what_is_needed_is_loaded_first_when_read_from_the_end() {
        let kernel = kernel(&[
            ("ext4", &["jbd2", "mbcache"]),
            ("jbd2", &["crc"]),
            ("mbcache", &[]),
            ("crc", &[]),
        ]);
        let needs = kernel.needs("ext4").unwrap();
        let at = |n: &str| needs.iter().position(|x| x == n).unwrap();
        assert_eq!(needs.len(), 3);
        assert!(at("jbd2") < at("crc"));
        let dep = &kernel.indexes(None).unwrap()[0].1;
        assert!(dep.contains("kernel/jbd2.ko: kernel/crc.ko\n"), "{dep}");
    }

    #[test]
    fn a_circle_and_a_missing_module_are_errors() {
        assert!(kernel(&[("a", &["b"]), ("b", &["a"])]).needs("a").is_err());
        assert!(
            kernel(&[("a", &["gone"])])
                .needs("a")
                .unwrap_err()
                .to_string()
                .contains("gone")
        );
    }

    #[test]
    fn the_closure_passes_over_what_is_built_in() {
        let kernel = kernel(&[("a", &["b"]), ("b", &[]), ("c", &[])]);
        let names = ["a".to_owned(), "builtin-thing".to_owned()];
        assert_eq!(
            kernel.closure(&names).unwrap(),
            BTreeSet::from(["a".into(), "b".into()])
        );
    }
}
