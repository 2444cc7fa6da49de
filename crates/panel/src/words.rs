//! The panel's languages: data files that are part of the program.

use std::collections::BTreeMap;

/// A language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lang {
    En,
    De,
}

impl Lang {
    /// Every language, the first one being that of last resort.
    pub(crate) const ALL: [Lang; 2] = [Lang::En, Lang::De];

    /// Its code, as HTML has it.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Lang::En => "en",
            Lang::De => "de",
        }
    }

    /// The language of a code.
    pub(crate) fn of(code: &str) -> Option<Lang> {
        Lang::ALL.into_iter().find(|lang| lang.code() == code)
    }

    /// The best of an `Accept-Language` (RFC 9110, 12.5.4).
    pub(crate) fn accepted(header: &str) -> Lang {
        let mut best = (0.0, Lang::En);
        for range in header.split(',') {
            let (tag, rest) = range.split_once(';').unwrap_or((range, ""));
            let weight = rest.trim().strip_prefix("q=").map_or(Some(1.0), |q| q.parse().ok());
            let primary = tag.trim().split('-').next().unwrap_or_default().to_ascii_lowercase();
            if let (Some(weight), Some(lang)) = (weight, Lang::of(&primary))
                && weight > best.0
            {
                best = (weight, lang);
            }
        }
        best.1
    }
}

/// The sentences of every language.
#[derive(Debug)]
pub(crate) struct Words([BTreeMap<String, String>; 2]);

impl Words {
    /// The files that are part of the program.
    pub(crate) fn load() -> Words {
        let read = |text: &str| {
            let table: toml::Table = toml::from_str(text).unwrap_or_default();
            let mut out = BTreeMap::new();
            for (group, words) in table {
                for (key, word) in words.as_table().into_iter().flatten() {
                    if let Some(word) = word.as_str() {
                        out.insert(format!("{group}.{key}"), word.to_owned());
                    }
                }
            }
            out
        };
        Words([
            read(include_str!("../words/en.toml")),
            read(include_str!("../words/de.toml")),
        ])
    }

    /// A sentence, with `{name}` replaced; `None` if no language has it.
    pub(crate) fn say(&self, lang: Lang, key: &str, values: &[(String, String)]) -> Option<String> {
        let [en, de] = &self.0;
        let own = match lang {
            Lang::En => en,
            Lang::De => de,
        };
        let mut text = own.get(key).or_else(|| en.get(key))?.clone();
        for (name, value) in values {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_one_that_the_browser_likes_best() {
        for (header, lang) in [
            ("de-AT,de;q=0.9,en;q=0.8", Lang::De),
            ("en-GB,en;q=0.9,de;q=0.8", Lang::En),
            ("fr,de;q=0.3", Lang::De),
            ("fr", Lang::En),
            ("de;q=0", Lang::En),
            ("de;q=x,en", Lang::En),
            ("", Lang::En),
        ] {
            assert_eq!(Lang::accepted(header), lang, "{header}");
        }
    }

    #[test]
    fn each_language_has_every_sentence_with_the_same_values() {
        let [en, de] = Words::load().0;
        assert!(en.len() > 100);
        let keys = |words: &BTreeMap<String, String>| words.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&en), keys(&de));
        let values = |text: &str| {
            let mut found: Vec<String> = text
                .split('{')
                .skip(1)
                .filter_map(|rest| Some(rest.split_once('}')?.0.to_owned()))
                .collect();
            found.sort();
            found
        };
        for (key, text) in &en {
            assert_eq!(values(text), values(&de[key]), "{key}");
        }
    }

    #[test]
    fn every_sentence_that_a_page_asks_for_is_there() {
        let [en, _] = Words::load().0;
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/templates");
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            for rest in text.split("t(\"").skip(1) {
                let (key, after) = rest.split_once('"').unwrap();
                // A key that is put together at run time ends with a dot.
                let known = en.contains_key(key) || (key.ends_with(['.', '-']) && after.trim_start().starts_with('~'));
                assert!(known, "{}: {key}", path.display());
            }
        }
    }
}
