//! What the manager that only pretends says.

use serde_json::{Value, json};

const UNITS: [(&str, &str, u64, &[&str], bool); 6] = [
    ("caddy", "Web server and reverse proxy with HTTPS", 256, &[], true),
    ("mariadb", "Relational database", 512, &[], false),
    (
        "wiki",
        "Wiki with a database and a directory",
        384,
        &["mariadb", "slapd"],
        false,
    ),
    ("slapd", "Directory of people and groups", 256, &[], false),
    ("valkey", "Key-value store in memory", 192, &[], false),
    ("unbound", "Resolver that checks signatures", 128, &[], false),
];

pub(super) fn setup(open: bool) -> Value {
    let parts: Vec<Value> = UNITS
        .iter()
        .map(|(unit, description, memory, needs, required)| {
            json!({ "unit": unit, "description": description, "memory_max": memory << 20, "needs": needs, "required": required })
        })
        .collect();
    json!({
        "open": open, "name": "cairn", "addresses": ["192.168.1.20"], "parts": parts, "problems": [],
        "machine": { "memory": 2u64 << 30, "disk": 60u64 << 30, "cpus": 2 },
    })
}

pub(super) fn network() -> Value {
    json!({
        "devices": [{
            "name": "eth0", "mac": "52:54:00:12:34:56", "link": "up", "mtu": 1500, "chosen_as": null, "method": "dhcp",
            "addresses": [
                { "address": "192.168.1.20/24", "from": "dhcp" },
                { "address": "fe80::5054:ff:fe12:3456/64", "from": "link-local" },
            ],
            "routes": [{ "to": "default", "gateway": "192.168.1.1" }],
            "lease": { "address": "192.168.1.20", "server": "192.168.1.1", "seconds": 86_400, "left_s": 43_000 },
        }],
        "absent": ["eth9"], "dns": ["192.168.1.1"], "search": ["lan"], "problems": [], "firewall": true, "chosen": {}, "pending": null,
        "open": [{ "unit": "caddy", "port": 443, "protocol": "tcp" }],
    })
}

pub(super) fn status(settled: bool) -> Value {
    let units: Vec<Value> = UNITS
        .iter()
        .enumerate()
        .map(|(i, (name, description, ..))| {
            let state = match (settled, i) {
                (true, 4) => "failed",
                (true, 5) => "stopped",
                (true, _) | (false, 0 | 1) => "ready",
                (false, 2) => "waiting",
                (false, 3) => "setting-up",
                (false, _) => "starting",
            };
            json!({
                "name": name, "description": description, "state": state, "for_ms": 5_400_000 * (i + 1), "errno": 0, "reloading": false,
                "reason": if state == "failed" { "it ended with exit code 1, five times in a row" } else { "" },
                "pid": if state == "ready" { 400 + i } else { 0 }, "failures": 0, "wanted": i != 5, "says": "",
                "health": { "failed": 0, "last": "" }, "starts_in_ms": null, "learning_ms": null,
            })
        })
        .collect();
    json!({
        "appliance": "birch", "version": "0.1.0", "address": "192.168.1.20", "ready": settled, "firewall": true, "going_down": null,
        "uptime_ms": 273_600_000, "units": units,
    })
}

pub(super) fn top(clock: u64) -> Value {
    let beat = clock / 5000;
    let units: Vec<Value> = UNITS
        .iter()
        .enumerate()
        .map(|(i, (name, _, memory, ..))| {
            let i = i as u64;
            let wave = (beat * (i + 3) * 7919) % 100;
            json!({
                "name": name, "memory": (memory << 20) * (40 + i * 5 + wave / 8) / 100, "memory_peak": memory << 19, "memory_max": memory << 20,
                "cpu_us": clock * (20 + i * 3) + (beat * beat * (i + 1) * 3571) % 400_000, "processes": 3 + i * 4, "processes_max": 512,
                "read": 1 << 20, "written": 1 << 24, "kept": (i * i * 37) << 20, "kept_max": 10u64 << 30,
                "pressure": { "cpu": wave as f64 / 12.0, "memory": 0.0, "io": 0.4 },
            })
        })
        .collect();
    json!({ "at_ms": clock, "units": units })
}

pub(super) fn graph() -> Value {
    let nodes: Vec<Value> = UNITS
        .iter()
        .map(|(name, ..)| {
            let publishes: &[&str] = match *name {
                "caddy" => &["443/tcp"],
                "wiki" => &["9443/tcp"],
                _ => &[],
            };
            json!({ "name": name, "state": "ready", "publishes": publishes })
        })
        .collect();
    json!({
        "nodes": nodes,
        "edges": [
            { "from": "wiki", "to": "mariadb", "kind": "binding", "label": "db (3306)" },
            { "from": "wiki", "to": "slapd", "kind": "binding", "label": "people (636)" },
            { "from": "caddy", "to": "wiki", "kind": "binding", "label": "pages (8080)" },
        ],
    })
}

pub(super) fn explained(status: Value) -> Value {
    let setting = |name: &str, is: &str, description: &str, values: &[&str], value: Value| {
        json!({
            "name": name, "description": description, "is": is, "many": value.is_array(), "values": values, "chosen": false, "value": value,
        })
    };
    let settings = match status["name"].as_str() {
        Some("wiki") => json!([
            setting(
                "names",
                "domain",
                "Further names under which the pages are served.",
                &[],
                json!(["wiki.example.org"])
            ),
            setting(
                "open",
                "flag",
                "Let everybody read, also without an account.",
                &[],
                json!(false)
            ),
            setting(
                "sender",
                "mail",
                "The sender of what it writes to people.",
                &[],
                Value::Null
            ),
            setting(
                "theme",
                "word",
                "How the pages look.",
                &["plain", "paper"],
                json!("paper")
            ),
        ]),
        _ => json!([]),
    };
    json!({
        "settings": settings,
        "why": format!("It is {} since its last start succeeded.", status["state"].as_str().unwrap_or_default()), "status": status,
        "started_by": ["the appliance's start"], "waits_for": ["mariadb", "slapd"], "needed_by": ["caddy"],
        "ready": "when port 8080 accepts a connection, within 2 min", "health": "GET /up on port 8080 every 30 s",
        "restart": { "policy": "on-failure", "delays_ms": [1000, 2000], "limit": 20, "healthy_after_ms": 60000, "failure": "nothing" },
        "stop": "SIGTERM, and SIGKILL after 30 s", "reload": "SIGHUP",
        "limits": { "memory.max": "402653184", "pids.max": "512", "cpu.weight": "100" },
        "exceptions": ["writable code: the page renderer compiles templates while it runs"],
    })
}

pub(super) fn security(unit: &str) -> Value {
    let row = |item: &str, declared: &str, found: &str, state: &str| json!({ "item": item, "declared": declared, "in_force": found, "state": state });
    json!({ "units": [{
        "unit": unit, "score": 1.4, "differs": 0, "processes": 3, "exceptions": [],
        "rows": [
            row("user namespace", "its own, 65536 ids", "its own, 65536 ids", "same"), row("capabilities", "none", "none", "same"),
            row("system calls", "312 allowed", "filter with 312", "same"), row("network", "10.111.0.4, tcp 8080", "10.111.0.4, tcp 8080", "same"),
        ],
    }] })
}

pub(super) fn dumps() -> Value {
    json!({
        "unit": "mariadb", "daily": true, "keep": 7, "under_way": false, "next_ms": 3_600_000, "failed": "", "overdue": false,
        "restoring": null, "restored": null, "before": true,
        "dumps": [
            { "name": "20261122T021500Z", "at": 1_795_313_700u64, "bytes": 48u64 << 20, "appliance": "0.1.0", "refused": "" },
            { "name": "20261121T021500Z", "at": 1_795_227_300u64, "bytes": 47u64 << 20, "appliance": "0.0.9", "refused": "its state has <version> 10.11" },
        ],
    })
}

pub(super) fn certificates() -> Value {
    json!({
        "authority": { "name": "birch (Cairn)", "fingerprint": "3F:A1:77:0C:52:9E:B4:18:6D:E2:41:90:AA:5B:C3:0F:11:87:6E:24:D9:38:F5:4C:72:BE:03:9A:60:DD:2B:E7",
            "permitted": ["birch.local", "birch.internal"], "pem": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n" },
        "certificates": [
            { "unit": "caddy", "secret": "tls", "names": ["birch.local", "caddy.birch.internal"], "issuer": "birch (Cairn)", "from": "2026-11-01T00:00:00Z", "until": "2026-12-01T00:00:00Z", "due": null },
            { "unit": "panel", "secret": "tls", "names": ["birch.local"], "issuer": "", "from": "", "until": "", "due": "it is not issued yet" },
        ],
        "imported": [
            { "id": "5d2c", "names": ["example.org"], "issuer": "An authority", "from": "2026-11-01T00:00:00Z", "until": "2027-01-30T00:00:00Z", "used_by": ["caddy"], "unused": null },
        ],
        "errors": [],
    })
}

/// What the manager says of versions: `new`, `installing`, `installed`, `proving`, `failed`, `held` or `left`.
pub(crate) fn upgrade(how: &str) -> Value {
    let entry = |version: &str, tries: Value| json!({ "version": version, "entry": format!("birch_{version}.efi"), "tries_left": tries });
    let mut all = json!({
        "version": "0.1.0", "proving": null, "task": null, "url": "https://updates.example.org/birch", "channel": "stable",
        "policy": { "mode": "notify", "window": [], "bandwidth": null, "hold": null },
        "versions": { "running": entry("0.1.0", Value::Null), "other": entry("0.0.9", Value::Null), "failed": null, "problems": [] },
        "offered": {
            "version": "0.2.0", "newer": true, "since": "0.1.0", "notes": "The wiki finds words in attachments.\n<b>A table</b> keeps its order.",
            "changes": ["caddy 2.6.2-5 -> 2.6.2-6", "mariadb-server 10.11.6 -> 10.11.9", "libzstd1 1.5.4 is new"],
            "turn": "now", "turn_at": null, "turn_why": "", "withdrawn": null, "at": "2026-11-21T03:00:00Z",
        },
    });
    let task = |state: &str, phase: &str, error: Value| {
        json!({ "what": "install", "automatic": false, "version": "0.2.0", "state": state, "phase": phase, "done": 96u64 << 20, "total": 240u64 << 20,
            "reused": 80u64 << 20, "fetched": 16u64 << 20, "took_ms": 12_000, "error": error })
    };
    match how {
        "refused" => {
            all["offered"]["refused"] = json!("install 0.1.5 first");
            all["versions"]["secure_boot"] = json!(true);
        }
        "installing" => all["task"] = task("running", "write", Value::Null),
        "installed" => {
            all["task"] = task("done", "done", Value::Null);
            all["versions"]["other"] = entry("0.2.0", json!(3));
        }
        "proving" => {
            all["versions"]["running"] = entry("0.1.0", json!(2));
            all["proving"] = json!({ "waits_for": "unit wiki is ready", "left_ms": 480_000 });
            all["offered"] = Value::Null;
        }
        "failed" => {
            all["versions"]["other"] = entry("0.2.0", json!(0));
            all["versions"]["failed"] = json!({ "version": "0.2.0", "why": "unit wiki failed: it ended with exit code 1", "log": ["wiki: no <database>"] });
            all["task"] = task(
                "failed",
                "metadata",
                json!("https://updates.example.org/birch does not answer"),
            );
        }
        "held" => {
            all["policy"]["hold"] = json!({ "until": "2027-01-31T00:00:00Z", "reason": "audit" });
            all["offered"]["turn"] = json!("later");
            all["offered"]["turn_at"] = json!("2026-11-25T06:00:00Z");
            all["offered"]["withdrawn"] = json!("mail is lost");
        }
        "left" => all["versions"]["running"] = entry("0.1.0", json!(0)),
        _ => {}
    }
    all
}

pub(super) fn past() -> Value {
    json!({ "lines": [
        { "at": "2026-11-20T18:20:00Z", "what": "failed", "version": "0.2.0", "running": "0.1.0", "why": "unit wiki failed" },
        { "at": "2026-11-20T18:04:11Z", "what": "installed", "version": "0.2.0", "running": "0.1.0", "why": "" },
        { "at": "2026-11-01T07:00:30Z", "what": "committed", "version": "0.1.0", "running": "0.1.0", "why": "" },
        { "at": "2026-11-01T06:58:00Z", "what": "a-later-word", "version": "0.1.0", "running": "0.0.9", "why": "" },
    ] })
}

pub(super) fn history() -> Value {
    json!({ "instead": null, "versions": [
        { "number": 3, "when": "2026-11-20T18:04:11Z", "who": "ada", "why": "more memory for mariadb", "in_force": true, "damaged": null },
        { "number": 2, "when": "2026-11-12T09:30:00Z", "who": "ada", "why": "enabled valkey", "in_force": false, "damaged": null },
        { "number": 1, "when": "2026-11-10T07:12:45Z", "who": "setup", "why": "first setup", "in_force": false, "damaged": null },
    ] })
}

pub(super) const LOG: &str = "Nov 22 21:03:12 wiki[1]: listening on 0.0.0.0:8080\nNov 22 21:03:12 wiki[1]: database schema is current (42)\nNov 22 21:07:55 wiki[7]: GET / 200 12 ms\nNov 22 21:09:31 wiki[7]: GET /search?q=<script>alert(1)</script> 200 31 ms\nNov 22 21:12:02 wiki[9]: slow query: 1.2 s\n";
