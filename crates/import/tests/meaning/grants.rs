//! What the service may do and use: capabilities, the sandbox, the network, folders, bounds.

use cairn_import::Level;
use cairn_unit::NetworkMode;

use super::{of, packages, service};

#[test]
fn a_root_service_without_bounded_capabilities_is_a_decision() {
    let (_, found) = of("x.service", "[Service]\nExecStart=/bin/x\n", &packages());
    assert!(
        found
            .notes
            .iter()
            .any(|n| n.line.is_none() && n.text.contains("runs as root"))
    );
    let (unit, found) = of(
        "x.service",
        "[Service]\nExecStart=/bin/x\nCapabilityBoundingSet=CAP_SETUID CAP_SYS_TIME\n",
        &packages(),
    );
    assert_eq!(unit.sandbox.capabilities, ["setuid"]);
    assert_eq!(
        unit.sandbox.reason.as_deref(),
        Some("CapabilityBoundingSet= of x.service")
    );
    assert!(
        found.notes.iter().any(|n| n.text.starts_with("sys-time")),
        "{:?}",
        found.notes
    );
}

#[test]
fn an_account_gets_its_ambient_capabilities_and_no_others() {
    let (unit, found) =
        service("CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_CHOWN\nAmbientCapabilities=CAP_NET_BIND_SERVICE");
    assert_eq!(unit.sandbox.capabilities, ["net-bind-service"]);
    assert_eq!(found.notes, []);
    let (unit, _) = service("AmbientCapabilities=CAP_CHOWN\nAmbientCapabilities=");
    assert!(unit.sandbox.capabilities.is_empty());
}

#[test]
fn what_the_sandbox_does_anyway_is_covered_and_what_loosens_it_is_told() {
    for (covered, loose) in [
        ("ProtectSystem=strict", "ProtectSystem=no"),
        ("PrivateTmp=yes", "PrivateTmp=no"),
        ("NoNewPrivileges=true", "NoNewPrivileges=false"),
        ("MemoryDenyWriteExecute=1", "MemoryDenyWriteExecute=0"),
        ("RestrictNamespaces=yes", "RestrictNamespaces=user"),
        (
            "RestrictAddressFamilies=AF_INET AF_UNIX",
            "RestrictAddressFamilies=AF_INET AF_PACKET",
        ),
        (
            "SystemCallFilter=@system-service",
            "SystemCallFilter=@system-service @mount",
        ),
        ("SystemCallFilter=~@mount @swap", "SystemCallFilter=~@resources"),
        ("DeviceAllow=/dev/null rw", "DeviceAllow=/dev/kvm rw"),
        ("DevicePolicy=closed", "DevicePolicy=auto"),
    ] {
        let (unit, found) = service(covered);
        assert_eq!(found.notes, [], "{covered}");
        assert_eq!(found.covered().len(), 2, "{covered}: {:?}", found.covered());
        let (other, found) = service(loose);
        assert_eq!(found.notes.len(), 1, "{loose}");
        assert_eq!(unit, other, "{loose}");
    }
}

#[test]
fn a_service_without_a_network_has_none() {
    for lines in ["PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX"] {
        assert_eq!(service(lines).0.network.mode, NetworkMode::None, "{lines}");
    }
    assert_eq!(
        service("RestrictAddressFamilies=AF_UNIX AF_INET").0.network.mode,
        NetworkMode::Bridge
    );
}

#[test]
fn folders_become_state_and_runtime_with_their_variables() {
    let (unit, found) = service(
        "StateDirectory=x x/inner\nCacheDirectory=y\nRuntimeDirectory=x\nRuntimeDirectoryMode=0700\nLogsDirectory=x\nReadWritePaths=-/var/spool/x /etc/x",
    );
    let state: Vec<_> = unit
        .state
        .iter()
        .map(|(path, folder)| format!("{path} {}", folder.mode))
        .collect();
    assert_eq!(
        state,
        [
            "/var/cache/y 0755",
            "/var/lib/x 0755",
            "/var/log/x 0755",
            "/var/spool/x 0755"
        ]
    );
    assert_eq!(unit.runtime["/run/x"].mode.to_string(), "0700");
    assert_eq!(
        unit.service.environment["STATE_DIRECTORY"],
        "/var/lib/x:/var/lib/x/inner"
    );
    let levels: Vec<Level> = found.notes.iter().map(|n| n.level).collect();
    assert_eq!(
        levels,
        [Level::Hint, Level::Hint, Level::Behaviour],
        "{:?}",
        found.notes
    );
}

#[test]
fn bounds_are_carried_over_and_those_that_are_none_are_told() {
    let (unit, found) =
        service("MemoryMax=1.5G\nCPUQuota=150%\nTasksMax=64\nLimitNOFILE=1024:4096\nCPUWeight=20\nMemorySwapMax=0");
    let limits = unit.limits;
    assert_eq!(
        (limits.memory_max.0, limits.cpu_quota, limits.processes),
        (3 << 29, Some(150), 64)
    );
    assert_eq!((limits.open_files, limits.cpu_weight, limits.swap_max.0), (4096, 20, 0));
    assert_eq!(found.notes.len(), 1);
    let (unit, _) = service("MemoryHigh=1G");
    assert_eq!(
        (unit.limits.memory_high.unwrap().0, unit.limits.memory_max.0),
        (1 << 30, 1 << 30)
    );
    for none in [
        "MemoryMax=infinity",
        "MemoryMax=20%",
        "TasksMax=infinity",
        "TasksMax=40%",
    ] {
        assert!(service(none).1.changes_behaviour(), "{none}");
    }
}
