//! Relations between packages: `a (>= 1) | b:any, c [amd64] <!nocheck>` (Debian policy 7.1, deb-control(5)).

use std::cmp::Ordering;
use std::fmt;

use super::compare_versions;

/// How a version must compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Operator {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "<<" => Self::Earlier,
            // `<` and `>` are old spellings that mean "or equal".
            "<=" | "<" => Self::EarlierOrEqual,
            "=" => Self::Equal,
            ">=" | ">" => Self::LaterOrEqual,
            ">>" => Self::Later,
            _ => return None,
        })
    }

    fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Earlier => order.is_lt(),
            Self::EarlierOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::LaterOrEqual => order.is_ge(),
            Self::Later => order.is_gt(),
        }
    }
}

/// One way to meet a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alternative<'a> {
    /// The package, real or virtual.
    pub name: &'a str,
    /// What follows the colon: `any`, `native` or an architecture.
    pub qualifier: Option<&'a str>,
    /// The version it must have.
    pub version: Option<(Operator, &'a str)>,
}

impl Alternative<'_> {
    /// Whether a package with this version meets the version part.
    pub fn accepts(&self, version: &str) -> bool {
        self.version
            .is_none_or(|(operator, wanted)| operator.accepts(compare_versions(version, wanted)))
    }
}

impl fmt::Display for Alternative<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        if let Some((operator, version)) = self.version {
            let sign = match operator {
                Operator::Earlier => "<<",
                Operator::EarlierOrEqual => "<=",
                Operator::Equal => "=",
                Operator::LaterOrEqual => ">=",
                Operator::Later => ">>",
            };
            write!(f, " ({sign} {version})")?;
        }
        Ok(())
    }
}

/// Alternatives, of which one must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation<'a>(pub Vec<Alternative<'a>>);

impl fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, alternative) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" | ")?;
            }
            alternative.fmt(f)?;
        }
        Ok(())
    }
}

/// The relations of a field, as far as they hold on architecture `arch` with no build profile. The error is the part that
/// cannot be read.
pub fn parse_relations<'a>(field: &'a str, arch: &str) -> Result<Vec<Relation<'a>>, String> {
    let mut relations = Vec::new();
    for group in field.split(',').map(str::trim).filter(|group| !group.is_empty()) {
        let mut alternatives = Vec::new();
        for text in group.split('|') {
            alternatives.extend(parse_alternative(text.trim(), arch).ok_or_else(|| text.trim().to_owned())?);
        }
        if !alternatives.is_empty() {
            relations.push(Relation(alternatives));
        }
    }
    Ok(relations)
}

/// None: unreadable. Some(None): does not apply here.
fn parse_alternative<'a>(text: &'a str, arch: &str) -> Option<Option<Alternative<'a>>> {
    let end = text.find([' ', '\t', '\n', '(', '[', '<']).unwrap_or(text.len());
    let (name, mut rest) = (&text[..end], text[end..].trim_start());
    let (name, qualifier) = match name.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier)),
        None => (name, None),
    };
    if name.is_empty() {
        return None;
    }
    let mut version = None;
    let mut applies = true;
    while !rest.is_empty() {
        let (inner, after) = match rest.as_bytes()[0] {
            b'(' => rest[1..].split_once(')')?,
            b'[' => rest[1..].split_once(']')?,
            b'<' => rest[1..].split_once('>')?,
            _ => return None,
        };
        match rest.as_bytes()[0] {
            b'(' => {
                let inner = inner.trim();
                let digits = inner.find(|c| !matches!(c, '<' | '>' | '='))?;
                version = Some((Operator::parse(&inner[..digits])?, inner[digits..].trim()));
            }
            b'[' => applies &= arch_list(inner, arch),
            // With no profile active a list of profiles holds only if all of it is negated.
            _ => applies &= inner.split_ascii_whitespace().all(|profile| profile.starts_with('!')),
        }
        rest = after.trim_start();
    }
    Some(applies.then_some(Alternative {
        name,
        qualifier,
        version,
    }))
}

fn arch_list(list: &str, arch: &str) -> bool {
    let is_us =
        |name: &str| matches!(name, "any" | "linux-any") || name == arch || name.strip_prefix("any-") == Some(arch);
    let mut names = list.split_ascii_whitespace().peekable();
    match names.peek() {
        Some(first) if first.starts_with('!') => !names.any(|name| is_us(name.trim_start_matches('!'))),
        _ => names.any(is_us),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_read_with_all_their_parts() {
        let field = "a (>= 1:2-3) | b:any,\n c(<<2), d [!arm64], e [arm64], f <!nocheck>, g <stage1>, h:native";
        let relations = parse_relations(field, "amd64").unwrap();
        let texts: Vec<String> = relations.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["a (>= 1:2-3) | b:any", "c (<< 2)", "d", "f", "h:native"]);
        assert!(relations[0].0[0].accepts("1:2-3") && !relations[0].0[0].accepts("9"));
        for bad in ["(>= 1)", "a (>= 1", "a (~ 1)", "a ]"] {
            assert!(parse_relations(bad, "amd64").is_err(), "{bad}");
        }
    }
}
