//! Reads apt's own list of sources, in both of its formats (sources.list(5)), for the address of a Debian archive.

use std::fs;
use std::path::{Path, PathBuf};

/// The addresses of all enabled binary sources under `etc_apt` (normally `/etc/apt`), in apt's order.
pub(super) fn uris(etc_apt: &Path) -> Vec<String> {
    let mut files = vec![etc_apt.join("sources.list")];
    let mut parts: Vec<PathBuf> = fs::read_dir(etc_apt.join("sources.list.d"))
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    parts.sort();
    files.extend(parts);
    let mut found = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("list") => one_line(&text, &mut found),
            Some("sources") => deb822(&text, &mut found),
            _ => {}
        }
    }
    found
}

/// `deb [options] URI suite components`
fn one_line(text: &str, found: &mut Vec<String>) {
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t'])) else {
            continue;
        };
        let rest = rest.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']').map_or("", |(_, rest)| rest),
            None => rest,
        };
        found.extend(rest.split_ascii_whitespace().next().map(str::to_owned));
    }
}

fn deb822(text: &str, found: &mut Vec<String>) {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let field = |name: &str| {
            let mut value = String::new();
            let mut inside = false;
            for line in stanza {
                if line.starts_with([' ', '\t']) {
                    if inside {
                        value.push_str(line);
                    }
                } else if let Some((key, rest)) = line.split_once(':') {
                    inside = key.eq_ignore_ascii_case(name);
                    if inside {
                        value.push_str(rest);
                    }
                }
            }
            value
        };
        let enabled = !matches!(
            field("Enabled").trim().to_ascii_lowercase().as_str(),
            "no" | "false" | "0" | "off"
        );
        if enabled && field("Types").split_ascii_whitespace().any(|kind| kind == "deb") {
            found.extend(field("URIs").split_ascii_whitespace().map(str::to_owned));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_read_and_disabled_sources_are_not() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("sources.list"),
            "# deb http://no.example/debian trixie main\ndeb-src http://src.example/debian x main\n\
             deb [arch=amd64 signed-by=/k] http://one.example/debian trixie main # why\n",
        )
        .unwrap();
        let parts = folder.path().join("sources.list.d");
        fs::create_dir(&parts).unwrap();
        fs::write(
            parts.join("a.sources"),
            "Types: deb\nURIs: http://two.example/debian\n http://three.example/debian\nSuites: x\n\n\
             Enabled: no\nTypes: deb\nURIs: http://off.example/debian\n\n# c\nTypes: deb-src\nURIs: http://src.example/debian\n",
        )
        .unwrap();
        fs::write(parts.join("b.list.save"), "deb http://saved.example/debian x main\n").unwrap();
        assert_eq!(
            uris(folder.path()),
            [
                "http://one.example/debian",
                "http://two.example/debian",
                "http://three.example/debian"
            ]
        );
    }
}
