//! `%` specifiers, by "Specifiers" of systemd.unit(5).

use crate::name::FileName;

/// Stands for the instance's name (`%i`) in texts until the unit is written: `%` itself is doubled then.
pub(crate) const INSTANCE: char = '\u{e000}';

/// A text after its specifiers, and which of them no unit can know beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// They stand in the text as they were.
    pub(crate) unknown: Vec<String>,
    /// `%I` and the like, where an instance's `-` would become a `/`.
    pub(crate) unescaped: bool,
}

/// Replaces the specifiers of a text in a file of this name.
pub(crate) fn expand(text: &str, name: &FileName) -> Expanded {
    let mut out = Expanded {
        text: String::new(),
        unknown: Vec::new(),
        unescaped: false,
    };
    let marker = INSTANCE.to_string();
    let instance = match &name.instance {
        Some(instance) if !instance.is_empty() => instance.as_str(),
        Some(_) => &marker,
        None => "",
    };
    let at = if name.instance.is_some() {
        format!("{}@{instance}", name.prefix)
    } else {
        name.prefix.clone()
    };
    let last = name.prefix.rsplit('-').next().unwrap_or_default();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.text.push(c);
            continue;
        }
        let Some(letter) = rest.next() else {
            out.text.push('%');
            break;
        };
        let value = match letter {
            '%' => "%",
            'i' => instance,
            'I' | 'f' => {
                out.unescaped |= instance.contains('-') || instance == marker;
                if letter == 'f' {
                    out.text.push('/');
                }
                if letter == 'f' && instance.is_empty() {
                    &name.prefix
                } else {
                    instance
                }
            }
            'n' => &format!("{at}.service"),
            'N' => &at,
            'p' | 'P' => &name.prefix,
            'j' | 'J' => last,
            't' => "/run",
            'S' => "/var/lib",
            'C' => "/var/cache",
            'L' => "/var/log",
            'E' => "/etc",
            'D' => "/usr/share",
            'T' => "/tmp",
            'V' => "/var/tmp",
            // The account and home of the manager, not of the service: root's.
            'h' => "/root",
            'u' | 'g' => "root",
            'U' | 'G' => "0",
            other => {
                out.unknown.push(format!("%{other}"));
                &format!("%{other}")
            }
        };
        out.text.push_str(value);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str, file: &str) -> String {
        expand(text, &FileName::of(file)).text
    }

    #[test]
    fn specifiers_that_are_certain_are_replaced() {
        assert_eq!(text("%n %N %p %i|%I", "web.service"), "web.service web web |");
        assert_eq!(text("%n %N %p %j %i", "a-b@c.service"), "a-b@c.service a-b@c a-b b c");
        assert_eq!(
            text("%t/x %S %C %L %E %T %V %h %u:%U %g:%G", "x.service"),
            "/run/x /var/lib /var/cache /var/log /etc /tmp /var/tmp /root root:0 root:0"
        );
        assert_eq!(text("100%% %", "x.service"), "100% %");
        assert_eq!(text("%f", "a@b.service"), "/b");
        assert_eq!(text("%f", "a.service"), "/a");
    }

    #[test]
    fn the_instance_of_a_template_stays_open() {
        let found = expand("%i %I %N", &FileName::of("w@.service"));
        assert_eq!(found.text, format!("{INSTANCE} {INSTANCE} w@{INSTANCE}"));
        assert!(found.unescaped);
    }

    #[test]
    fn what_only_the_machine_knows_is_told() {
        let found = expand("%H-%m", &FileName::of("w.service"));
        assert_eq!(
            (found.text.as_str(), found.unknown),
            ("%H-%m", vec!["%H".to_owned(), "%m".to_owned()])
        );
    }
}
