//! A unit with what is around it, as SVG: what it needs at the left, what needs it at the right.

use std::fmt::Write as _;

use cairn_api::{EdgeKind, Graph};

use crate::charts::escape;

const ROW: usize = 52;
const BOX: usize = 150;
const WIDTH: usize = 720;

/// The picture; empty where nothing is bound to the unit. The same facts stand beside it as text.
pub(crate) fn bindings(graph: &Graph, unit: &str, label: &str) -> String {
    let bound = |edge: &&cairn_api::Edge| edge.kind == EdgeKind::Binding;
    let needs: Vec<_> = graph
        .edges
        .iter()
        .filter(bound)
        .filter(|edge| edge.from == unit)
        .collect();
    let needed: Vec<_> = graph
        .edges
        .iter()
        .filter(bound)
        .filter(|edge| edge.to == unit)
        .collect();
    let rows = needs.len().max(needed.len());
    if rows == 0 {
        return String::new();
    }
    let height = rows * ROW + 8;
    let middle = height / 2;
    let mut out = format!(
        "<svg class=\"picture\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        escape(label)
    );
    let center = (WIDTH - BOX) / 2;
    for (edges, left) in [(&needs, true), (&needed, false)] {
        let shift = (rows - edges.len()) * ROW / 2;
        for (i, edge) in edges.iter().enumerate() {
            let y = shift + i * ROW + ROW / 2 + 4;
            let other = if left { &edge.to } else { &edge.from };
            let (from, to) = if left {
                (BOX, center)
            } else {
                (center + BOX, WIDTH - BOX)
            };
            let (start, end) = if left { (y, middle) } else { (middle, y) };
            let half = (from + to) / 2;
            // Beside the other unit, where the lines are still apart.
            let (at, anchor) = if left {
                (BOX + 8, "start")
            } else {
                (WIDTH - BOX - 8, "end")
            };
            let _ = write!(
                out,
                "<path class=\"edge\" d=\"M{from} {start}C{half} {start} {half} {end} {to} {end}\"/>\
                 <text class=\"label\" x=\"{at}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
                if y > middle { y + 16 } else { y - 8 },
                escape(&edge.label)
            );
            node(&mut out, if left { 0 } else { WIDTH - BOX }, y, other, false);
        }
    }
    node(&mut out, center, middle, unit, true);
    out + "</svg>"
}

fn node(out: &mut String, x: usize, y: usize, name: &str, own: bool) {
    let class = if own { "node own" } else { "node" };
    let _ = write!(
        out,
        "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"36\" rx=\"6\"/>\
         <text class=\"name\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        x + 1,
        y - 18,
        BOX - 2,
        x + BOX / 2,
        y + 5,
        escape(name)
    );
}
