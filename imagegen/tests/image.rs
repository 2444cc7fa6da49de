//! Others' tools judge the images that `imagegen::image` writes.

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use cairn_disk::Guid;
use cairn_disk::gpt::Arch;
use common::{agrees, judge, judges};
use imagegen::image::cpio::{self, Entry, Kind};
use imagegen::image::formats::{self, Format};
use imagegen::image::inspect::Image;
use imagegen::image::{disk, erofs, esp, fat, guid_for, uki};

const EPOCH: u64 = 1_767_225_600;

/// Bytes that do not compress, the same each time.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A minimal 64-bit EFI binary with two sections and room for more headers.
fn small_stub() -> Vec<u8> {
    let mut pe = vec![0; 0x800];
    let mut set = |at: usize, bytes: &[u8]| pe[at..at + bytes.len()].copy_from_slice(bytes);
    set(0, b"MZ");
    set(0x3c, &0x40_u32.to_le_bytes());
    set(0x40, b"PE\0\0");
    set(0x44, &0x8664_u16.to_le_bytes());
    set(0x46, &2_u16.to_le_bytes());
    set(0x54, &240_u16.to_le_bytes());
    set(0x58, &0x20b_u16.to_le_bytes());
    set(0x58 + 32, &4096_u32.to_le_bytes());
    set(0x58 + 36, &512_u32.to_le_bytes());
    set(0x58 + 60, &0x400_u32.to_le_bytes());
    set(0x58 + 70, &0x0100_u16.to_le_bytes());
    set(0x58 + 108, &16_u32.to_le_bytes());
    for (at, name, address, place) in [
        (0x148, b".text\0\0\0", 0x1000_u32, 0x400_u32),
        (0x170, b".sbat\0\0\0", 0x2000, 0x600),
    ] {
        set(at, name);
        for (offset, value) in [(8, 0x1f0), (12, address), (16, 0x200), (20, place), (36, 0x4000_0040)] {
            set(at + offset, &value.to_le_bytes());
        }
    }
    set(0x600, b"sbat,1,SBAT Version");
    pe
}

fn sample_uki(cmdline: &str) -> Vec<u8> {
    let initrd = noise(5, 70_001);
    let parts = uki::Parts {
        osrel: "ID=cairn\n",
        cmdline,
        uname: "6.12.0",
        initrd: &initrd,
        linux: b"MZ kernel",
    };
    uki::build(&small_stub(), &parts, EPOCH as u32).unwrap()
}

/// A raw image over a made-up root file system, in `folder`.
fn sample_image(folder: &Path) -> (PathBuf, disk::Layout) {
    let mut content = noise(1, 300 << 10);
    content.extend(b"the same line again\n".repeat(100_000));
    content.resize(content.len().next_multiple_of(4096) + (2 << 20), 0);
    content.extend(noise(2, 4096));
    let root_path = folder.join("root.erofs");
    std::fs::write(&root_path, &content).unwrap();
    let root = File::open(&root_path).unwrap();
    let tree = disk::hash_tree(&root, content.len() as u64, guid_for("root", b"sample")).unwrap();
    let uki = sample_uki(&format!("quiet roothash={}", tree.root));
    let inputs = esp::Inputs {
        arch: Arch::X86_64,
        name: "base",
        version: "1.2",
        loader: b"MZ loader",
        uki: &uki,
        recovery: None,
        epoch: EPOCH,
        setup: None,
        keys: None,
    };
    let esp = esp::contents(&inputs).unwrap();
    let sizes = disk::Sizes {
        esp: esp::size_for(&esp),
        root: content.len() as u64,
        slot: 64 << 20,
    };
    let layout = disk::plan(Arch::X86_64, sizes, &tree, &esp).unwrap();
    let path = folder.join("image.raw");
    disk::write(
        &layout,
        &disk::Contents {
            esp: &esp,
            tree: &tree,
            root: &root,
        },
        &path,
    )
    .unwrap();
    (path, layout)
}

#[test]
fn sgdisk_sfdisk_and_veritysetup_accept_the_disk_and_inspect_reads_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let (path, layout) = sample_image(folder.path());
    println!("{layout}");
    assert!(agrees(judge("sgdisk").arg("-v").arg(&path)).contains("No problems found"));
    assert!(agrees(judge("sfdisk").arg("--verify").arg(&path)).contains("No errors detected"));
    let image = Image::open(&path).unwrap();
    let report = image.report().unwrap();
    let entry = &report.entries[0];
    assert_eq!(entry.path, "EFI/Linux/base_1.2+3.efi");
    assert!(entry.root_present && report.table == "good", "{report:?}");
    assert!(
        report.allocated < 6 << 20,
        "unused space stays a hole: {} bytes",
        report.allocated
    );
    let hash = entry.root_hash.as_ref().unwrap().parse().unwrap();
    image.verify(&hash).unwrap();
    let [root, hashes] = image.root(&hash).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let cut = |name: &str, (at, size): (u64, u64)| {
        let to = folder.path().join(name);
        std::fs::write(&to, &bytes[at as usize..(at + size) as usize]).unwrap();
        to
    };
    let (data, hashes) = (cut("data", root), cut("hashes", hashes));
    agrees(
        judge("veritysetup")
            .arg("verify")
            .args([data, hashes])
            .arg(hash.to_string()),
    );
    let (at, size) = layout.range("esp").unwrap();
    let esp = cut("esp", (at, size));
    agrees(judge("fsck.vfat").arg("-n").arg(&esp));
}

#[test]
fn the_same_inputs_give_the_same_bytes_in_every_format_and_qemu_reads_them() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (raw, layout) = sample_image(one.path());
    let (again, _) = sample_image(two.path());
    assert!(
        std::fs::read(&raw).unwrap() == std::fs::read(&again).unwrap(),
        "raw differs"
    );
    for format in Format::ALL {
        let paths = [(&raw, one.path()), (&again, two.path())].map(|(raw, folder)| {
            let to = folder.join(format!("copy.{format}"));
            formats::convert(&File::open(raw).unwrap(), format, &to, layout.table.disk).unwrap();
            to
        });
        let bytes = paths.each_ref().map(|p| std::fs::read(p).unwrap());
        assert!(bytes[0] == bytes[1], "{format} differs");
        assert_eq!(Format::detect(&bytes[0]), format);
        judge_format(&raw, &paths[0], format);
    }
}

/// `qemu-img` finds no fault in a converted image and sees the same disk in it.
fn judge_format(raw: &Path, path: &Path, format: Format) {
    if format != Format::Raw {
        let said = agrees(judge("qemu-img").args(["check", "-f", format.name()]).arg(path));
        assert!(said.contains("No errors were found"), "{format}: {said}");
    }
    let said = agrees(
        judge("qemu-img")
            .args(["compare", "-f", "raw", "-F", format.name()])
            .args([raw, path]),
    );
    assert!(said.contains("identical"), "{format}: {said}");
    let said = agrees(judge("qemu-img").arg("info").arg(path));
    assert!(said.contains(&format!("file format: {format}")), "{said}");
}

#[test]
fn disks_of_odd_shapes_survive_every_format() {
    let folder = tempfile::tempdir().unwrap();
    // Empty; noise only; compressible only; both in turns, so that qcow2's packing starts anew; a part of a block at the end.
    let mut turns = Vec::new();
    for n in 0..40 {
        turns.extend(if n % 3 == 0 {
            noise(n + 9, 65_536)
        } else {
            vec![n as u8 + 1; 65_536 * (n as usize % 4)]
        });
        turns.extend(noise(n + 70, 20_000));
        turns.resize(turns.len().next_multiple_of(65_536), 0);
    }
    let mut tail = vec![0; 3 << 20];
    tail.extend(noise(3, 512));
    let shapes = [vec![0; 1 << 20], noise(4, 5 << 20), vec![7; 9 << 20], turns, tail];
    for (n, shape) in shapes.iter().enumerate() {
        let raw = folder.path().join(format!("{n}.raw"));
        std::fs::write(&raw, shape).unwrap();
        for format in Format::ALL {
            let to = folder.path().join(format!("{n}.{format}.out"));
            formats::convert(&File::open(&raw).unwrap(), format, &to, Guid::from_u128(n as u128)).unwrap();
            judge_format(&raw, &to, format);
        }
    }
}

#[test]
fn recovery_lies_beside_the_version_and_an_esp_without_room_for_another_is_refused() {
    let inputs = esp::Inputs {
        arch: Arch::X86_64,
        name: "base",
        version: "1.2",
        loader: b"MZ loader",
        uki: &noise(1, 3 << 20),
        recovery: Some(&noise(2, 4 << 20)),
        epoch: EPOCH,
        setup: None,
        keys: None,
    };
    let with = esp::contents(&inputs).unwrap();
    assert_eq!(with.files["EFI/Linux/recovery.efi"].len(), 4 << 20);
    let without = esp::contents(&esp::Inputs {
        recovery: None,
        ..inputs
    });
    assert!(!without.unwrap().files.contains_key("EFI/Linux/recovery.efi"));
    // Both entries, another version's, and what is spare.
    esp::check_room(&with, 3 << 20, 15 << 20).unwrap();
    let why = esp::check_room(&with, 3 << 20, 14 << 20).unwrap_err().to_string();
    assert!(why.contains("raise `image.esp` in the recipe to 15M"), "{why}");
}

#[test]
fn fsck_vfat_and_mtools_read_our_fat_and_so_do_we() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = BTreeMap::from([
        ("EFI/BOOT/BOOTX64.EFI".to_owned(), noise(1, 100_000)),
        ("EFI/Linux/base_2026.11.22+3.efi".to_owned(), noise(2, 3_000_001)),
        ("loader/loader.conf".to_owned(), b"timeout 0\n".to_vec()),
        ("loader/empty".to_owned(), Vec::new()),
        ("größe mit ü.txt".to_owned(), b"x".to_vec()),
    ]);
    for n in 0..60 {
        files.insert(
            format!("many/a file with a long name {n}.conf"),
            vec![n; n as usize * 100],
        );
    }
    let contents = fat::Contents {
        label: "ESP".into(),
        serial: 0x1234_abcd,
        epoch: EPOCH,
        files,
    };
    for (size, start) in [(34_u64 << 20, 0), (64 << 20, 0), (300 << 20, 1 << 20)] {
        let path = folder.path().join("fat");
        let file = File::create_new(&path).unwrap();
        file.set_len(start + size).unwrap();
        fat::write(&file, &path, start, size, &contents).unwrap();
        let read = File::open(&path).unwrap();
        let window = cairn_disk::Window::new(&read, start, size);
        let opened = fat::read::Fat::open(&window).unwrap();
        let listed: BTreeMap<String, Vec<u8>> = opened
            .list()
            .unwrap()
            .iter()
            .filter(|e| !e.folder)
            .map(|e| (e.path.clone(), opened.extract(e).unwrap()))
            .collect();
        assert!(listed == contents.files, "{:?}", listed.keys());
        if start == 0 {
            agrees(judge("fsck.vfat").arg("-n").arg(&path));
            let said = agrees(judge("mdir").args(["-/", "-b", "-i"]).arg(&path).arg("::"));
            assert!(said.contains("::/EFI/Linux/base_2026.11.22+3.efi"), "{said}");
            assert!(said.contains("a file with a long name 59.conf"), "{said}");
            let to = folder.path().join("out");
            let uki = "::EFI/Linux/base_2026.11.22+3.efi";
            agrees(judge("mcopy").args(["-n", "-i"]).arg(&path).arg(uki).arg(&to));
            assert!(std::fs::read(&to).unwrap() == contents.files["EFI/Linux/base_2026.11.22+3.efi"]);
            std::fs::remove_file(to).unwrap();
        }
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_fat_that_is_too_full_or_damaged_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fat");
    let file = File::create_new(&path).unwrap();
    file.set_len(34 << 20).unwrap();
    let files = BTreeMap::from([("big".to_owned(), vec![1; 34 << 20])]);
    let contents = fat::Contents {
        label: "ESP".into(),
        serial: 1,
        epoch: EPOCH,
        files,
    };
    assert!(
        fat::write(&file, &path, 0, 34 << 20, &contents)
            .unwrap_err()
            .to_string()
            .contains("larger ESP")
    );
    assert!(fat::write(&file, &path, 0, 1 << 20, &contents).is_err());
    for seed in 0..50 {
        let mut bytes = noise(seed, 1 << 20);
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        bytes[11..16].copy_from_slice(&[0, 2, 1, 32, 0]);
        bytes[22..24].fill(0);
        bytes[32..36].copy_from_slice(&2048_u32.to_le_bytes());
        bytes[36..40].copy_from_slice(&64_u32.to_le_bytes());
        bytes[44..48].copy_from_slice(&2_u32.to_le_bytes());
        if let Ok(opened) = fat::read::Fat::open(&bytes) {
            let _ = opened.list();
        }
    }
}

#[test]
fn a_uki_gives_back_what_was_put_in_and_keeps_the_stub() {
    let uki = sample_uki("quiet roothash=00");
    assert_eq!(sample_uki("quiet roothash=00"), uki);
    let sections = uki::read(&uki).unwrap();
    let names: Vec<&str> = sections.iter().map(|s| s.name).collect();
    assert_eq!(
        names,
        [".text", ".sbat", ".osrel", ".cmdline", ".uname", ".initrd", ".linux"]
    );
    assert_eq!(uki::text(&sections, ".cmdline"), Some("quiet roothash=00"));
    assert_eq!(sections[5].data, noise(5, 70_001));
    assert!(uki::text(&sections, ".sbat").unwrap().starts_with("sbat,1"));
    assert!(
        uki::build(
            &uki,
            &uki::Parts {
                osrel: "",
                cmdline: "",
                uname: "",
                initrd: b"",
                linux: b""
            },
            0
        )
        .is_err()
    );
    for length in (0..uki.len()).step_by(61) {
        let _ = uki::read(&uki[..length]);
    }
}

#[test]
fn ukify_reads_a_uki_from_the_real_stub() {
    let stub = judges().root.join("usr/lib/systemd/boot/efi/linuxx64.efi.stub");
    let folder = tempfile::tempdir().unwrap();
    let initrd = noise(5, 70_001);
    let parts = uki::Parts {
        osrel: "ID=cairn\n",
        cmdline: "quiet",
        uname: "6.12.0",
        initrd: &initrd,
        linux: &small_stub(),
    };
    let uki = uki::build(&std::fs::read(stub).unwrap(), &parts, EPOCH as u32).unwrap();
    let path = folder.path().join("uki.efi");
    std::fs::write(&path, &uki).unwrap();
    let said = agrees(judge("ukify").arg("inspect").arg(&path));
    for section in [".osrel", ".cmdline", ".uname", ".initrd", ".linux", ".sbat"] {
        assert!(said.contains(section), "{section} in {said}");
    }
    assert!(said.contains("quiet"), "{said}");
}

#[test]
fn cpio_unpacks_an_initrd_with_modes_links_and_devices() {
    let entry = |path: &str, mode, kind| Entry {
        path: path.into(),
        mode,
        kind,
    };
    let entries = [
        entry("dev", 0o755, Kind::Folder),
        entry("dev/console", 0o600, Kind::Device(5, 1)),
        entry("init", 0o755, Kind::File(noise(1, 12_345))),
        entry("sbin", 0o777, Kind::Link("usr/sbin".into())),
    ];
    let initrd = cpio::initrd(&entries, EPOCH as u32, 19).unwrap();
    assert_eq!(cpio::initrd(&entries, EPOCH as u32, 19).unwrap(), initrd);
    let plain = zstd::decode_all(&initrd[..]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("initrd");
    std::fs::write(&path, &plain).unwrap();
    let said = agrees(judge("cpio").args(["-tvn", "-F"]).arg(&path).env("TZ", "UTC"));
    for part in [
        "drwxr-xr-x   2 0        0               0 Jan  1  2026 dev",
        "crw-------",
        "5,   1",
        "12345",
        "sbin -> usr/sbin",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

fn sample_tar(to: &mut dyn Write) -> std::io::Result<()> {
    let mut tar = tar::Builder::new(to);
    for n in 0..40_u64 {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_mtime(EPOCH);
        let content = if n % 2 == 0 {
            noise(n, 50_000)
        } else {
            b"line\n".repeat(30_000)
        };
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, format!("usr/file{n}"), &content[..])?;
    }
    tar.finish()
}

#[test]
fn mkfs_erofs_makes_the_same_root_from_a_stream_as_from_a_file() {
    let tools = judges();
    let folder = tempfile::tempdir().unwrap();
    let (one, two, tar) = (
        folder.path().join("1"),
        folder.path().join("2"),
        folder.path().join("tar"),
    );
    for compression in [erofs::Compression::Lz4, erofs::Compression::Zstd(3)] {
        let options = erofs::Options {
            compression,
            epoch: EPOCH,
            uuid: Guid::from_u128(77),
        };
        erofs::from_stream(&tools, |to| sample_tar(to), &one, &options).unwrap();
        sample_tar(&mut File::create(&tar).unwrap()).unwrap();
        erofs::from_file(&tools, File::open(&tar).unwrap(), &two, &options).unwrap();
        assert!(
            std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap(),
            "{compression:?} differs"
        );
        agrees(judge("fsck.erofs").arg(&one));
    }
    let options = erofs::Options {
        compression: erofs::Compression::Zstd(3),
        epoch: EPOCH,
        uuid: Guid::from_u128(77),
    };
    let padded = |to: &mut dyn Write| {
        sample_tar(to)?;
        to.write_all(&vec![0; 4 << 20])
    };
    erofs::from_stream(&tools, padded, &one, &options).unwrap();
    assert!(
        std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap(),
        "padding after the archive changes nothing"
    );
    let broken = |_: &mut dyn Write| Err(std::io::Error::other("no such package"));
    let options = erofs::Options {
        compression: erofs::Compression::Lz4,
        epoch: EPOCH,
        uuid: Guid::NIL,
    };
    let error = erofs::from_stream(&tools, broken, &one, &options).unwrap_err();
    assert!(error.to_string().contains("no such package"), "{error}");
}
