//! Metrics in Prometheus' text format, version 0.0.4: counts by size ([`Histogram`]), metrics with labels ([`Family`]) and
//! a page that is being written ([`Text`]). Each crate counts what it does itself and writes it.
//!
//! Must not know what is counted, nor when anybody asks.

mod family;

use std::fmt::{Display, Write as _};

use kube_model::Timestamp;

pub use family::{Family, Gauge, Series};

/// Prometheus' default upper bounds, in seconds.
pub const DEFAULT_BOUNDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A page of metrics that is being written.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins a metric; its samples follow. `help` is one line that ends without a full stop, as the kubelet's.
    pub fn metric(&mut self, name: &str, kind: Kind, help: &str) {
        self.0.push_str("# HELP ");
        self.0.push_str(name);
        self.0.push(' ');
        escape(&mut self.0, help, false);
        self.0.push_str("\n# TYPE ");
        self.0.push_str(name);
        self.0.push(' ');
        self.0.push_str(kind.name());
        self.0.push('\n');
    }

    /// One sample. Integers up to 2^53 and floats are written as they are.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.series(name, "", labels, None);
        // Writing to a string cannot fail.
        let _infallible = writeln!(self.0, " {value}");
    }

    /// One sample with the time when it was measured, in milliseconds.
    pub fn sample_at(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display, at: Timestamp) {
        self.series(name, "", labels, None);
        let _infallible = writeln!(self.0, " {value} {}", at.as_millisecond());
    }

    /// The samples of a histogram.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut upto = 0;
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            upto += count;
            self.series(name, "_bucket", labels, Some(&bound.to_string()));
            let _infallible = writeln!(self.0, " {upto}");
        }
        self.series(name, "_bucket", labels, Some("+Inf"));
        let _infallible = writeln!(self.0, " {}", histogram.count);
        self.series(name, "_sum", labels, None);
        let _infallible = writeln!(self.0, " {}", histogram.sum);
        self.series(name, "_count", labels, None);
        let _infallible = writeln!(self.0, " {}", histogram.count);
    }

    fn series(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>) {
        self.0.push_str(name);
        self.0.push_str(suffix);
        let bound = bound.map(|bound| ("le", bound));
        for (index, (label, value)) in labels.iter().copied().chain(bound).enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            escape(&mut self.0, value, true);
            self.0.push('"');
        }
        if !labels.is_empty() || bound.is_some() {
            self.0.push('}');
        }
    }

    /// The page.
    pub fn finish(self) -> String {
        self.0
    }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

/// Counts of values by size.
#[derive(Debug, Clone)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Histogram {
    /// With buckets up to each of `bounds`, which ascend.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len()], count: 0, sum: 0.0 }
    }

    /// Of values that somebody else has counted: how many are in each bucket alone, how many there are, their sum.
    pub fn counted(bounds: &'static [f64], counts: &[u64], count: u64, sum: f64) -> Self {
        Self { bounds, counts: counts.to_vec(), count, sum }
    }

    /// Counts a value.
    pub fn observe(&mut self, value: f64) {
        if let Some(count) =
            self.bounds.iter().position(|bound| value <= *bound).and_then(|i| self.counts.get_mut(i))
        {
            *count += 1;
        }
        self.count += 1;
        self.sum += value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_written_as_prometheus_reads_it() {
        let mut text = Text::default();
        text.metric("a_total", Kind::Counter, "Backslash \\ and\nline");
        text.sample("a_total", &[], 3);
        text.sample("a_total", &[("b", "say \"hi\"\n"), ("c", "")], 0.25);
        text.sample_at("a_total", &[("b", "x")], 1.0, "1970-01-01T00:00:01.5Z".parse().unwrap());
        let mut seconds = Histogram::new(&[0.5, 1.0, 10.0]);
        for value in [0.25, 0.5, 0.75, 20.0] {
            seconds.observe(value);
        }
        text.metric("s", Kind::Histogram, "Seconds");
        text.histogram("s", &[("b", "x")], &seconds);
        assert_eq!(
            text.finish(),
            "# HELP a_total Backslash \\\\ and\\nline\n\
             # TYPE a_total counter\n\
             a_total 3\n\
             a_total{b=\"say \\\"hi\\\"\\n\",c=\"\"} 0.25\n\
             a_total{b=\"x\"} 1 1500\n\
             # HELP s Seconds\n\
             # TYPE s histogram\n\
             s_bucket{b=\"x\",le=\"0.5\"} 2\n\
             s_bucket{b=\"x\",le=\"1\"} 3\n\
             s_bucket{b=\"x\",le=\"10\"} 3\n\
             s_bucket{b=\"x\",le=\"+Inf\"} 4\n\
             s_sum{b=\"x\"} 21.5\n\
             s_count{b=\"x\"} 4\n"
        );
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
