use super::*;

const ALIAS: &str = "# Aliases extracted from modules themselves.
alias pci:v00001AF4d0000100[0-9]sv*sd*bc*sc*i* virtio_pci
alias virtio:d00000002v* virtio_blk
alias cpu:type:x86,ven*fam*mod*:feature:*0099* sha256-ssse3
alias crypto-sha256 sha256_ssse3
alias crypto-sha256 sha256_generic
alias fs-ext4 ext4
alias input:b*v*p*e*-e*1,*k*ram*l*s*f*w* evdev
broken line
";
const DEP: &str = "kernel/drivers/block/virtio_blk.ko:
kernel/arch/x86/crypto/sha256-ssse3.ko: kernel/lib/crypto/libsha256.ko
kernel/lib/crypto/libsha256.ko:
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko
kernel/fs/jbd2/jbd2.ko:
kernel/fs/mbcache.ko:
kernel/drivers/md/dm-verity.ko.xz: kernel/drivers/md/dm-mod.ko.xz
kernel/drivers/md/dm-mod.ko.xz:
kernel/drivers/input/evdev.ko:
kernel/a.ko: kernel/b.ko
kernel/b.ko: kernel/a.ko
";

fn index() -> Index {
    Index::parse(
        ALIAS,
        DEP,
        "softdep ext4 pre: crypto-sha256 post: virtio_blk\n",
        "kernel/drivers/virtio/virtio_pci.ko\n",
    )
}

fn order(index: &Index, module: &str) -> Vec<String> {
    let mut order = Vec::new();
    index.order(module, &mut order, &mut BTreeSet::new());
    order.into_iter().map(|(module, _)| module).collect()
}

#[test]
fn a_modalias_finds_its_module() {
    assert_eq!(index().resolve("virtio:d00000002v00001AF4"), ["virtio_blk"]);
    assert!(index().resolve("virtio:d00000003v00001AF4").is_empty());
    assert_eq!(
        index().resolve("cpu:type:x86,ven0000fam0006mod003A:feature:,0001,0099,009A"),
        ["sha256_ssse3"]
    );
    assert_eq!(
        index().resolve("pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00"),
        ["virtio_pci"]
    );
    assert!(
        index()
            .resolve("pci:v00001AF4d0000100Asv00001AF4sd00000002bc01sc00i00")
            .is_empty()
    );
    assert_eq!(
        index().resolve("input:b0019v0000p0001e0000-e0,1,k74,ramlsfw"),
        ["evdev"]
    );
}

#[test]
fn a_name_finds_its_module_with_either_dash() {
    assert_eq!(index().resolve("dm-verity"), ["dm_verity"]);
    assert_eq!(index().resolve("dm_verity"), ["dm_verity"]);
    assert_eq!(index().resolve("fs-ext4"), ["ext4"]);
    assert_eq!(index().resolve("crypto-sha256"), ["sha256_ssse3", "sha256_generic"]);
}

#[test]
fn what_is_built_in_needs_no_module() {
    assert!(index().resolve("virtio-pci").is_empty());
    assert!(index().is_builtin("virtio-pci"));
    assert!(!index().is_builtin("nothing"));
}

#[test]
fn dependencies_come_first_and_once() {
    assert_eq!(order(&index(), "dm_verity"), ["dm_mod", "dm_verity"]);
    assert_eq!(
        order(&index(), "ext4"),
        ["libsha256", "sha256_ssse3", "mbcache", "jbd2", "ext4", "virtio_blk"]
    );
}

#[test]
fn a_cycle_ends() {
    assert_eq!(order(&index(), "a"), ["b", "a"]);
}

#[test]
fn options_come_from_the_command_line() {
    let line = "quiet virtio-net.csum=0 usbcore.x=1 virtio_net.gso roothash=00.11";
    assert_eq!(options(line, "virtio_net"), "csum=0 gso ");
    assert_eq!(options(line, "ext4"), "");
}

#[test]
fn patterns_match_as_a_shell_matches() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("a*b*c", "aXXbYYc", true),
        ("a*b*c", "aXXbYY", false),
        ("?", "", false),
        ("[!a]b", "cb", true),
        ("[!a]b", "ab", false),
        ("[]]", "]", true),
        ("[a", "a", false),
        ("[", "[", false),
        ("a\\", "a", false),
        ("**", "x", true),
        ("", "", true),
        ("", "x", false),
    ] {
        assert_eq!(
            glob::matches(pattern.as_bytes(), text.as_bytes()),
            expected,
            "{pattern} {text}"
        );
    }
}

#[test]
fn a_hostile_pattern_takes_no_exponential_time() {
    let pattern = "*a".repeat(200);
    let text = "a".repeat(5_000) + "b";
    assert!(!glob::matches(pattern.as_bytes(), text.as_bytes()));
}

#[test]
fn listed_modules_come_in_the_order_of_their_files_without_comments() {
    let folder = std::env::temp_dir().join(format!("cairn-listed-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("b.conf"), "two\n").unwrap();
    std::fs::write(folder.join("a.conf"), "# why\none\n\n;no\n").unwrap();
    std::fs::write(folder.join("README"), "three\n").unwrap();
    let found = listed(&folder);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(found, ["one", "two"]);
}

#[test]
fn a_controller_is_known_by_its_class() {
    let ahci = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01";
    let nvme = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02";
    let virtio = "pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00";
    let card = "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00";
    let xhci = "pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30";
    assert_eq!(pci_class(ahci), Some((1, 6)));
    assert_eq!(pci_class(card), Some((2, 0)));
    assert_eq!(pci_class("virtio:d00000002v00001AF4"), None);
    assert_eq!(pci_class("pci:v00001AF4bc01"), None);
    assert!(is_slow_controller(ahci) && is_slow_controller(xhci));
    for quick in [nvme, virtio, card, "virtio:d00000002v00001AF4"] {
        assert!(!is_slow_controller(quick), "{quick}");
    }
}
