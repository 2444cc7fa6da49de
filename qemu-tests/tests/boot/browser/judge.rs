//! Judges pages: axe-core's rules, the console, the width on a phone; and takes pictures.

use std::collections::BTreeSet;
use std::path::PathBuf;

use qemu_tests::images;
use serde::Deserialize;
use serde_json::json;

use super::super::*;
use super::chrome::Tab;

const AXE: &str = include_str!("../../../third-party/axe-core/axe.min.js");
const RULES: [&str; 5] = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"];

const PHONE: (u32, u32) = (360, 740);
const DESKTOP: (u32, u32) = (1280, 900);
/// A page that is longer is shown so far.
const LONGEST: u32 = 4000;

/// The most that a picture of the documentation has, in bytes.
const SHOWN: usize = 60 << 10;

#[derive(Debug, Deserialize)]
struct Violation {
    id: String,
    impact: Option<String>,
    help: String,
    nodes: Vec<String>,
}

/// What was found on all pages so far.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) found: BTreeSet<String>,
    /// Where pictures go.
    screens: PathBuf,
    /// Where those for the documentation go, if they are wanted.
    shown: Option<PathBuf>,
}

impl Judge {
    /// Pictures go into `target/qemu-tests/FOLDER`, which is emptied.
    pub(super) fn new(folder: &str) -> Judge {
        let screens = images::target().join("qemu-tests").join(folder);
        let _ = std::fs::remove_dir_all(&screens);
        must(std::fs::create_dir_all(&screens));
        Judge {
            found: BTreeSet::new(),
            screens,
            shown: std::env::var_os("CAIRN_SCREENS").map(PathBuf::from),
        }
    }

    /// Looks at the page on a phone and a desk, in light and dark. A console that tells that the page itself was refused is right if
    /// `refused` is.
    pub(super) fn look(&mut self, tab: &Tab<'_>, name: &str, refused: bool) {
        self.console(tab, name, refused);
        for (device, size) in [("phone", PHONE), ("desktop", DESKTOP)] {
            for scheme in ["light", "dark"] {
                tab.screen(size, scheme);
                let what = format!("{name} ({device}, {scheme})");
                let height = self.fits(tab, &what, size);
                for one in axe(tab) {
                    let impact = one.impact.as_deref().unwrap_or("unknown");
                    let places = one.nodes.join("\n    ");
                    let line = format!("{what}: {impact}: {} ({})\n    {places}", one.help, one.id);
                    match impact {
                        "minor" | "moderate" => eprintln!("note: {line}"),
                        _ => drop(self.found.insert(line)),
                    }
                }
                let picture = tab.picture((size.0, height), 1.0);
                must(std::fs::write(
                    self.screens.join(format!("{name}.{device}.{scheme}.png")),
                    picture,
                ));
            }
        }
        tab.screen(DESKTOP, "light");
        // What axe itself does is nobody's fault here.
        tab.errors();
    }

    /// Looks only whether the page is as wide as a phone.
    pub(super) fn glance(&mut self, tab: &Tab<'_>, name: &str) {
        self.console(tab, name, false);
        tab.screen(PHONE, "light");
        let height = self.fits(tab, name, PHONE);
        let picture = tab.picture((PHONE.0, height), 1.0);
        must(std::fs::write(self.screens.join(format!("{name}.phone.png")), picture));
        tab.screen(DESKTOP, "light");
    }

    /// Takes a picture for the documentation, if those are wanted.
    pub(super) fn show(&self, tab: &Tab<'_>, name: &str) {
        let Some(folder) = &self.shown else { return };
        tab.screen(DESKTOP, "light");
        must(std::fs::create_dir_all(folder));
        let picture = tab.picture(DESKTOP, 0.625);
        assert!(picture.len() <= SHOWN, "{name}.png has {} bytes", picture.len());
        must(std::fs::write(folder.join(format!("{name}.png")), picture));
    }

    /// The page's height; told if it is wider than the screen.
    fn fits(&mut self, tab: &Tab<'_>, what: &str, (width, height): (u32, u32)) -> u32 {
        let script = "const root = document.documentElement, wide = [...document.querySelectorAll('body *')]
              .filter(one => one.getBoundingClientRect().right > root.clientWidth + 1 && !one.closest('.scroll, .side nav, pre, .unseen'))
              .slice(0, 3).map(one => one.outerHTML.slice(0, 120));
            return [root.scrollWidth, root.scrollHeight, wide]";
        let (wide, high, places): (u32, u32, Vec<String>) = must(serde_json::from_value(tab.script(script, vec![])));
        if wide > width {
            self.found
                .insert(format!("{what}: {wide} px wide\n    {}", places.join("\n    ")));
        }
        let script = "const box = document.querySelector('nav [aria-current=page]')?.getBoundingClientRect();
            return !box || (box.left >= 0 && box.right <= innerWidth)";
        // The page may hear of its new size a moment later.
        let deadline = Instant::now() + Duration::from_secs(5);
        while tab.script(script, vec![]) != true {
            if Instant::now() > deadline {
                self.found
                    .insert(format!("{what}: the menu does not show where one is"));
                break;
            }
        }
        high.clamp(height, LONGEST)
    }

    fn console(&mut self, tab: &Tab<'_>, name: &str, refused: bool) {
        for error in tab.errors() {
            let own = error.contains("Failed to load resource: the server responded with a status of 4");
            if !(refused && own) {
                self.found.insert(format!("{name}: the console says: {error}"));
            }
        }
    }
}

fn axe(tab: &Tab<'_>) -> Vec<Violation> {
    if tab.script("return typeof axe === 'undefined'", vec![]) == true {
        tab.script(AXE, vec![]);
    }
    let script = "const done = arguments[arguments.length - 1];
        axe.run(document, { runOnly: { type: 'tag', values: arguments[0] }, resultTypes: ['violations'], preload: false }).then(
          (told) => done(told.violations.map(({ id, impact, help, nodes }) =>
            ({ id, impact, help, nodes: nodes.slice(0, 5).map(node => `${node.html.slice(0, 200)} ${node.any.map(one => one.message).join('; ')}`) }))),
          (error) => done([{ id: 'axe', impact: 'critical', help: String(error), nodes: [] }]))";
    must(serde_json::from_value(tab.script_async(script, vec![json!(RULES)])))
}
