//! The boot as a picture: a pure function from the API's answer to SVG.

use std::fmt::Write as _;

use serde_json::Value;

const LEFT: f64 = 170.0;
const WIDTH: f64 = 800.0;
const ROW: f64 = 22.0;

fn colour(phase: &str) -> &'static str {
    match phase {
        "waiting" => "#c8c5bd",
        "preparing" => "#a3b18a",
        "setting up" => "#d9a441",
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

fn rows(boot: &Value) -> (Vec<Row>, f64) {
    let mut rows: Vec<Row> = Vec::new();
    let mut last: f64 = 1.0;
    let first = boot["steps"]
        .as_array()
        .and_then(|s| s.first())
        .and_then(|s| s["start_ms"].as_f64());
    let kernel = first.or_else(|| boot["manager_ms"].as_f64()).unwrap_or(0.0);
    rows.push(("kernel".into(), vec![("step".into(), 0.0, kernel)]));
    for step in boot["steps"].as_array().into_iter().flatten() {
        let (Some(start), Some(end)) = (step["start_ms"].as_f64(), step["end_ms"].as_f64()) else {
            continue;
        };
        last = last.max(end);
        rows.push((
            step["name"].as_str().unwrap_or("?").into(),
            vec![("step".into(), start, end)],
        ));
    }
    let mut ends = Vec::new();
    for unit in boot["units"].as_array().into_iter().flatten() {
        let phases: Vec<(String, f64)> = unit["phases"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|p| Some((p["phase"].as_str()?.to_owned(), p["at_ms"].as_f64()?)))
            .collect();
        // The boot of a unit ends when it is first ready.
        let ready = phases
            .iter()
            .position(|(p, _)| p == "ready")
            .unwrap_or(phases.len().saturating_sub(1));
        last = phases.get(ready).map_or(last, |(_, at)| last.max(*at));
        ends.push((unit["name"].as_str().unwrap_or("?").to_owned(), phases, ready));
    }
    last *= 1.05;
    for (name, phases, ready) in ends {
        let bars = (0..phases.len().min(ready + 1))
            .map(|i| {
                let end = if i == ready {
                    last
                } else {
                    phases.get(i + 1).map_or(last, |p| p.1)
                };
                (phases[i].0.clone(), phases[i].1, end)
            })
            .collect();
        rows.push((name, bars));
    }
    (rows, last)
}

/// The chart. The same answer gives the same bytes.
pub(crate) fn svg(boot: &Value) -> String {
    let (rows, last) = rows(boot);
    let height = ROW * (rows.len() as f64 + 2.0);
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
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::svg;

    #[test]
    fn every_step_and_unit_has_a_bar_and_names_cannot_break_the_picture() {
        let boot = serde_json::json!({
            "manager_ms": 900, "now_ms": 5000,
            "steps": [{"name": "<verity>", "start_ms": 400.5, "end_ms": 700.0}],
            "units": [{"name": "db", "phases": [{"phase": "waiting", "at_ms": 910}, {"phase": "starting", "at_ms": 950},
                {"phase": "ready", "at_ms": 2000}, {"phase": "stopping", "at_ms": 90000}]}],
        });
        let picture = svg(&boot);
        assert!(picture.contains("&lt;verity&gt;") && !picture.contains("<verity>"));
        assert_eq!(picture.matches("<title>").count(), 5);
        assert!(picture.contains("starting: 950 to 2000 ms") && !picture.contains("stopping"));
        assert_eq!(picture, svg(&boot));
    }

    #[test]
    fn an_empty_answer_is_still_a_picture() {
        assert!(svg(&serde_json::json!({})).ends_with("</svg>\n"));
    }
}
