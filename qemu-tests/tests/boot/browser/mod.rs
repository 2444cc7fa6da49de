//! The owner's pages in a real browser, with its script and real clicks.
//!
//! Every page that the walk meets and every page that a link leads to is judged: [`judge`] says by what. The pictures lie in
//! `target/qemu-tests/screens`; `CAIRN_SCREENS=docs/screens` has those of the documentation written anew.

mod chrome;
mod judge;
mod walk;

use qemu_tests::served::Served;

use self::chrome::Chrome;
use self::judge::Judge;
use super::*;

const FAULTY: &str = r#"<!doctype html><html lang="en"><head><title>Faults</title><meta http-equiv="content-security-policy" content="script-src 'self'">
<meta name="viewport" content="width=device-width"></head><body><nav style="overflow-x: auto"><a href="/"
aria-current="page" style="display: block; margin-left: 900px; width: 80px">Here</a></nav><main><h1>Faults</h1><p style="color: #999; background: #aaa">Hardly to be read</p>
<label>Name</label><input id="name"><p style="width: 500px">Wide</p></main><script>document.title = "another";</script></body></html>"#;

/// The judge judged: what it shall find is found.
#[test]
fn a_browser_tells_what_is_wrong_with_a_page() {
    let folder = must(tempfile::tempdir());
    must(std::fs::write(folder.path().join("faulty.html"), FAULTY));
    let served = must(Served::folder(folder.path()));
    let chrome = Chrome::start();
    let tab = chrome.tab(&format!("http://127.0.0.1:{}", served.port));
    tab.go("/faulty.html");
    tab.fill("name", "Grete Müller");
    let mut judge = Judge::new("screens-of-faults");
    judge.look(&tab, "faulty", false);
    let found: Vec<&str> = judge.found.iter().map(String::as_str).collect();
    for (of, what) in [
        ("faulty (phone, light)", "508 px wide"),
        ("faulty (phone, dark)", "color-contrast"),
        ("faulty (phone, dark)", "the menu does not show"),
        ("faulty (desktop, light)", "(label)"),
        ("faulty: the console says", "Content Security Policy"),
    ] {
        let told = found.iter().any(|line| line.starts_with(of) && line.contains(what));
        assert!(told, "{of}: {what} is not in {found:#?}");
    }
    assert!(
        !found
            .iter()
            .any(|line| line.starts_with("faulty (desktop") && line.contains("px wide"))
    );
}
