//! The appliance's first choices: who knows the code on the console makes them, once.

use std::collections::BTreeSet;

use cairn_api::{Accepted, Machine, Part, Setup, SetupAnswers};
use cairn_config::{private_folder, random_text, write_atomically};
use cairn_unit::{Manifest, Name};
use serde::{Deserialize, Serialize};

use crate::choices::in_one_line;
use crate::clock::now_ms;
use crate::config::Config;
use crate::control::Answered;
use crate::error::Error;
use crate::supervisor::Supervisor;

/// So many wrong codes are let pass before everybody waits.
const FREE: u32 = 5;
/// How long the first wait is, in milliseconds; each further one is twice as long.
const WAIT_MS: u64 = 30_000;
/// How long the last pages may take before the network is as chosen, in milliseconds.
const PAGE_MS: u64 = 5_000;
/// The longest wait.
const WAIT_MAX_MS: u64 = 900_000;
/// The letters of a code: Crockford's base 32 without vowels' look-alikes, so that it can be read aloud and typed.
const LETTERS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// How many there are: 50 bits, of which five tries and the waits leave nothing to guess.
const LENGTH: usize = 10;

/// The wrong codes until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tries {
    /// How many.
    pub wrong: u32,
    /// Before this nobody is heard, in milliseconds.
    pub until_ms: u64,
}

impl Tries {
    /// One more wrong code at this time.
    fn add(&mut self, now: u64) {
        self.wrong = self.wrong.saturating_add(1);
        if let Some(over) = self.wrong.checked_sub(FREE) {
            let wait = WAIT_MS.saturating_mul(1 << over.min(16)).min(WAIT_MAX_MS);
            self.until_ms = now.saturating_add(wait);
        }
    }

    /// How long nobody is heard, in seconds.
    fn wait(&self, now: u64) -> Option<u64> {
        (self.until_ms > now).then(|| (self.until_ms - now).div_ceil(1000))
    }
}

/// A code as it is shown: two groups.
fn shown(code: &str) -> String {
    let (first, second) = code.split_at(code.len() / 2);
    format!("{first}-{second}")
}

/// A code as somebody typed it, with what is easily taken for another letter put right.
fn typed(text: &str) -> String {
    let letter = |c: char| match c.to_ascii_uppercase() {
        'O' => Some('0'),
        'I' | 'L' => Some('1'),
        'U' => Some('V'),
        c if c.is_ascii_alphanumeric() => Some(c),
        _ => None,
    };
    text.chars().filter_map(letter).take(LENGTH + 1).collect()
}

/// Whether two texts are the same, in a time that does not tell where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// The code; made at the first question and kept until the appliance is set up.
fn code(config: &Config) -> Result<String, Error> {
    let path = config.setup_code();
    let fine = |code: &String| code.len() == LENGTH && code.bytes().all(|b| LETTERS.contains(&b));
    if let Some(code) = std::fs::read_to_string(&path).ok().filter(fine) {
        return Ok(code);
    }
    let mut code = String::new();
    while code.len() < LENGTH {
        // Of 62 signs those are taken that are a letter here: each is then as likely as any other.
        let fits = |c: &char| u8::try_from(*c).is_ok_and(|b| LETTERS.contains(&b));
        code.extend(random_text(32)?.chars().filter(fits).take(LENGTH - code.len()));
    }
    if let Some(folder) = path.parent() {
        private_folder(folder)?;
    }
    write_atomically(&path, code.as_bytes(), 0o600)?;
    Ok(code)
}

/// The units among which the owner chooses: all but those that run while the appliance is set up.
fn parts(manifest: &Manifest) -> Vec<Part> {
    let required = cairn_unit::Site::unset(manifest).only.unwrap_or_default();
    let part = |(name, unit): (&Name, &std::sync::Arc<cairn_unit::ManifestUnit>)| Part {
        unit: name.to_string(),
        description: unit.unit.description.clone(),
        memory_max: unit.unit.limits.memory_max.0,
        needs: needed(manifest, name, unit),
        required: required.contains(name),
    };
    manifest.units.iter().map(part).collect()
}

/// The units without which one cannot be.
fn needed(manifest: &Manifest, name: &Name, unit: &cairn_unit::ManifestUnit) -> Vec<String> {
    let bonds = manifest.bonds(name.as_str()).filter(|bond| !bond.need.optional);
    let all = bonds.map(|bond| bond.provider.to_string());
    let all: BTreeSet<String> = all.chain(unit.waits_for.iter().map(ToString::to_string)).collect();
    all.into_iter().collect()
}

/// An address as a QR code, two modules to a character, dark on light as scanners want it.
fn picture(address: &str) -> Vec<String> {
    let Ok(code) = qrcode::QrCode::with_error_correction_level(address, qrcode::EcLevel::L) else {
        return Vec::new();
    };
    let (side, quiet) = (code.width(), 2);
    let (side_i, modules) = (side as isize, code.to_colors());
    let dark = |x: isize, y: isize| {
        (0..side_i).contains(&x)
            && (0..side_i).contains(&y)
            && modules[(y * side_i + x) as usize] == qrcode::Color::Dark
    };
    let rows = (-quiet..side_i + quiet).step_by(2);
    let sign = |x, y| match (dark(x, y), dark(x, y + 1)) {
        // The screen is dark: what is drawn is the light.
        (true, true) => ' ',
        (true, false) => '\u{2584}',
        (false, true) => '\u{2580}',
        (false, false) => '\u{2588}',
    };
    rows.map(|y| (-quiet..side_i + quiet).map(|x| sign(x, y)).collect())
        .collect()
}

/// What this machine has.
pub(crate) fn machine(config: &Config) -> Machine {
    let text = std::fs::read_to_string(config.at("/proc/meminfo")).unwrap_or_default();
    let memory = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let disk = rustix::fs::statvfs(config.at("/data")).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
    Machine {
        memory: memory.unwrap_or(0u64).saturating_mul(1024),
        disk,
        cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
    }
}

/// The text with the first choices in it; whatever else it says stays. What is wrong, with the field that it is about.
fn chosen(text: &str, answers: &SetupAnswers, manifest: &Manifest) -> Result<String, (&'static str, String)> {
    let name: Name = answers.name.parse().map_err(|e| ("name", format!("{e}")))?;
    let mut site: toml_edit::DocumentMut = text.parse().map_err(|e| ("site", format!("site.toml: {e}")))?;
    let mut appliance = toml_edit::Table::new();
    appliance.insert("name", toml_edit::value(name.as_str()));
    if let Some(domain) = answers.domain.as_deref().filter(|domain| !domain.is_empty()) {
        let domain: cairn_unit::Domain = domain.parse().map_err(|e| ("domain", format!("{e}")))?;
        appliance.insert("domain", toml_edit::value(domain.as_str()));
    }
    site.insert("appliance", toml_edit::Item::Table(appliance));
    let mut site = site.to_string();
    if let Some(network) = &answers.network {
        let network = crate::net_change::text_of(network).map_err(|why| ("network", why))?;
        site = crate::net_change::with_table(&site, &network).map_err(|why| ("network", why))?;
    }
    let parts = parts(manifest);
    for unit in &answers.units {
        if !parts.iter().any(|part| part.unit == *unit) {
            return Err(("units", format!("the appliance has no unit `{unit}`")));
        }
    }
    let mut text = site;
    for part in parts.iter().filter(|part| !part.required) {
        let on = answers.units.contains(&part.unit);
        if let Some(missing) = part.needs.iter().find(|need| {
            let there = |other: &Part| other.unit == **need && (other.required || answers.units.contains(need));
            on && !parts.iter().any(there)
        }) {
            return Err(("units", format!("`{}` needs `{missing}`: choose both", part.unit)));
        }
        text = crate::choices::edit(&text, &part.unit, on).map_err(|why| ("site", why))?;
    }
    Ok(text)
}

impl Supervisor {
    /// Whether it waits to be set up.
    pub(crate) fn is_unset(&self) -> bool {
        self.site.only.is_some()
    }

    pub(crate) fn setup(&self) -> Setup {
        let address = self.address();
        Setup {
            open: self.is_unset(),
            name: self.manifest.name.to_string(),
            addresses: Some(address).filter(|a| !a.is_empty()).into_iter().collect(),
            machine: machine(&self.config),
            parts: parts(&self.built),
            problems: self.choice_problems.clone(),
        }
    }

    /// Says on the console how the appliance is set up, when that has changed. The code goes to no log.
    pub(crate) fn invite(&mut self, address: &str) {
        let at = self.addresses(address);
        let line = match at.is_empty() {
            true => "Waits to be set up, without an address from the network".to_owned(),
            false => format!("Waits to be set up: {at}"),
        };
        if line == self.saved.announced {
            return;
        }
        self.console.say(&line);
        self.saved.announced = line;
        match code(&self.config) {
            Ok(code) => self.console.show(&format!("The code for it: {}", shown(&code))),
            Err(e) => self
                .console
                .say(&format!("{e}; there is no code, so it cannot be set up")),
        }
        if let Some(print) = self.fingerprint() {
            self.console
                .show(&format!("Its certificate's SHA-256 fingerprint: {print}"));
        }
        if let Some(first) = at.split(' ').next().filter(|at| !at.is_empty()) {
            self.console.draw(&picture(first));
        }
    }

    /// The fingerprint of the certificate that a browser meets during the setup.
    fn fingerprint(&self) -> Option<String> {
        let name = self.built.setup.as_ref()?;
        let unit = self.manifest.units.get(name)?;
        let secret = crate::certificates::secrets(unit).next()?;
        let text = std::fs::read_to_string(self.config.shown_secrets(name.as_str()).join(secret)).ok()?;
        cairn_config::pki::fingerprint(&text)
    }

    /// Whether this is the code; nobody is told anything else before a wait is over.
    fn judge(&mut self, told: &str) -> Result<(), Answered> {
        if !self.is_unset() {
            return Err(Answered::error(409, "the appliance is set up already"));
        }
        let now = now_ms();
        if let Some(after_s) = self.saved.tries.wait(now) {
            let why = format!("too many wrong codes; try again in {after_s} s");
            return Err(Answered::json(
                429,
                &serde_json::json!({ "error": why, "after_s": after_s }),
            ));
        }
        let code = code(&self.config).map_err(|e| Answered::error(500, &e.to_string()))?;
        if same(typed(told).as_bytes(), code.as_bytes()) {
            return Ok(());
        }
        self.saved.tries.add(now);
        self.console.say("Setup: a wrong code was given");
        Err(Answered::error(403, "this is not the code that the console shows"))
    }

    pub(crate) fn setup_code(&mut self, told: &str) -> Answered {
        match self.judge(told) {
            Ok(()) => Answered::of(200, &Accepted::default()),
            Err(refused) => refused,
        }
    }

    /// Writes the first choices and puts them in force; if something is wrong with them, nothing is changed.
    pub(crate) fn set_up(&mut self, answers: &SetupAnswers, who: &str) -> Answered {
        if let Err(refused) = self.judge(&answers.code) {
            return refused;
        }
        let refuse = |field: &str, why: &str| Answered::json(400, &serde_json::json!({ "error": why, "field": field }));
        let before = match self.written() {
            Ok(before) => before.unwrap_or_default(),
            // A wrong file without a good version before it: the choices are made anew, and it stays as a version.
            Err(_) => String::new(),
        };
        let text = match chosen(&before, answers, &self.built) {
            Ok(text) => text,
            Err((field, why)) => return refuse(field, &why),
        };
        if let Err(problems) = self.parse_site(&text) {
            let without = crate::net_change::with_table(&text, "").unwrap_or_default();
            let field = match answers.network.is_some() && self.parse_site(&without).is_ok() {
                true => "network",
                false => "site",
            };
            return refuse(field, &in_one_line(problems));
        }
        if let Err(e) = self.accept_site(&text, who, "the appliance was set up") {
            return Answered::error(500, &e.to_string());
        }
        // The answer, and the page that says where the appliance is found then.
        self.outside.grace_ms = PAGE_MS;
        let answer = self.reload_site();
        self.outside.grace_ms = 0;
        self.forget_code();
        answer
    }

    /// The code is good no more once the appliance is set up.
    pub(crate) fn forget_code(&mut self) {
        if !self.is_unset() {
            self.saved.tries = Tries::default();
            let _ = std::fs::remove_file(self.config.setup_code());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built() -> Manifest {
        let mut manifest = crate::testing::manifest(&[
            ("db", r#"{"provides":{"sql":{"kind":"database","port":1}}}"#),
            ("names", "{}"),
            ("panel", r#"{"with":["names","gone"]}"#),
            ("wiki", r#"{"needs":{"db":"sql"}}"#),
        ]);
        manifest.setup = Some("panel".parse().unwrap());
        manifest
    }

    fn answers(name: &str, domain: &str, units: &[&str]) -> SetupAnswers {
        SetupAnswers {
            code: String::new(),
            name: name.into(),
            domain: Some(domain.into()),
            network: None,
            units: units.iter().map(|unit| (*unit).to_owned()).collect(),
        }
    }

    #[test]
    fn until_it_is_set_up_only_the_setups_unit_runs_and_then_what_was_chosen() {
        let built = built();
        let unset = cairn_unit::Site::unset(&built);
        assert!(
            unset.enabled("panel") && unset.enabled("names"),
            "the setup's unit and what runs beside it"
        );
        assert!(!unset.enabled("db") && !unset.enabled("wiki"));
        let parse = |text: &str| {
            let source = cairn_unit::Source {
                file: "site.toml".into(),
                text: text.to_owned(),
            };
            cairn_unit::Site::parse(&source, &built).unwrap()
        };
        // What was chosen before, for single units, sets nothing up.
        let early = parse("# mine\n[units.db.limits]\nmemory_max = \"1G\"\n");
        assert!(!early.enabled("db"));
        let text = chosen(
            "# mine\n[units.db.limits]\nmemory_max = \"1G\"\n",
            &answers("office", "example.org", &["db"]),
            &built,
        )
        .unwrap();
        let site = parse(&text);
        assert!(
            text.contains("# mine\n") && text.contains("memory_max = \"1G\""),
            "{text}"
        );
        assert!(
            site.enabled("panel") && site.enabled("db") && !site.enabled("wiki"),
            "{text}"
        );
        let appliance = site.appliance.unwrap();
        assert_eq!(
            (appliance.name.as_str(), appliance.domain.unwrap().as_str()),
            ("office", "example.org")
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_field() {
        let built = built();
        let field = |answers: SetupAnswers| chosen("", &answers, &built).unwrap_err().0;
        assert_eq!(field(answers(&"x".repeat(300), "", &[])), "name");
        assert_eq!(field(answers("Büro", "", &[])), "name");
        assert_eq!(field(answers("a", "müller.example", &[])), "domain");
        assert_eq!(field(answers("a", &format!("{}.org", "x".repeat(300)), &[])), "domain");
        assert_eq!(field(answers("a", "", &["gone"])), "units");
        assert_eq!(field(answers("a", "", &["wiki"])), "units");
        assert!(chosen("", &answers("a", "", &["wiki", "db"]), &built).is_ok());
    }

    #[test]
    fn a_code_is_made_once_and_heard_however_it_is_typed() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::below(dir.path());
        let first = code(&config).unwrap();
        assert_eq!(code(&config).unwrap(), first);
        assert_eq!(first.len(), LENGTH);
        assert_eq!(typed(&shown(&first).to_lowercase()), first);
        assert_eq!(typed(" o0il-U "), "0011V");
        std::fs::write(config.setup_code(), "").unwrap();
        let second = code(&config).unwrap();
        assert!(second != first && second.len() == LENGTH);
        assert!(same(b"ab", b"ab") && !same(b"ab", b"aa") && !same(b"ab", b"abc"));
    }

    #[test]
    fn the_address_is_drawn_as_a_code_with_light_around_it() {
        let rows = picture("https://192.168.100.100:8443/");
        let width = rows[0].chars().count();
        // 25 modules for that many characters (ISO/IEC 18004, version 2), and two on each side.
        assert_eq!((width, rows.len()), (29, 15));
        assert!(rows.iter().all(|row| row.chars().count() == width));
        assert!(rows[0].chars().all(|sign| sign == '\u{2588}'), "{}", rows[0]);
        // A finder's first rows: seven dark modules over one dark, five light, one dark.
        assert!(
            rows[1].starts_with("\u{2588}\u{2588} \u{2584}\u{2584}\u{2584}\u{2584}\u{2584} "),
            "{}",
            rows[1]
        );
    }

    #[test]
    fn wrong_codes_make_everybody_wait_longer_each_time_but_never_for_ever() {
        let mut tries = Tries::default();
        for _ in 0..4 {
            tries.add(1000);
            assert_eq!(tries.wait(1000), None);
        }
        let mut waits = Vec::new();
        for _ in 0..8 {
            tries.add(1000);
            waits.push(tries.wait(1000).unwrap());
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 900, 900, 900]);
        assert_eq!(tries.wait(1000 + WAIT_MAX_MS), None);
    }
}
