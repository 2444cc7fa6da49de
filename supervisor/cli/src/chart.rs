//! The boot as a picture: a pure function from the API's answer to SVG.

use std::fmt::Write as _;

use cairn_api::{Boot, UnitPhases};

const LEFT: f64 = 170.0;
const WIDTH: f64 = 800.0;
const ROW: f64 = 22.0;

fn colour(phase: &str) -> &'static str {
    match phase {
        "waiting" => "#c8c5bd",
        "preparing" => "#a3b18a",
        "setting-up" | "restoring" | "migrating" => "#d9a441",
        "starting" => "#588157",
        "ready" => "#344e41",
        "failed" | "restarting" => "#bc4749",
        _ => "#6b7a8f",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A row: its name and its bars as (kind, start, end) in milliseconds since the kernel's start.
type Row = (String, Vec<(String, f64, f64)>);

fn rows(boot: &Boot) -> (Vec<Row>, f64) {
    let mut rows: Vec<Row> = Vec::new();
    let kernel = boot.steps.first().map_or(boot.manager_ms as f64, |step| step.start_ms);
    rows.push(("kernel".into(), vec![("step".into(), 0.0, kernel)]));
    for step in &boot.steps {
        rows.push((step.name.clone(), vec![("step".into(), step.start_ms, step.end_ms)]));
    }
    let begun = boot.units.iter().filter_map(|unit| Some(unit.phases.first()?.1)).min();
    if let Some(begun) = begun.filter(|begun| *begun > boot.manager_ms) {
        rows.push((
            "manager".into(),
            vec![("step".into(), boot.manager_ms as f64, begun as f64)],
        ));
    }
    // The boot of a unit ends when it is first ready.
    let ready = |unit: &UnitPhases| {
        let found = unit.phases.iter().position(|(phase, _)| phase == "ready");
        found.unwrap_or(unit.phases.len().saturating_sub(1))
    };
    let steps = rows.iter().flat_map(|(_, bars)| bars).map(|(_, _, end)| *end);
    let units = boot
        .units
        .iter()
        .filter_map(|unit| Some(unit.phases.get(ready(unit))?.1 as f64));
    let last = steps.chain(units).fold(1.0, f64::max) * 1.05;
    for unit in &boot.units {
        let shown = &unit.phases[..unit.phases.len().min(ready(unit) + 1)];
        let ends = unit.phases.iter().skip(1).map(|(_, at)| *at as f64);
        let bars = shown
            .iter()
            .zip(ends.chain([last]))
            .enumerate()
            .map(|(i, ((phase, start), end))| {
                let end = if i == ready(unit) { last } else { end };
                (phase.clone(), *start as f64, end)
            });
        rows.push((unit.name.clone(), bars.collect()));
    }
    (rows, last)
}

/// The chart. The same answer gives the same bytes.
pub(crate) fn svg(boot: &Boot) -> String {
    let (rows, last) = rows(boot);
    let height = ROW * (rows.len() as f64 + 3.0);
    let x = |ms: f64| LEFT + ms / last * WIDTH;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fbfaf7\"/>\n",
        LEFT + WIDTH + 20.0
    );
    let step = [100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 60_000.0]
        .into_iter()
        .find(|s| last / s <= 12.0)
        .unwrap_or(600_000.0);
    let mut at = 0.0;
    while at <= last {
        let _ = writeln!(
            out,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"20\" y2=\"{height}\" stroke=\"#e2dfd6\"/>\
             <text x=\"{0:.1}\" y=\"14\" text-anchor=\"middle\" fill=\"#6b6a65\">{1} s</text>",
            x(at),
            at / 1000.0
        );
        at += step;
    }
    for (i, (name, bars)) in rows.iter().enumerate() {
        let y = ROW * (i as f64 + 1.0) + 4.0;
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 13.0,
            escape(name)
        );
        for (kind, start, end) in bars {
            let _ = writeln!(
                out,
                "<rect x=\"{:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\"><title>{}: {:.0} to {:.0} ms\
                 </title></rect>",
                x(*start),
                (x(*end) - x(*start)).max(1.0),
                ROW - 5.0,
                colour(kind),
                escape(kind),
                start,
                end
            );
        }
    }
    legend(&mut out, height);
    out.push_str("</svg>\n");
    out
}

/// What the colours mean.
fn legend(out: &mut String, height: f64) {
    let mut x = LEFT;
    for phase in [
        "step",
        "waiting",
        "preparing",
        "setting-up",
        "starting",
        "ready",
        "failed",
    ] {
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"{}\" fill=\"#6b6a65\">{phase}</text>",
            height - 20.0,
            colour(phase),
            x + 18.0,
            height - 10.0
        );
        x += 34.0 + 8.0 * phase.len() as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::svg;

    #[test]
    fn every_step_and_unit_has_a_bar_and_names_cannot_break_the_picture() {
        let boot: cairn_api::Boot = serde_json::from_value(serde_json::json!({
            "manager_ms": 900, "now_ms": 5000,
            "steps": [{"name": "<verity>", "start_ms": 400.5, "end_ms": 700.0}],
            "units": [{"name": "db", "waits_for": [], "phases": [["waiting", 910], ["starting", 950], ["ready", 2000],
                ["stopping", 90000]]}],
        }))
        .unwrap();
        let picture = svg(&boot);
        assert!(picture.contains("&lt;verity&gt;") && !picture.contains("<verity>"));
        assert_eq!(picture.matches("<title>").count(), 6);
        assert!(picture.contains(">manager</text>"));
        assert!(picture.contains("starting: 950 to 2000 ms") && !picture.contains("stopping"));
        assert_eq!(picture, svg(&boot));
    }

    #[test]
    fn a_boot_without_units_is_still_a_picture() {
        let boot = cairn_api::Boot {
            manager_ms: 0,
            now_ms: 0,
            steps: Vec::new(),
            units: Vec::new(),
        };
        assert!(svg(&boot).ends_with("</svg>\n"));
    }
}
