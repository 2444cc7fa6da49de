//! Samples, and the table that is printed.

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
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
    fn cells(&self) -> [String; 5] {
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
        [self.what.clone(), self.ours.show(self.unit), peer, ratio, goal]
    }
}

/// The rows as a Markdown table, columns aligned.
pub(crate) fn table(rows: &[Row]) -> String {
    let head = ["what", "Cairn", "peer", "ratio", "goal"].map(str::to_owned);
    let cells: Vec<[String; 5]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let widths: Vec<usize> = (0..5)
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
            ["cold build", "2.00 s", "mkosi: needs root", "", "at most 1/8"].map(str::to_owned)
        );
    }
}
