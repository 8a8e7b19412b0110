//! The numbers: a table with budgets for people, JSON for comparing.

use serde_json::{Map, Value, json};

use crate::ui;

/// In the order in which they were measured.
#[derive(Default)]
pub(super) struct Report(Vec<Row>);

/// One number.
pub(super) struct Row {
    key: String,
    what: String,
    value: f64,
    unit: String,
    budget: Option<f64>,
}

impl Row {
    /// The most that it may be.
    pub(super) fn budget(&mut self, most: f64) {
        self.budget = Some(most);
    }

    fn verdict(&self) -> String {
        match self.budget {
            None => String::new(),
            Some(most) if self.value <= most => format!("ok (at most {most})"),
            Some(most) => format!("MISSED by {} (at most {most})", number(self.value - most)),
        }
    }
}

impl Report {
    pub(super) fn add(&mut self, key: &str, what: &str, value: f64, unit: &str) -> &mut Row {
        ui::say(format!("    {what}: {} {unit}", number(value)));
        let row =
            Row { key: key.to_owned(), what: what.to_owned(), value, unit: unit.to_owned(), budget: None };
        self.0.push_mut(row)
    }

    pub(super) fn print(&self) {
        ui::step("numbers");
        let width = self.0.iter().map(|row| row.what.chars().count()).max().unwrap_or_default();
        for row in &self.0 {
            let line =
                format!("{:width$}  {:>9} {:<12} {}", row.what, number(row.value), row.unit, row.verdict());
            ui::say(line.trim_end());
        }
    }

    pub(super) fn json(&self) -> Value {
        let rows = self.0.iter().map(|row| {
            let value = json!({
                "what": row.what,
                "value": row.value,
                "unit": row.unit,
                "budget": row.budget,
                "ok": row.budget.map(|most| row.value <= most),
            });
            (row.key.clone(), value)
        });
        Value::Object(rows.collect::<Map<_, _>>())
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_kept_up_to_its_very_value_and_a_miss_says_by_how_much() {
        let mut report = Report::default();
        report.add("a", "a", 15.0, "MiB").budget(15.0);
        report.add("b", "b", 17.5, "MiB").budget(15.0);
        report.add("c", "c", 1.0, "s");
        let verdicts: Vec<String> = report.0.iter().map(Row::verdict).collect();
        assert_eq!(verdicts, ["ok (at most 15)", "MISSED by 2.50 (at most 15)", ""]);
        let json = report.json();
        assert_eq!(json["a"]["ok"], true);
        assert_eq!(json["b"]["ok"], false);
        assert_eq!(json["c"]["budget"], Value::Null);
    }
}
