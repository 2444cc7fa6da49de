//! Packages made by tests.

/// A tar of these paths, types and contents (or targets of links).
pub(crate) fn tar_of(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        // Written raw: the safe setters refuse the paths that these tests are about.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(9);
        let is_link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
        if is_link {
            header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
        }
        let content = if is_link { "" } else { content };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A package with this `data.tar`, whose member is named `ending`.
pub(crate) fn deb_of(data: &[u8], ending: &str) -> Vec<u8> {
    let control = tar_of(&[
        (
            "./control",
            tar::EntryType::Regular,
            "Package: p\nVersion: 1\nDescription: x\n more\n",
        ),
        ("./conffiles", tar::EntryType::Regular, "/etc/p.conf\n"),
        ("./postinst", tar::EntryType::Regular, "#!/bin/sh\n"),
    ]);
    let mut deb = b"!<arch>\n".to_vec();
    for (name, content) in [
        ("debian-binary", b"2.0\n".as_slice()),
        ("control.tar", &control),
        (ending, data),
    ] {
        deb.extend(
            format!(
                "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
                0,
                0,
                0,
                "100644",
                content.len()
            )
            .bytes(),
        );
        deb.extend(content);
        if content.len() % 2 == 1 {
            deb.push(b'\n');
        }
    }
    deb
}
