//! The order of versions, by deb-version(7).

use std::cmp::Ordering;

/// Compares two versions as dpkg does: epoch, upstream version, revision.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let (epoch_a, upstream_a, revision_a) = split(a);
    let (epoch_b, upstream_b, revision_b) = split(b);
    number(epoch_a.as_bytes(), epoch_b.as_bytes())
        .then_with(|| part(upstream_a.as_bytes(), upstream_b.as_bytes()))
        .then_with(|| part(revision_a.as_bytes(), revision_b.as_bytes()))
}

fn split(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Alternately a run without digits and a number, until one side wins.
fn part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (text_a, text_b) = (digits_from(a), digits_from(b));
        for i in 0..text_a.max(text_b) {
            let order = weight(a[..text_a].get(i)).cmp(&weight(b[..text_b].get(i)));
            if order != Ordering::Equal {
                return order;
            }
        }
        (a, b) = (&a[text_a..], &b[text_b..]);
        let (number_a, number_b) = (text_from(a), text_from(b));
        let order = number(&a[..number_a], &b[..number_b]);
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (&a[number_a..], &b[number_b..]);
    }
    Ordering::Equal
}

/// `~` before the end, the end before letters, letters before the rest.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

fn digits_from(text: &[u8]) -> usize {
    text.iter().position(u8::is_ascii_digit).unwrap_or(text.len())
}

fn text_from(text: &[u8]) -> usize {
    text.iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len())
}

/// Numbers of any length, leading zeros aside.
fn number(a: &[u8], b: &[u8]) -> Ordering {
    let trim = |text: &[u8]| text.iter().position(|byte| *byte != b'0').unwrap_or(text.len());
    let (a, b) = (&a[trim(a)..], &b[trim(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        let ascending = [
            "0~~",
            "0~~a",
            "0~",
            "0",
            "0a",
            "0+",
            "1.0~rc1-1",
            "1.0-1~bpo1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1+deb13u1",
            "1.0-1.1",
            "1.0-2",
            "1.0-10",
            "1.0a-1",
            "1.0+x-1",
            "1.00001.2",
            "1.2-3-1",
            "1.10",
            "2",
            "1:0.1",
            "2:0~",
            "10:0",
            "10:99999999999999999999",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(compare_versions(a, b), i.cmp(&j), "{a} {b}");
            }
        }
        for (a, b) in [
            ("1.0", "1.00"),
            ("0:1", "1"),
            ("1-0", "1"),
            ("1.0-", "1.0"),
            ("1", "01"),
        ] {
            assert_eq!(compare_versions(a, b), Ordering::Equal, "{a} {b}");
        }
    }
}
