//! What a change of the owner's choices costs before any unit is told: the manager's rendering of every unit's files.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use cairn_config::context::{Facts, context};
use cairn_config::template::render;
use cairn_manager::config::Config;
use cairn_manager::data;
use cairn_unit::Manifest;
use serde_json::{Value, json};

use crate::figure::{Goal, Row, Samples, Unit};
use crate::runs;

/// How many units there are: a reverse proxy, and those that it serves.
const UNITS: usize = 50;
/// As the file of a reverse proxy is: macros, a filter, and a loop over all that it serves.
const PROXY: &str = "{% macro upstream(u) %}forward http://{{ u.server }}:{{ u.port }}{% endmacro %}{% macro place(u) %}location {{ u.path }} {\n\
    \tname {{ u.unit }}-{{ u.need }} {{ u.name }}\n\t{{ upstream(u) }}\n}\n{% endmacro %}{% for u in bound.web if u.host == \"\" %}{{ place(u) }}{% endfor %}\
    {% for host, all in bound.web | rejectattr(\"host\", \"equalto\", \"\") | groupby(\"host\") %}server {{ host }}.{{ site.domain }} {\n\
    {% for u in all %}{{ place(u) }}{% endfor %}}\n{% endfor %}";
/// Each of the others' three files.
const FILE: &str = "[server]\nlisten = 0.0.0.0:8000\nname = {{ unit }}.{{ site.domain }}\npath = {{ bindings.http.says.path }}\n\
    {% if bindings.http %}proxy = {{ bindings.http.host }}\n{% endif %}[login]\nsecret = {{ secrets.session }}\nhost = {{ host.name }} {{ host.version }}\n\
    {% for n in range(20) %}worker.{{ n }} = {{ unit }}-{{ n }}\n{% endfor %}";

/// An appliance of so many units.
fn appliance(below: &Path) -> Result<Manifest, Box<dyn Error>> {
    let paths = ["/etc/app/server.conf", "/etc/app/login.conf", "/etc/app/workers.conf"];
    let unit = |index: usize, unit: Value, templates: &[&str]| {
        let templates: Vec<Value> = templates.iter().map(|path| json!({"path": path})).collect();
        json!({"unit": unit, "root": format!("/usr/lib/cairn/roots/{index}"), "index": index, "accounts": {}, "groups": {},
            "templates": templates, "waits_for": []})
    };
    let asks = json!({"path": {"is": "path", "default": "/"}, "host": {"is": "host", "default": ""}});
    let proxy = json!({"description": "x", "service": {"command": ["/x"]}, "provides": {"web": {"kind": "http", "upstream": {"asks": asks}}}});
    let mut units = serde_json::Map::new();
    units.insert("proxy".into(), unit(0, proxy, &["/etc/proxy/proxy.conf"]));
    put(below, 0, "/etc/proxy/proxy.conf", PROXY)?;
    for index in 1..UNITS {
        let name = format!("app{index:02}");
        let app = json!({"description": "x", "service": {"command": ["/x"]}, "secrets": {"session": {"kind": "password"}},
            "needs": {"http": {"from": "web", "port": 8000, "path": format!("/{name}")}}});
        units.insert(name, unit(index, app, &paths));
        for path in paths {
            put(below, index, path, FILE)?;
        }
    }
    Ok(serde_json::from_value(json!({
        "name": "bench", "version": "1", "description": "x", "built": 0, "disabled": [], "domain": "bench.example", "units": units,
    }))?)
}

fn put(below: &Path, index: usize, path: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let file = below.join(format!("usr/lib/cairn/roots/{index}{path}.tmpl"));
    fs::create_dir_all(file.parent().unwrap_or(below))?;
    Ok(fs::write(file, text)?)
}

/// The files of all units, as a change of the site renders them.
pub(crate) fn figures(folder: &Path) -> Result<Vec<Row>, Box<dyn Error>> {
    let scratch = tempfile::tempdir_in(folder)?;
    let config = Config::below(scratch.path());
    let manifest = appliance(scratch.path())?;
    // What is read and parsed stands in the figure; that the templates do anything at all is looked at here.
    let served = render("proxy.conf", PROXY, &context(&manifest, "proxy", &Facts::default()))?;
    if !served.contains("/app49") {
        return Err(format!("the proxy's file does not have what it serves: {served}").into());
    }
    let mut samples = Vec::new();
    // The first makes the units' secrets.
    for run in 0..=runs() {
        let start = Instant::now();
        let mut files = 0;
        for (name, unit) in &manifest.units {
            files += data::load(&config, &manifest, name.as_str(), unit, "192.0.2.1")?
                .rendered
                .len();
        }
        if files != 1 + 3 * (UNITS - 1) {
            return Err(format!("{files} files were rendered").into());
        }
        if run > 0 {
            samples.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(vec![Row {
        what: format!("all configuration of {UNITS} units rendered"),
        unit: Unit::Millis,
        ours: Samples(samples),
        peer: Err(String::new()),
        goal: Goal::AtMost(0.1),
    }])
}
