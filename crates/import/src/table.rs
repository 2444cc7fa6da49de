//! Directives that are the same for every service: those that Cairn does anyway or that mean nothing here, and those that have
//! no counterpart, with what to do.

use crate::Level::{self, Behaviour, Hint};

/// Cairn's sandbox does this for every unit. What is said against it cannot be had, which a note tells.
pub(crate) const SANDBOX: [&str; 26] = [
    "DevicePolicy",
    "KeyringMode",
    "LockPersonality",
    "MountAPIVFS",
    "MountFlags",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivatePIDs",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "RemoveIPC",
    "RestrictFileSystems",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "SystemCallErrorNumber",
];

/// Means nothing here, or is always so.
pub(crate) const COVERED: [&str; 42] = [
    "AccuracySec",
    "AllowIsolate",
    "BlockIOAccounting",
    "CPUAccounting",
    "CollectMode",
    "DefaultDependencies",
    "DeferReactivation",
    "ExitType",
    "FixedRandomDelay",
    "FreeBind",
    "GuessMainPID",
    "IOAccounting",
    "IPAccounting",
    "IgnoreOnIsolate",
    "InaccessiblePaths",
    "JobRunningTimeoutSec",
    "JobTimeoutAction",
    "JobTimeoutSec",
    "LogNamespace",
    "MemoryAccounting",
    "NonBlocking",
    "NotifyAccess",
    "OnFailureJobMode",
    "OnSuccessJobMode",
    "PIDFile",
    "PollLimitBurst",
    "PollLimitIntervalSec",
    "ReadOnlyPaths",
    "RefuseManualStart",
    "RefuseManualStop",
    "RemainAfterElapse",
    "RemainAfterExit",
    "RemoveOnStop",
    "RestartSteps",
    "SourcePath",
    "StopWhenUnneeded",
    "SyslogFacility",
    "SyslogIdentifier",
    "SyslogLevelPrefix",
    "TasksAccounting",
    "TriggerLimitBurst",
    "TriggerLimitIntervalSec",
];

const EXECUTABLE: &str = "every program of the unit's root can be run, and none in a folder that it writes to";

/// Has no counterpart.
pub(crate) const NOTES: &[(&str, Level, &str)] = &[
    (
        "AppArmorProfile",
        Hint,
        "no profile is loaded: the sandbox stands in its place",
    ),
    (
        "BindPaths",
        Behaviour,
        "no path of elsewhere is put into a unit: what must be written belongs into [state], what is read into an overlay",
    ),
    (
        "BindReadOnlyPaths",
        Behaviour,
        "no path of elsewhere is put into a unit: write it into an overlay, or bind to the unit that has it with `needs`",
    ),
    ("BPFProgram", Behaviour, "a unit loads no BPF programs"),
    (
        "CPUAffinity",
        Hint,
        "a unit runs on every processor: give it a share by `limits.cpu_weight` and a bound by `limits.cpu_quota`",
    ),
    (
        "Delegate",
        Behaviour,
        "a unit has no control groups of its own to manage",
    ),
    (
        "DelegateSubgroup",
        Hint,
        "a unit has no control groups of its own to manage",
    ),
    (
        "EnvironmentGenerator",
        Hint,
        "nothing generates variables: write them into `environment`",
    ),
    ("ExecPaths", Hint, EXECUTABLE),
    (
        "ExecSearchPath",
        Behaviour,
        "no PATH is searched: name each program by its absolute path",
    ),
    (
        "ExtensionDirectories",
        Behaviour,
        "a unit's root is its packages and overlays",
    ),
    (
        "ExtensionImages",
        Behaviour,
        "a unit's root is its packages and overlays",
    ),
    (
        "FileDescriptorStoreMax",
        Behaviour,
        "no file descriptors are kept for a service over a restart",
    ),
    (
        "FileDescriptorStorePreserve",
        Hint,
        "no file descriptors are kept for a service over a restart",
    ),
    (
        "ImportCredential",
        Hint,
        "a unit has no credentials of systemd: a secret that Cairn makes is in [secrets], as a file under /run/secrets",
    ),
    (
        "JoinsNamespaceOf",
        Behaviour,
        "no two units share a namespace: bind them with `needs`",
    ),
    (
        "ListenFIFO",
        Behaviour,
        "nothing of the kind starts a unit or is handed over to it: have the service open it itself",
    ),
    (
        "ListenMessageQueue",
        Behaviour,
        "nothing of the kind starts a unit or is handed over to it: have the service open it itself",
    ),
    (
        "ListenNetlink",
        Behaviour,
        "nothing of the kind starts a unit or is handed over to it: have the service open it itself",
    ),
    (
        "ListenSpecial",
        Behaviour,
        "nothing of the kind starts a unit or is handed over to it: have the service open it itself",
    ),
    (
        "LoadCredential",
        Behaviour,
        "a unit has no credentials of systemd: have Cairn make the secret in [secrets], and read the file /run/secrets/NAME",
    ),
    (
        "LoadCredentialEncrypted",
        Behaviour,
        "a unit has no credentials of systemd: have Cairn make the secret in [secrets], and read the file /run/secrets/NAME",
    ),
    (
        "LogExtraFields",
        Hint,
        "a line of a log has the unit's name, a time and a priority",
    ),
    (
        "LogLevelMax",
        Hint,
        "every line is kept; `cairn logs --priority` shows the urgent ones",
    ),
    (
        "LogRateLimitIntervalSec",
        Hint,
        "the bound of a unit's log is `log.rate` lines a second and `log.burst` in one moment",
    ),
    ("MemoryLow", Hint, "no memory is kept for a unit: bound the others"),
    ("MemoryMin", Hint, "no memory is kept for a unit: bound the others"),
    ("MemoryPressureWatch", Hint, "a unit is not told of memory pressure"),
    ("NoExecPaths", Hint, EXECUTABLE),
    (
        "OnSuccess",
        Behaviour,
        "no unit starts another: run what follows in `service.after`, or by a [timer] of its own",
    ),
    (
        "PAMName",
        Behaviour,
        "a unit has no session: PAM's modules do not run for it",
    ),
    (
        "PassEnvironment",
        Hint,
        "nothing is passed on from Cairn's own environment: write the variables into `environment`",
    ),
    (
        "PermissionsStartOnly",
        Behaviour,
        "the commands of `before` run as the service's account: make folders by [state] and [runtime]",
    ),
    ("PropagatesReloadTo", Hint, "a reload concerns one unit"),
    (
        "PropagatesStopTo",
        Behaviour,
        "a stop concerns one unit and those that need it",
    ),
    ("ReloadPropagatedFrom", Hint, "a reload concerns one unit"),
    (
        "ReloadSignal",
        Behaviour,
        "Type=notify-reload is SIGHUP here; for another signal write `reload = { signal = ... }`",
    ),
    (
        "RestartForceExitStatus",
        Behaviour,
        "exit status 0 is a success and every other a failure",
    ),
    ("RestartKillSignal", Behaviour, "a restart stops with `stop_signal` too"),
    (
        "RestartPreventExitStatus",
        Behaviour,
        "every exit status other than 0 is restarted by `on-failure`: bound it with `start_limit`",
    ),
    ("RootDirectory", Behaviour, "a unit's root is its packages and overlays"),
    ("RootImage", Behaviour, "a unit's root is its packages and overlays"),
    (
        "RuntimeMaxSec",
        Behaviour,
        "nothing ends a unit after a time: have the service end itself",
    ),
    (
        "SELinuxContext",
        Hint,
        "no policy is loaded: the sandbox stands in its place",
    ),
    ("SecureBits", Hint, "a unit's programs gain no capabilities in any way"),
    (
        "SetCredential",
        Behaviour,
        "a unit has no credentials of systemd: have Cairn make the secret in [secrets], and read the file /run/secrets/NAME",
    ),
    ("Slice", Hint, "each unit has limits of its own, and no group of them"),
    (
        "SmackProcessLabel",
        Hint,
        "no policy is loaded: the sandbox stands in its place",
    ),
    (
        "Sockets",
        Behaviour,
        "a unit's sockets are its own: write the others into [sockets.NAME]",
    ),
    (
        "SocketGroup",
        Hint,
        "a socket belongs to the service's account: `mode` says who else may connect",
    ),
    (
        "SocketUser",
        Hint,
        "a socket belongs to the service's account: `mode` says who else may connect",
    ),
    (
        "StopPropagatedFrom",
        Behaviour,
        "a stop concerns one unit and those that need it",
    ),
    (
        "SuccessAction",
        Behaviour,
        "nothing follows from a unit's end in good order",
    ),
    (
        "SuccessExitStatus",
        Behaviour,
        "exit status 0 is a success and every other a failure, where no stop was asked for",
    ),
    (
        "TemporaryFileSystem",
        Behaviour,
        "folders in memory stand in [runtime]; /tmp and /run are such in every unit",
    ),
    (
        "TimeoutAbortSec",
        Hint,
        "a service that does not answer its watchdog is killed after `stop_timeout`",
    ),
    (
        "UpheldBy",
        Behaviour,
        "no unit starts another: put this one into the recipe",
    ),
    (
        "USBFunctionDescriptors",
        Behaviour,
        "a unit has no devices of the machine",
    ),
    ("USBFunctionStrings", Behaviour, "a unit has no devices of the machine"),
    ("UtmpIdentifier", Hint, "nobody logs in to a unit: no record is written"),
    ("UtmpMode", Hint, "nobody logs in to a unit: no record is written"),
    ("WakeSystem", Hint, "a timer does not wake a sleeping machine"),
    (
        "WantsMountsFor",
        Hint,
        "a unit's folders are there before it starts, and no others",
    ),
];

/// The same by how a name begins.
pub(crate) const PREFIXES: &[(&str, Level, &str)] = &[
    (
        "Assert",
        Behaviour,
        "a unit has no condition for its start: it starts always; leave it out of the recipe where it shall not run",
    ),
    (
        "CPUScheduling",
        Hint,
        "every unit is scheduled alike: give it a share of the processor by `limits.cpu_weight`",
    ),
    (
        "Condition",
        Behaviour,
        "a unit has no condition for its start: it starts always; leave it out of the recipe where it shall not run",
    ),
    (
        "Exec",
        Behaviour,
        "a socket or timer runs no commands: write them into the service's `before` or `after`",
    ),
    (
        "IOScheduling",
        Hint,
        "give it a share of the disk by `limits.io_weight`",
    ),
    ("Limit", Hint, "the bounds of a unit are those of [limits]"),
    ("ManagedOOM", Hint, "`limits.memory_max` bounds each unit for itself"),
    ("NUMA", Hint, "a unit runs on every processor and memory"),
    ("Startup", Hint, "the bounds of [limits] hold from the start"),
    ("TTY", Hint, "a unit has no terminal"),
];
