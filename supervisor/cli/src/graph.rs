//! The units and what is between them, as text and as a picture. The same answer gives the same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cairn_api::{Edge, EdgeKind, Graph};

const BOX_WIDTH: usize = 150;
const BOX_HEIGHT: usize = 44;
const GAP_X: usize = 110;
const GAP_Y: usize = 26;
const MARGIN: usize = 20;

/// A line a unit, with what it needs below it.
pub(crate) fn text(graph: &Graph) -> String {
    let mut out = String::new();
    for node in &graph.nodes {
        let publishes = if node.publishes.is_empty() {
            String::new()
        } else {
            format!(", open to the outside: {}", node.publishes.join(" "))
        };
        let _ = writeln!(out, "{} ({}{publishes})", node.name, node.state);
        for edge in graph.edges.iter().filter(|edge| edge.from == node.name) {
            let what = match edge.kind {
                EdgeKind::Binding => format!("needs {} as {}", edge.to, edge.label),
                EdgeKind::Order => format!("starts after {}", edge.to),
            };
            let _ = writeln!(out, "  {what}");
        }
    }
    out
}

/// How many units must be ready before each: its column.
fn ranks(graph: &Graph) -> BTreeMap<&str, usize> {
    let mut ranks: BTreeMap<&str, usize> = graph.nodes.iter().map(|node| (node.name.as_str(), 0)).collect();
    // The build refuses cycles; a bound keeps a wrong answer from running for ever.
    for _ in 0..graph.nodes.len() {
        for edge in &graph.edges {
            let before = ranks.get(edge.to.as_str()).copied().unwrap_or(0);
            if let Some(rank) = ranks.get_mut(edge.from.as_str()) {
                *rank = (*rank).max(before + 1);
            }
        }
    }
    ranks
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn colour(state: &str) -> &'static str {
    match state {
        "ready" => "#dfe9df",
        "failed" | "restarting" => "#f0d4d2",
        "stopped" => "#e6e4de",
        _ => "#f3e6c8",
    }
}

/// The picture: what is needed stands to the left of who needs it.
pub(crate) fn svg(graph: &Graph) -> String {
    let ranks = ranks(graph);
    let mut rows: BTreeMap<usize, usize> = BTreeMap::new();
    let mut places: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for node in &graph.nodes {
        let rank = ranks
            .get(node.name.as_str())
            .copied()
            .unwrap_or(0)
            .min(graph.nodes.len());
        let row = rows.entry(rank).or_insert(0);
        let place = (
            MARGIN + rank * (BOX_WIDTH + GAP_X),
            MARGIN + *row * (BOX_HEIGHT + GAP_Y),
        );
        places.insert(&node.name, place);
        *row += 1;
    }
    let columns = rows.keys().max().map_or(1, |rank| rank + 1);
    let lines = rows.values().max().copied().unwrap_or(1);
    let (width, height) = (
        2 * MARGIN + columns * BOX_WIDTH + (columns - 1) * GAP_X,
        2 * MARGIN + lines * BOX_HEIGHT + (lines - 1) * GAP_Y,
    );
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fbfaf7\"/>\n"
    );
    for edge in &graph.edges {
        if let (Some(from), Some(to)) = (places.get(edge.to.as_str()), places.get(edge.from.as_str())) {
            line(&mut out, edge, *from, *to);
        }
    }
    for node in &graph.nodes {
        let Some((x, y)) = places.get(node.name.as_str()) else {
            continue;
        };
        let below = if node.publishes.is_empty() {
            node.state.clone()
        } else {
            format!("{}  {}", node.state, node.publishes.join(" "))
        };
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"6\" fill=\"{}\" stroke=\"#6b7a8f\"/>\
             <text x=\"{tx}\" y=\"{ty}\" font-weight=\"bold\">{}</text><text x=\"{tx}\" y=\"{by}\" fill=\"#6b6a65\">{}</text>",
            colour(&node.state),
            escape(&node.name),
            escape(&below),
            tx = x + 10,
            ty = y + 18,
            by = y + 35,
        );
    }
    out.push_str("</svg>\n");
    out
}

fn line(out: &mut String, edge: &Edge, from: (usize, usize), to: (usize, usize)) {
    let (x1, y1) = (from.0 + BOX_WIDTH, from.1 + BOX_HEIGHT / 2);
    let (x2, y2) = (to.0, to.1 + BOX_HEIGHT / 2);
    let middle = (x1 + x2) / 2;
    let dashes = match edge.kind {
        EdgeKind::Binding => "",
        EdgeKind::Order => " stroke-dasharray=\"4 4\"",
    };
    let _ = writeln!(
        out,
        "<path d=\"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#6b7a8f\"{dashes}/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#6b6a65\" font-size=\"10\">{}</text>",
        middle,
        (y1 + y2) / 2 - 4,
        escape(&edge.label)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        let node = |name: &str, publishes: &[&str]| cairn_api::Node {
            name: name.into(),
            state: "ready".into(),
            publishes: publishes.iter().map(|p| (*p).into()).collect(),
        };
        let edge = |from: &str, to: &str, kind, label: &str| Edge {
            from: from.into(),
            to: to.into(),
            kind,
            label: label.into(),
        };
        Graph {
            nodes: vec![node("db", &[]), node("mail<", &[]), node("web", &["443/tcp"])],
            edges: vec![
                edge("mail<", "web", EdgeKind::Order, ""),
                edge("web", "db", EdgeKind::Binding, "db (3306)"),
            ],
        }
    }

    #[test]
    fn what_is_needed_stands_before_who_needs_it() {
        let graph = graph();
        let ranks = ranks(&graph);
        assert_eq!((ranks["db"], ranks["web"], ranks["mail<"]), (0, 1, 2));
    }

    #[test]
    fn text_and_picture_name_every_unit_and_edge() {
        let graph = graph();
        let shown = text(&graph);
        assert!(
            shown.contains("web (ready, open to the outside: 443/tcp)\n  needs db as db (3306)\n"),
            "{shown}"
        );
        assert!(shown.contains("  starts after web"));
        let picture = svg(&graph);
        assert!(picture.contains("mail&lt;") && !picture.contains("mail<<"));
        assert_eq!(
            (picture.matches("<path").count(), picture.matches("<rect").count()),
            (2, 4)
        );
        assert_eq!(picture, svg(&graph));
    }

    #[test]
    fn an_appliance_without_units_and_a_cycle_are_pictures_too() {
        let mut round = graph();
        round.edges.push(Edge {
            from: "db".into(),
            to: "web".into(),
            kind: EdgeKind::Order,
            label: String::new(),
        });
        assert!(svg(&round).ends_with("</svg>\n"));
        let none = Graph {
            nodes: Vec::new(),
            edges: Vec::new(),
        };
        assert!(svg(&none).ends_with("</svg>\n"));
    }
}
