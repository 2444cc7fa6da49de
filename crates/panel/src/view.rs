//! Pages: templates that are part of the program, with the words of the reader's language.

use std::sync::Arc;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior};

use crate::words::{Lang, Words};

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        /// Every template.
        pub(crate) const TEMPLATES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../templates/", $name)))),*];
    };
}

templates!(
    "account-totp.html",
    "account.html",
    "audit.html",
    "base.html",
    "certificates.html",
    "diagnosis.html",
    "directory-away.html",
    "error.html",
    "group.html",
    "groups.html",
    "history.html",
    "login.html",
    "network-fields.html",
    "network.html",
    "overview.html",
    "people-import.html",
    "people.html",
    "person-fields.html",
    "person-new.html",
    "person.html",
    "power.html",
    "recovery.html",
    "recovered.html",
    "reset.html",
    "sessions.html",
    "setup-admin.html",
    "setup-code.html",
    "setup-done.html",
    "setup-name.html",
    "setup-network.html",
    "setup-parts.html",
    "setup-progress.html",
    "setup-summary.html",
    "setup-totp.html",
    "setup-taken.html",
    "setup.html",
    "shell.html",
    "tokens.html",
    "totp.html",
    "trust.html",
    "unit.html",
    "version.html",
);

/// What a page shows: names and values, each of which is anything that can be serialised.
macro_rules! values {
    (@ $key:ident) => { $key };
    (@ $key:ident => $value:expr) => { $value };
    ($($key:ident $(=> $value:expr)?),* $(,)?) => {
        minijinja::context! { $($key => minijinja::Value::from(minijinja::value::Serde(&$crate::view::values!(@ $key $(=> $value)?)))),* }
    };
}
pub(crate) use values;

/// The pages.
#[derive(Debug)]
pub(crate) struct View {
    templates: Environment<'static>,
    words: Arc<Words>,
}

fn lang(state: &State<'_, '_>) -> Lang {
    let code = state.lookup("lang").map(|code| code.to_string()).unwrap_or_default();
    Lang::of(&code).unwrap_or(Lang::En)
}

impl View {
    /// Reads the templates.
    pub(crate) fn load() -> Result<View, Error> {
        let words = Arc::new(Words::load());
        let mut templates = Environment::new();
        // A name that is misspelt is an error in a test, and not an empty place on the owner's page.
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        for (name, text) in TEMPLATES {
            templates.add_template(name, text)?;
        }
        let own = words.clone();
        templates.add_function("t", move |state: &State<'_, '_>, key: &str, values: Kwargs| {
            let mut pairs = Vec::new();
            for name in values.args() {
                pairs.push((name.to_owned(), values.get::<Value>(name)?.to_string()));
            }
            own.say(lang(state), key, &pairs)
                .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("there are no words for `{key}`")))
        });
        templates.add_filter("bytes", |state: &State<'_, '_>, count: f64| {
            local(lang(state), &bytes(count))
        });
        templates.add_filter("span", |state: &State<'_, '_>, seconds: f64| span(lang(state), seconds));
        templates.add_filter("when", |at: i64| when(at));
        templates.add_filter("percent", |state: &State<'_, '_>, value: f64| {
            local(lang(state), &percent(value))
        });
        Ok(View { templates, words })
    }

    /// A page.
    pub(crate) fn render(&self, name: &str, values: Value) -> Result<String, Error> {
        self.templates.get_template(name)?.render(values)
    }

    /// A sentence for what is not a page.
    pub(crate) fn say(&self, lang: Lang, key: &str, values: &[(&str, String)]) -> String {
        let values: Vec<_> = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        self.words.say(lang, key, &values).unwrap_or_else(|| key.to_owned())
    }

    /// Whether there are words for this.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.words.say(Lang::En, key, &[]).is_some()
    }
}

/// A number of bytes in three digits, in powers of 1024 as limits are written.
pub(crate) fn bytes(count: f64) -> String {
    let mut count = count;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if count < 1000.0 {
            break;
        }
        count /= 1024.0;
        unit = next;
    }
    match unit {
        "B" => format!("{count:.0}\u{a0}B"),
        _ if count < 9.95 => format!("{count:.1}\u{a0}{unit}"),
        _ => format!("{count:.0}\u{a0}{unit}"),
    }
}

fn percent(value: f64) -> String {
    match value {
        v if v < 0.05 => "0\u{a0}%".into(),
        v if v < 9.95 => format!("{v:.1}\u{a0}%"),
        v => format!("{v:.0}\u{a0}%"),
    }
}

fn local(lang: Lang, number: &str) -> String {
    match lang {
        Lang::En => number.to_owned(),
        Lang::De => number.replace('.', ","),
    }
}

/// A time span in its two largest units.
fn span(lang: Lang, seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    let day = match lang {
        Lang::En => "d",
        Lang::De => "T",
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{whole}\u{a0}s"),
        (0, 0, m) => format!("{m}\u{a0}min"),
        (0, h, m) => format!("{h}\u{a0}h {m}\u{a0}min"),
        (d, h, _) => format!("{d}\u{a0}{day} {h}\u{a0}h"),
    }
}

/// A time in UTC, as the appliance has no time zone.
fn when(at: i64) -> String {
    let time = jiff::Timestamp::from_second(at);
    time.map_or_else(
        |_| String::new(),
        |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_can_be_parsed() {
        View::load().unwrap();
    }

    #[test]
    fn numbers_are_short_and_in_the_readers_language() {
        assert_eq!(bytes(0.0), "0\u{a0}B");
        assert_eq!(bytes(1536.0), "1.5\u{a0}KiB");
        assert_eq!(bytes(f64::from(256 << 20)), "256\u{a0}MiB");
        assert_eq!(local(Lang::De, &percent(1.24)), "1,2\u{a0}%");
        assert_eq!(span(Lang::De, 90_061.0), "1\u{a0}T 1\u{a0}h");
        assert_eq!(span(Lang::En, 59.0), "59\u{a0}s");
    }

    fn rendered(name: &str, lang: &str, own: Value) -> String {
        let none: Option<&str> = None;
        let base = values! {
            menu => Vec::<(&str, &str)>::new(), role => "administrator", lang, other_lang => "de", form_token => "x", path => "/", user => "dora",
            trouble => crate::store::Trouble::default(), said => none, style => "/s", script => "/j",
        };
        let page = View::load()
            .unwrap()
            .render(name, minijinja::context! { ..own, ..base });
        page.unwrap_or_else(|error| panic!("{error:#}"))
    }

    #[test]
    fn an_import_that_goes_on_tells_how_far_it_is_and_then_how_it_ended() {
        let none: Option<&str> = None;
        let own = |running: Option<(usize, usize)>, made: Option<usize>, failed: Option<&str>| {
            let problems: Vec<crate::directory::Problem> = Vec::new();
            values! { problems, count => 0, shown => 200, table => none, big => false, running, made, failed }
        };
        for (lang, words) in [("en", "1200 of 9000"), ("de", "1200 von 9000")] {
            let text = rendered("people-import.html", lang, own(Some((1200, 9000)), None, None));
            for what in [
                words,
                "value=\"1200\"",
                "max=\"9000\"",
                "http-equiv=\"refresh\"",
                "data-live",
            ] {
                assert!(text.contains(what), "{what}: {text}");
            }
        }
        let text = rendered("people-import.html", "en", own(None, Some(0), None));
        assert!(
            text.contains("People created: 0.") && !text.contains("http-equiv"),
            "{text}"
        );
        let text = rendered("people-import.html", "en", own(None, None, Some("it is away")));
        assert!(text.contains("it is away"), "{text}");
        let text = rendered("people-import.html", "en", own(None, None, None));
        assert!(!text.contains("data-live"), "{text}");
    }
}
