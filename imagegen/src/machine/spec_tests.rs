use super::*;

fn sockets() -> Sockets {
    Sockets {
        qmp: "/s/qmp".into(),
        control: "/s/control".into(),
        tpm: "/s/tpm/socket".into(),
    }
}

fn uefi() -> Boot {
    Boot::Uefi {
        code: "/fw/code.fd".into(),
        vars: "/m/vars.fd".into(),
        secure: false,
    }
}

fn values<'a>(args: &'a [String], flag: &str) -> Vec<&'a str> {
    args.windows(2)
        .filter(|pair| pair[0] == flag)
        .map(|pair| pair[1].as_str())
        .collect()
}

#[test]
fn a_uefi_machine_is_exactly_these_words() {
    let mut spec = MachineSpec::new("base", Accel::Tcg, uefi());
    spec.disks.push(Disk::raw("disk0", Path::new("/m/disk.raw")));
    spec.forwards.push(Forward { host: 0, guest: 443 });
    spec.forwards.push(Forward { host: 8389, guest: 389 });
    spec.control = true;
    let expected = [
        "-nodefaults -no-user-config -name guest=base,process=base",
        "-machine q35,acpi=on,hpet=off,vmport=off,smm=off,pflash0=code,pflash1=vars",
        "-accel tcg,thread=multi -cpu max,-erms,-fsrm,-la57 -smp 2 -m 2048M -rtc base=utc -boot menu=off,strict=on",
        "-chardev socket,id=qmp,path=/s/qmp -mon chardev=qmp,mode=control",
        "-chardev stdio,id=serial,signal=off,mux=off -serial chardev:serial -display none",
        "-blockdev driver=file,node-name=code,filename=/fw/code.fd,read-only=on",
        "-blockdev driver=file,node-name=vars,filename=/m/vars.fd,read-only=off",
        "-drive if=none,id=drive-disk0,file=/m/disk.raw,format=raw,cache=writeback,discard=unmap,detect-zeroes=unmap",
        "-device virtio-blk-pci,drive=drive-disk0,id=disk0,serial=disk0,bootindex=1",
        "-netdev user,id=net0,ipv6=off,hostfwd=tcp:127.0.0.1:0-:443,hostfwd=tcp:127.0.0.1:8389-:389",
        "-device virtio-net-pci,netdev=net0,id=nic0,romfile=",
        "-object rng-builtin,id=rng0 -device virtio-rng-pci,rng=rng0",
        "-device virtio-serial-pci,id=ports0 -chardev socket,id=control,path=/s/control",
        "-device virtserialport,bus=ports0.0,chardev=control,name=org.cairn.control",
        "-device i6300esb,id=watchdog0 -action watchdog=reset",
    ]
    .join(" ");
    assert_eq!(spec.args(&sockets()).join(" "), expected);
}

#[test]
fn with_secure_boot_only_the_firmware_writes_its_variables() {
    let boot = |secure| Boot::Uefi {
        code: "/fw/code.fd".into(),
        vars: "/m/vars.fd".into(),
        secure,
    };
    let args = |secure| MachineSpec::new("secure", Accel::Tcg, boot(secure)).args(&sockets());
    let (with, without) = (args(true), args(false));
    assert!(values(&with, "-machine")[0].contains(",smm=on,"), "{with:?}");
    assert_eq!(
        values(&with, "-global"),
        ["driver=cfi.pflash01,property=secure,value=on"]
    );
    assert!(values(&without, "-global").is_empty());
}

#[test]
fn a_directly_booted_kernel_gets_its_command_line_as_one_word() {
    let boot = Boot::Direct {
        kernel: "/k/vmlinuz".into(),
        initrd: "/k/initrd".into(),
        command_line: "console=ttyS0 quiet".into(),
    };
    let args = MachineSpec::new("direct", Accel::Kvm, boot).args(&sockets());
    assert_eq!(values(&args, "-append"), ["console=ttyS0 quiet"]);
    assert_eq!(values(&args, "-kernel"), ["/k/vmlinuz"]);
    assert_eq!(values(&args, "-cpu"), ["host"]);
    assert!(values(&args, "-blockdev").is_empty());
    assert!(!args.join(" ").contains("pflash"));
}

#[test]
fn each_bus_has_its_device_and_disks_boot_in_their_order() {
    let mut spec = MachineSpec::new("buses", Accel::Tcg, uefi());
    for (id, bus) in [
        ("a", DiskBus::VirtioScsi),
        ("b", DiskBus::Nvme),
        ("c", DiskBus::VirtioBlk),
    ] {
        spec.disks.push(Disk {
            bus,
            ..Disk::raw(id, Path::new("/d"))
        });
    }
    let args = spec.args(&sockets());
    let devices = values(&args, "-device");
    assert!(devices.contains(&"virtio-scsi-pci,id=scsi0"));
    assert!(devices.contains(&"scsi-hd,bus=scsi0.0,drive=drive-a,id=a,serial=a,bootindex=1"));
    assert!(devices.contains(&"nvme,drive=drive-b,id=b,serial=b,bootindex=2"));
    assert!(devices.contains(&"virtio-blk-pci,drive=drive-c,id=c,serial=c,bootindex=3"));
}

#[test]
fn a_comma_in_a_path_stays_part_of_the_path() {
    let mut spec = MachineSpec::new("comma", Accel::Tcg, uefi());
    spec.disks.push(Disk {
        snapshot: true,
        ..Disk::raw("d", Path::new("/a,b.raw"))
    });
    let args = spec.args(&sockets());
    assert!(values(&args, "-drive")[0].contains("file=/a,,b.raw,format=raw"));
    assert!(values(&args, "-drive")[0].ends_with(",snapshot=on"));
}

#[test]
fn a_fault_filter_stands_between_the_format_and_the_file() {
    let disk = Disk {
        filter: Some(Filter::Faults("/f".into())),
        ..Disk::raw("d", Path::new("/d.raw"))
    };
    assert!(
        disk.drive().contains(
            "file.driver=blkdebug,file.config=/f,file.image.driver=file,file.image.filename=/d.raw,format=raw"
        )
    );
}

#[test]
fn a_log_of_writes_stands_between_the_format_and_the_file() {
    let disk = Disk {
        filter: Some(Filter::LogWrites {
            log: "/l".into(),
            append: true,
        }),
        ..Disk::raw("d", Path::new("/d.raw"))
    };
    let expected = "file.driver=blklogwrites,file.log-append=on,file.log.driver=file,file.log.filename=/l,\
                    file.file.driver=file,file.file.filename=/d.raw,format=raw";
    assert!(disk.drive().contains(expected), "{}", disk.drive());
    assert!(disk.device(0).ends_with(",request-merging=off"), "{}", disk.device(0));
    assert!(!Disk::raw("d", Path::new("/d.raw")).device(0).contains("merging"));
    let mut spec = MachineSpec::new("s", Accel::Tcg, uefi());
    spec.disks.push(disk);
    assert!(spec.binds(&sockets()).contains(&Bind::writable(Path::new("/l"))));
}

#[test]
fn a_snapshot_is_never_shown_writable() {
    let mut spec = MachineSpec::new("s", Accel::Tcg, uefi());
    spec.disks.push(Disk {
        snapshot: true,
        ..Disk::raw("d", Path::new("/d.raw"))
    });
    assert!(spec.binds(&sockets()).contains(&Bind::read_only(Path::new("/d.raw"))));
}

#[test]
fn what_is_taken_out_leaves_no_word() {
    let mut spec = MachineSpec::new("bare", Accel::Tcg, uefi());
    spec.network = false;
    spec.rng = false;
    spec.watchdog = false;
    spec.acpi = false;
    spec.exit_on_reset = true;
    let args = spec.args(&sockets());
    assert!(values(&args, "-device").is_empty() && values(&args, "-netdev").is_empty());
    assert!(values(&args, "-machine")[0].contains("acpi=off"));
    assert_eq!(values(&args, "-action"), ["reboot=shutdown"]);
}

#[test]
fn a_tpm_is_reached_by_its_socket_and_only_where_there_is_one() {
    let mut spec = MachineSpec::new("tpm", Accel::Tcg, uefi());
    assert!(values(&spec.args(&sockets()), "-tpmdev").is_empty());
    spec.tpm = Some("/m/tpm".into());
    let args = spec.args(&sockets());
    assert_eq!(values(&args, "-tpmdev"), ["emulator,id=tpm0,chardev=tpm"]);
    assert!(
        args.contains(&"socket,id=tpm,path=/s/tpm/socket".to_owned()),
        "{args:?}"
    );
    assert!(
        spec.binds(&sockets())
            .contains(&Bind::writable("/s/tpm/socket".as_ref()))
    );
}
