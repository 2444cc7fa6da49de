//! A service root: a unit's packages, finished, and no more.

use std::collections::BTreeMap;

use cairn_unit::{Directory, Name, Unit};

use super::contents::Loaded;
use super::{BuildError, BuildPlan, RootPlan, binaries, ids};
use crate::tree::{
    Accounts, Content, Node, OverlaySet, PackageFiles, Rules, Tree, alternatives, base_links, cache_entries,
    certificate_bundle, check_libraries, empty_machine_id, lay_overlays, lay_packages, loader_cache, mount_point,
    name_service, standard_folders,
};

/// A finished root.
pub(super) struct Root {
    pub(super) tree: Tree,
    pub(super) accounts: Accounts,
    pub(super) templates: Vec<String>,
    /// Bytes that the rules left out.
    pub(super) left_out: u64,
}

/// Lays a root's packages, applies the rules and makes everything that every root needs. `after_packages` may still look at
/// what the rules are going to leave out.
pub(super) fn base_root(
    plan: &BuildPlan,
    root: &RootPlan,
    packages: &BTreeMap<String, Loaded>,
    rules: &Rules,
    unit: Option<&Unit>,
) -> Result<Root, BuildError> {
    let mut tree = Tree::new(&root.name);
    let loaded = || root.packages.iter().filter_map(|p| packages.get(&p.name));
    // The accounts first: they say what the owners' names in the packages mean here.
    let telling = ids::accounts_tree(&root.name, loaded())?;
    let mut accounts = Accounts::base(&telling)?;
    let declared = Accounts::declared(&telling, unit)?;
    accounts.add(&root.name, &declared, &mut |name| ids::account(&plan.lock, name))?;
    let mut files: Vec<PackageFiles> = loaded().map(|p| p.files.clone()).collect();
    for package in &mut files {
        package.map_owners(&root.name, &accounts)?;
    }
    lay_packages(&mut tree, &files)?;
    base_links(&mut tree);
    standard_folders(&mut tree);
    accounts.write(&mut tree);
    certificate_bundle(&mut tree)?;
    name_service(&mut tree);
    empty_machine_id(&mut tree);
    let left_out = rules.apply(&mut tree);
    Ok(Root {
        tree,
        accounts,
        templates: Vec::new(),
        left_out,
    })
}

/// Lays the overlays, writes the loader's cache and checks that every program finds its libraries.
pub(super) fn finish_root(plan: &BuildPlan, root: &RootPlan, built: &mut Root) -> Result<(), BuildError> {
    let overlays = root
        .overlays
        .iter()
        .map(|(name, folder)| OverlaySet::read(name, folder))
        .collect::<Result<Vec<_>, _>>()?;
    built.templates = lay_overlays(&mut built.tree, &overlays)?;
    for path in &built.templates {
        let source = format!("{path}.tmpl");
        let text = built
            .tree
            .text(&source)
            .map_err(BuildError::io("read", source.as_ref()))?
            .unwrap_or_default();
        minijinja::Environment::new()
            .template_from_str(&text)
            .map_err(|e| BuildError::Template {
                unit: root.name.clone(),
                path: source,
                why: format!("line {}: {e}", e.line().unwrap_or(0)),
            })?;
    }
    let entries = cache_entries(&mut built.tree, plan.arch)?;
    if !entries.is_empty() {
        let bytes = loader_cache(&entries, plan.arch);
        built
            .tree
            .put("etc/ld.so.cache", Node::file(Content::bytes(bytes), 0o644, "imagegen"));
    }
    check_libraries(&built.tree, plan.arch, &entries)?;
    Ok(())
}

/// A unit's whole root.
pub(super) fn service_root(
    plan: &BuildPlan,
    name: &Name,
    root: &RootPlan,
    unit: &Unit,
    packages: &BTreeMap<String, Loaded>,
    rules: &Rules,
) -> Result<Root, BuildError> {
    let mut built = base_root(plan, root, packages, rules, Some(unit))?;
    for (path, folder) in unit.state.iter().chain(&unit.runtime) {
        let (uid, gid) = owner(name, unit, folder, &built.accounts)?;
        mount_point(&mut built.tree, path.as_str(), folder.mode.0, uid, gid)?;
    }
    // Where it sees folders of others.
    for need in unit.needs.values() {
        let provided = plan.units.values().find_map(|other| other.provides.get(&need.from));
        if let Some(folder) = provided.and_then(|provide| provide.folder.as_ref()) {
            mount_point(&mut built.tree, folder.as_str(), 0o755, 0, 0)?;
        }
    }
    finish_root(plan, root, &mut built)?;
    let hidden = |path: &String| {
        let path: Option<cairn_unit::Path> = path.parse().ok();
        let mut folders = unit.state.keys().chain(unit.runtime.keys());
        path.is_some_and(|path| folders.any(|folder| path.is_within(folder)))
    };
    if let Some(path) = built.templates.iter().find(|path| hidden(path)) {
        return Err(BuildError::Template {
            unit: name.to_string(),
            path: format!("{path}.tmpl"),
            why: "it lies in a folder of the unit's [state] or [runtime], which hides it: lay it elsewhere".into(),
        });
    }
    binaries::keep_places(name, unit, &mut built.tree)?;
    alternatives(&mut built.tree, &unit.alternatives)?;
    let commands = unit.commands();
    for program in commands.iter().filter_map(|(_, command)| command.first()) {
        if built.tree.lookup(program).and_then(|(_, n)| n.content()).is_none() {
            return Err(BuildError::NoCommand {
                unit: name.to_string(),
                path: program.clone(),
            });
        }
    }
    let templates = &built.templates;
    let rendered = |file: &&cairn_unit::Path| !templates.iter().any(|path| path == file.as_str());
    for file in unit.setup.iter().flat_map(|s| &s.stdin).filter(rendered) {
        if built
            .tree
            .lookup(file.as_str())
            .and_then(|(_, n)| n.content())
            .is_none()
        {
            return Err(BuildError::NoCommand {
                unit: name.to_string(),
                path: file.to_string(),
            });
        }
    }
    Ok(built)
}

fn owner(name: &Name, unit: &Unit, folder: &Directory, accounts: &Accounts) -> Result<(u32, u32), BuildError> {
    let wrong = |account: &str| crate::tree::TreeError::Account {
        root: name.to_string(),
        name: account.to_owned(),
        why: "nothing defines it: add it to the unit's `users`".into(),
    };
    let user = folder.user.as_deref().unwrap_or(&unit.service.user);
    let entry = accounts.users.get(user).ok_or_else(|| wrong(user))?;
    let gid = match folder
        .group
        .as_deref()
        .or(unit.service.group.as_deref().filter(|_| folder.user.is_none()))
    {
        Some(group) => accounts.groups.get(group).ok_or_else(|| wrong(group))?.0,
        None => entry.gid,
    };
    Ok((entry.uid, gid))
}
