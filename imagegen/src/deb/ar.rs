//! The outer container, deb(5): an `ar` archive of `debian-binary`, `control.tar.*` and `data.tar.*`.

/// The two inner archives, still compressed, each with its name.
#[derive(Debug)]
pub(super) struct Members<'a> {
    pub(super) control: (&'a str, &'a [u8]),
    pub(super) data: (&'a str, &'a [u8]),
}

/// Finds the members. The error says what is wrong.
pub(super) fn members(deb: &[u8]) -> Result<Members<'_>, String> {
    let mut rest = deb.strip_prefix(b"!<arch>\n").ok_or("it is not an ar archive")?;
    let (mut version, mut control, mut data) = (None, None, None);
    while !rest.is_empty() {
        let header = rest.get(..60).ok_or("it is cut off in a header")?;
        let text = |range: std::ops::Range<usize>| std::str::from_utf8(&header[range]).map(str::trim_end).unwrap_or("");
        if &header[58..60] != b"`\n" {
            return Err("a header has no end mark".into());
        }
        let name = text(0..16).trim_end_matches('/');
        let size: usize = text(48..58).parse().map_err(|_| format!("member {name} has no size"))?;
        let end = 60usize.checked_add(size).ok_or("a member is too large")?;
        let content = rest
            .get(60..end)
            .ok_or_else(|| format!("it is cut off in member {name}"))?;
        // Members begin at even offsets.
        rest = rest.get(end + size % 2..).unwrap_or_default();
        let slot = match name {
            "debian-binary" => {
                version = Some(content);
                continue;
            }
            // dpkg passes over such members.
            _ if name.starts_with('_') => continue,
            _ if name.starts_with("control.tar") => &mut control,
            _ if name.starts_with("data.tar") => &mut data,
            _ => return Err(format!("it has an unknown member {name:?}")),
        };
        if version.is_none() {
            return Err("its first member is not debian-binary".into());
        }
        if slot.replace((name, content)).is_some() {
            return Err(format!("it has two members {name}"));
        }
    }
    if !version.is_some_and(|version| version.starts_with(b"2.")) {
        return Err("its format version is not 2".into());
    }
    let control = control.ok_or("it has no control.tar")?;
    let data = data.ok_or("it has no data.tar")?;
    Ok(Members { control, data })
}
