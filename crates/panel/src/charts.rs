//! Small charts, as SVG without style or script, so that they stand in a page with a strict policy.

use std::fmt::Write as _;

use crate::samples::KEPT;

const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 28.0;

/// A line over the time of the samples, newest at the right. `most` is the top of the chart; what is above stays at the top.
pub(crate) fn line(values: &[f64], most: f64, label: &str) -> String {
    let mut out = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
        escape(label)
    );
    let step = WIDTH / (KEPT - 1) as f64;
    let start = WIDTH - step * values.len().saturating_sub(1) as f64;
    let mut path = String::new();
    for (i, value) in values.iter().enumerate() {
        let share = if most > 0.0 {
            (value / most).clamp(0.0, 1.0)
        } else {
            0.0
        };
        let (x, y) = (start + step * i as f64, 1.0 + (HEIGHT - 2.0) * (1.0 - share));
        let _ = write!(path, "{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
    }
    if !path.is_empty() {
        let _ = write!(
            out,
            "<path class=\"area\" d=\"{path}L{WIDTH} {HEIGHT}L{start:.1} {HEIGHT}Z\"/><path class=\"line\" d=\"{path}\"/>"
        );
    }
    out + "</svg>"
}

/// Text as XML has it.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_stays_in_its_frame_whatever_it_is_given() {
        for values in [&[][..], &[1.0], &[f64::NAN, -5.0, 1e300, f64::INFINITY]] {
            let chart = line(values, 10.0, "a<b");
            assert!(chart.starts_with("<svg") && chart.ends_with("</svg>") && chart.contains("a&lt;b"));
            let numbers = chart.split("d=\"").skip(1).filter_map(|rest| rest.split('"').next());
            for number in numbers.flat_map(|path| path.split(|c: char| c.is_alphabetic() || c == ' ')) {
                assert!(
                    number.is_empty() || number.parse::<f64>().is_ok_and(|n| (0.0..=WIDTH).contains(&n)),
                    "{chart}"
                );
            }
        }
    }
}
