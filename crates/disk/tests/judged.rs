//! Others' tools judge what we write.

mod common;

use std::fs::File;

use cairn_disk::gpt::{Arch, Attributes, PartitionType, Size, Table};
use cairn_disk::verity::{self, Error, RootHash, Superblock};
use cairn_disk::{FileDevice, Guid, SectorSize};
use common::{judge, said};

fn sample(bytes: u64) -> Table {
    let mut table = Table::new(SectorSize::B512, bytes, Guid::from_u128(0x5ca1ab1e)).unwrap();
    table
        .add(PartitionType::Esp, Guid::from_u128(0xa), "esp", Size::Bytes(3 << 20))
        .unwrap();
    let root = table
        .add(
            PartitionType::Root(Arch::X86_64),
            Guid::from_u128(0xb),
            "größe_1",
            Size::Bytes(1),
        )
        .unwrap();
    table.partitions.get_mut(&root).unwrap().attributes = Attributes::READ_ONLY;
    table
}

fn disk(table: &Table, bytes: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(bytes).unwrap();
    table
        .write(&mut FileDevice::new(file.reopen().unwrap()).unwrap())
        .unwrap();
    file
}

#[test]
fn sgdisk_and_sfdisk_accept_a_fresh_table_and_a_grown_one() {
    let mut table = sample(16 << 20);
    let file = disk(&table, 16 << 20);
    let agree = |what: &str| {
        if let Some(mut sgdisk) = judge("sgdisk") {
            let output = sgdisk.arg("-v").arg(file.path()).output().unwrap();
            assert!(
                output.status.success() && said(&output).contains("No problems found"),
                "{what}: {}",
                said(&output)
            );
        }
        if let Some(mut sfdisk) = judge("sfdisk") {
            let output = sfdisk.arg("--verify").arg(file.path()).output().unwrap();
            assert!(
                output.status.success() && said(&output).contains("No errors detected"),
                "{what}: {}",
                said(&output)
            );
        }
    };
    agree("fresh");
    file.as_file().set_len(24 << 20).unwrap();
    table.fit_disk(24 << 20).unwrap();
    table
        .add(PartitionType::LinuxGeneric, Guid::from_u128(0xd), "data", Size::Rest)
        .unwrap();
    table
        .write(&mut FileDevice::new(file.reopen().unwrap()).unwrap())
        .unwrap();
    agree("grown");
}

#[test]
fn sfdisk_reads_the_types_names_and_guids_that_we_wrote() {
    let file = disk(&sample(16 << 20), 16 << 20);
    let Some(mut sfdisk) = judge("sfdisk") else { return };
    let text = said(&sfdisk.arg("--dump").arg(file.path()).output().unwrap()).to_lowercase();
    for part in [
        "label-id: 00000000-0000-0000-0000-00005ca1ab1e",
        "start=        2048, size=        6144, type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        "type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709, uuid=00000000-0000-0000-0000-00000000000b, name=\"gr\\xc3\\xb6\\xc3\\x9fe_1\", attrs=\"guid:60\"",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_table_by_sgdisk_is_read_and_its_unknown_parts_survive_a_rewrite() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(16 << 20).unwrap();
    let Some(mut sgdisk) = judge("sgdisk") else { return };
    let args = ["-n", "2:4096:8191", "-t", "2:8200", "-c", "2:swap", "-A", "2:set:2"];
    assert!(sgdisk.args(args).arg(file.path()).output().unwrap().status.success());
    let mut dev = FileDevice::new(file.reopen().unwrap()).unwrap();
    let found = Table::read(&dev).unwrap();
    assert!(!found.needs_repair(), "{found:?}");
    let swap = &found.table.partitions[&2];
    assert_eq!(
        (swap.first, swap.last, swap.name.as_str(), swap.attributes.0),
        (4096, 8191, "swap", 4)
    );
    let mut table = found.table.clone();
    table
        .add(PartitionType::LinuxGeneric, Guid::from_u128(1), "data", Size::Rest)
        .unwrap();
    table.write(&mut dev).unwrap();
    assert_eq!(Table::read(&dev).unwrap().table.partitions[&2], *swap);
}

#[test]
fn a_grown_entry_never_runs_into_the_next_one() {
    let mut table = sample(16 << 20);
    let before = table.clone();
    assert!(table.grow(1, 64 << 20).is_err());
    assert_eq!(table, before, "a failed edit changes nothing");
    table.grow(2, 2 << 20).unwrap();
    assert_eq!(table.partitions[&2].sectors(), 4096);
    assert!(
        table
            .add(PartitionType::Esp, Guid::from_u128(0xa), "twice", Size::Rest)
            .is_err(),
        "GUIDs are unique"
    );
    assert!(
        table
            .add(PartitionType::Esp, Guid::from_u128(0xe), "big", Size::Bytes(1 << 40))
            .is_err()
    );
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

#[test]
fn veritysetup_accepts_our_tree_and_computes_the_same_root() {
    for blocks in [1, 2, 128, 129, 16385] {
        let data = pattern(blocks * 4096);
        let folder = tempfile::tempdir().unwrap();
        let (data_path, hash_path) = (folder.path().join("data"), folder.path().join("hash"));
        std::fs::write(&data_path, &data).unwrap();
        let uuid = Guid::from_u128(0x1234_5678_9abc_4def_8123_4567_89ab_cdef);
        let salt = [0xab; 32];
        let tree = verity::build(&File::open(&data_path).unwrap(), data.len() as u64, &salt, uuid, 2).unwrap();
        assert_eq!(
            verity::build(&data, data.len() as u64, &salt, uuid, 1).unwrap(),
            tree,
            "threads change nothing"
        );
        tree.write(&mut File::create(&hash_path).unwrap()).unwrap();
        assert_eq!(std::fs::metadata(&hash_path).unwrap().len(), tree.size());
        assert_eq!(verity::hash_device_size(data.len() as u64), tree.size());
        let Some(mut veritysetup) = judge("veritysetup") else {
            return;
        };
        let output = veritysetup
            .arg("verify")
            .args([&data_path, &hash_path])
            .arg(tree.root.to_string())
            .output()
            .unwrap();
        assert!(output.status.success(), "{blocks} blocks: {}", said(&output));
        let theirs = folder.path().join("theirs");
        let output = judge("veritysetup")
            .unwrap()
            .args(["format", "--uuid", &uuid.to_string(), "--salt", &"ab".repeat(32)])
            .args([&data_path, &theirs])
            .output()
            .unwrap();
        assert!(said(&output).contains(&tree.root.to_string()), "{}", said(&output));
        assert!(
            std::fs::read(&theirs).unwrap() == std::fs::read(&hash_path).unwrap(),
            "{blocks} blocks: other bytes"
        );
    }
}

#[test]
fn a_flipped_bit_in_data_tree_or_root_is_named() {
    let data = pattern(300 * 4096);
    let tree = verity::build(&data, data.len() as u64, b"salt", Guid::NIL, 2).unwrap();
    let mut hashes = Vec::new();
    tree.write(&mut hashes).unwrap();
    let size = data.len() as u64;
    verity::verify(&data, size, &hashes, &tree.root, 2).unwrap();
    let mut bad = data.clone();
    bad[131 * 4096 + 17] ^= 4;
    let result = verity::verify(&bad, size, &hashes, &tree.root, 2);
    assert!(
        matches!(result, Err(Error::Block { level: 0, block: 131 })),
        "{result:?}"
    );
    hashes[4096 + 32] ^= 1; // the second hash in the root's block
    let result = verity::verify(&data, size, &hashes, &tree.root, 2);
    assert!(matches!(result, Err(Error::Block { level: 1, block: 1 })), "{result:?}");
    hashes[4096 + 32] ^= 1;
    let other = RootHash([7; 32]);
    assert!(matches!(
        verity::verify(&data, size, &hashes, &other, 2),
        Err(Error::Root { .. })
    ));
    assert!(matches!(
        verity::verify(&data, size - 4096, &hashes, &tree.root, 2),
        Err(Error::Superblock(_))
    ));
}

#[test]
fn the_root_hash_names_both_partitions_as_systemd_does() {
    let text = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210";
    let root: RootHash = text.parse().unwrap();
    assert_eq!(root.to_string(), text);
    assert_eq!(root.partuuid_root().to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    assert_eq!(
        root.partuuid_verity().to_string(),
        "01234567-89ab-cdef-fedc-ba9876543210"
    );
    assert_eq!(root.partuuid_root().to_disk()[..4], [0x33, 0x22, 0x11, 0x00]);
    assert!("00".parse::<RootHash>().is_err());
}

#[test]
fn the_kernel_gets_its_parameters_in_its_order() {
    let superblock = Superblock {
        uuid: Guid::NIL,
        data_blocks: 9,
        salt: vec![0xca, 0xfe],
    };
    assert_eq!(Superblock::parse(&superblock.to_bytes()).unwrap(), superblock);
    let root = RootHash([0x11; 32]);
    let params = superblock.target_params("254:1", "254:2", &root, &["panic_on_corruption"]);
    assert_eq!(
        params,
        format!("1 254:1 254:2 4096 4096 9 1 sha256 {root} cafe 1 panic_on_corruption")
    );
    assert_eq!(superblock.target_sectors(), 72);
}
