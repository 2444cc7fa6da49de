//! `cairn config`: the versions of the owner's choices.

use std::fmt::Write as _;

use std::path::Path;

use cairn_api::{SiteDiff, SiteHistory, SiteWritten};
use clap::Subcommand;

use crate::table::Paint;
use crate::{Outcome, Refused};

/// What can be done with the owner's choices.
#[derive(Subcommand)]
pub(crate) enum Config {
    /// List the versions, the newest first; `*` is in force.
    History,
    /// Show what differs between two versions, as `diff -u` does.
    Diff {
        /// The older one's number; the newest that differs if left out.
        from: Option<u64>,
        /// The newer one's number; what is in force if left out.
        to: Option<u64>,
    },
    /// Print them as they are written (site.toml).
    Show,
    /// Write them anew from a file, and put them in force. If something is wrong with it, nothing changes.
    Write {
        /// The file; `-` is the standard input.
        file: std::path::PathBuf,
        /// The version that was changed: if another one is in force by now, nothing is written.
        #[arg(long, value_name = "NUMBER")]
        version: Option<u64>,
    },
    /// Put an earlier version in force, as a new version.
    Rollback {
        /// Its number.
        to: u64,
    },
}

/// The request's body for a file.
pub(crate) fn written(file: &Path, version: Option<u64>) -> Outcome<Vec<u8>> {
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    let text = text.map_err(|e| Refused(format!("cannot read {}: {e}", file.display()), 1))?;
    serde_json::to_vec(&SiteWritten { text, version }).map_err(|e| Refused(e.to_string(), 1))
}

/// The path of a comparison.
pub(crate) fn diff_path(from: Option<u64>, to: Option<u64>) -> String {
    let from = from.map(|number| format!("from={number}"));
    let to = to.map(|number| format!("to={number}"));
    let query: Vec<String> = from.into_iter().chain(to).collect();
    format!("/v1/site/diff?{}", query.join("&"))
}

/// A line a version.
pub(crate) fn history(history: &SiteHistory, paint: Paint) -> String {
    let mut out = String::new();
    let who = history
        .versions
        .iter()
        .map(|version| version.who.len())
        .max()
        .unwrap_or(0);
    for version in &history.versions {
        let star = if version.in_force { "*" } else { " " };
        let words = version.damaged.as_ref().unwrap_or(&version.why);
        let line = format!(
            "{star} {:>5}  {:20}  {:who$}  {words}",
            version.number, version.when, version.who
        );
        let line = line.trim_end();
        let _ = writeln!(
            out,
            "{}",
            if version.in_force {
                paint.bold(line)
            } else {
                line.to_owned()
            }
        );
    }
    if history.versions.is_empty() {
        out.push_str("Nothing was chosen yet.\n");
    }
    if let Some(instead) = &history.instead {
        let _ = writeln!(out, "\n{instead}");
    }
    out
}

/// What differs.
pub(crate) fn diff(diff: &SiteDiff) -> String {
    match diff.diff.is_empty() {
        true => "Nothing differs.\n".to_owned(),
        false => diff.diff.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_api::SiteVersion;

    #[test]
    fn versions_are_listed_with_the_one_in_force_marked_and_what_is_wrong_said() {
        let version = |number, who: &str, why: &str| SiteVersion {
            number,
            when: "2026-03-01T12:00:00Z".into(),
            who: who.into(),
            why: why.into(),
            in_force: number == 2,
            damaged: (number == 1).then(|| "version 1 is damaged: it is not text".into()),
        };
        let all = SiteHistory {
            versions: vec![version(2, "root", "web was disabled"), version(1, "site.toml", "")],
            instead: Some("site.toml is gone.".into()),
        };
        assert_eq!(
            history(&all, Paint(false)),
            "*     2  2026-03-01T12:00:00Z  root       web was disabled\n      1  2026-03-01T12:00:00Z  site.toml  version 1 is \
             damaged: it is not text\n\nsite.toml is gone.\n"
        );
        let none = SiteHistory {
            versions: Vec::new(),
            instead: None,
        };
        assert_eq!(history(&none, Paint(false)), "Nothing was chosen yet.\n");
    }

    #[test]
    fn a_comparison_names_only_what_was_named() {
        assert_eq!(diff_path(None, None), "/v1/site/diff?");
        assert_eq!(diff_path(Some(1), None), "/v1/site/diff?from=1");
        assert_eq!(diff_path(Some(1), Some(2)), "/v1/site/diff?from=1&to=2");
    }
}
