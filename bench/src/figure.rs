//! Samples, and the table that is printed.

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    /// Seconds too, shown as milliseconds.
    Millis,
    Bytes,
}

/// The samples of one figure.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Samples(pub(crate) Vec<f64>);

impl Samples {
    pub(crate) fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            n if n % 2 == 1 => Some(sorted[middle]),
            _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        }
    }

    fn show(&self, unit: Unit) -> String {
        let Some(median) = self.median() else { return "-".into() };
        let one = |x: f64| match unit {
            Unit::Seconds => format!("{x:.2} s"),
            Unit::Millis => format!("{:.1} ms", x * 1e3),
            Unit::Bytes if x < 1e5 => format!("{:.1} kB", x / 1e3),
            Unit::Bytes => format!("{:.1} MB", x / 1e6),
        };
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if self.0.len() == 1 {
            one(median)
        } else {
            format!("{} ({} to {})", one(median), one(least), one(most))
        }
    }
}

/// What a figure is held against.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Goal {
    /// At most this.
    AtMost(f64),
    /// At most this share of the peer's.
    Share(f64),
    /// Nothing: it is there to be seen.
    None,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) ours: Samples,
    /// The peer's name with its samples, or why there are none.
    pub(crate) peer: Result<(String, Samples), String>,
    pub(crate) goal: Goal,
}

impl Row {
    /// Whether the goal is met; none where there is no goal, or nothing to hold it against.
    fn met(&self) -> Option<bool> {
        let ours = self.ours.median()?;
        match self.goal {
            Goal::AtMost(most) => Some(ours <= most),
            Goal::Share(share) => Some(ours <= share * self.peer.as_ref().ok()?.1.median()?),
            Goal::None => None,
        }
    }

    fn cells(&self) -> [String; 6] {
        let (peer, ratio) = match &self.peer {
            Ok((name, samples)) => {
                let ratio = match (self.ours.median(), samples.median()) {
                    (Some(ours), Some(theirs)) if ours > 0.0 => format!("1/{:.1}", theirs / ours),
                    _ => String::new(),
                };
                (format!("{} {name}", samples.show(self.unit)), ratio)
            }
            Err(why) => (why.clone(), String::new()),
        };
        let goal = match self.goal {
            Goal::AtMost(x) => format!("at most {}", Samples(vec![x]).show(self.unit)),
            Goal::Share(x) => format!("at most 1/{:.0}", 1.0 / x),
            Goal::None => String::new(),
        };
        let met = self.met().map_or("", |met| if met { "yes" } else { "no" });
        [
            self.what.clone(),
            self.ours.show(self.unit),
            peer,
            ratio,
            goal,
            met.to_owned(),
        ]
    }
}

/// The rows as a Markdown table, columns aligned.
pub(crate) fn table(rows: &[Row]) -> String {
    let head = ["what", "Cairn", "peer", "ratio", "goal", "met"].map(str::to_owned);
    let cells: Vec<[String; 6]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let widths: Vec<usize> = (0..6)
        .map(|i| cells.iter().map(|row| row[i].chars().count()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for (i, row) in cells.iter().enumerate() {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        out.push_str(&format!("| {} |\n", line.join(" | ")));
        if i == 0 {
            let rule: Vec<String> = widths.iter().map(|w| "-".repeat(*w)).collect();
            out.push_str(&format!("| {} |\n", rule.join(" | ")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(Samples(vec![4.0, 1.0, 3.0, 2.0]).median(), Some(2.5));
        assert_eq!(Samples(vec![]).median(), None);
    }

    #[test]
    fn a_peer_that_did_not_run_is_shown_with_its_reason_and_no_ratio() {
        let row = Row {
            what: "cold build".into(),
            unit: Unit::Seconds,
            ours: Samples(vec![2.0]),
            peer: Err("mkosi: needs root".into()),
            goal: Goal::Share(0.125),
        };
        assert_eq!(
            row.cells(),
            ["cold build", "2.00 s", "mkosi: needs root", "", "at most 1/8", ""].map(str::to_owned)
        );
    }

    #[test]
    fn a_goal_is_met_by_the_median_and_against_the_peers_median() {
        let row = |ours: f64, goal| Row {
            what: "spawn".into(),
            unit: Unit::Millis,
            ours: Samples(vec![ours, ours, 99.0]),
            peer: Ok(("bubblewrap".into(), Samples(vec![0.003]))),
            goal,
        };
        assert_eq!(row(0.003, Goal::Share(1.0)).met(), Some(true));
        assert_eq!(row(0.0031, Goal::Share(1.0)).met(), Some(false));
        assert_eq!(row(0.02, Goal::AtMost(0.02)).met(), Some(true));
        assert_eq!(row(0.021, Goal::AtMost(0.02)).cells()[5], "no");
        assert_eq!(row(0.02, Goal::None).met(), None);
        assert_eq!(row(0.02, Goal::None).cells()[1], "20.0 ms (20.0 ms to 99000.0 ms)");
    }
}
