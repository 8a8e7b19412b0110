//! A metric with labels.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::{Histogram, Kind, Text};

/// What a series holds: a counter (`u64`), a [`Gauge`] or a [`Histogram`].
pub trait Series {
    /// What it is.
    const KIND: Kind;

    /// Writes the samples of one series.
    fn write(&self, out: &mut Text, name: &str, labels: &[(&str, &str)]);
}

impl Series for u64 {
    const KIND: Kind = Kind::Counter;

    fn write(&self, out: &mut Text, name: &str, labels: &[(&str, &str)]) {
        out.sample(name, labels, self);
    }
}

/// A number that goes up and down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauge(pub i64);

impl Series for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn write(&self, out: &mut Text, name: &str, labels: &[(&str, &str)]) {
        out.sample(name, labels, self.0);
    }
}

impl Series for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn write(&self, out: &mut Text, name: &str, labels: &[(&str, &str)]) {
        out.histogram(name, labels, self);
    }
}

type Values<const N: usize> = [Cow<'static, str>; N];

/// One metric: a series for each combination of its labels' values that was counted. Without any it is left out of the
/// page, as Go's `CounterVec` is.
pub struct Family<const N: usize, S = u64> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
    new: fn() -> S,
    series: Mutex<BTreeMap<Values<N>, S>>,
}

impl<const N: usize, S: Series> Family<N, S> {
    /// None is counted yet. `help` is one line that ends without a full stop; `labels` are in the order of the page, the
    /// alphabet's as in Go; `new` makes a series.
    pub const fn of(
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        new: fn() -> S,
    ) -> Self {
        Self { name, help, labels, new, series: Mutex::new(BTreeMap::new()) }
    }

    /// Changes the series with these values of the labels.
    pub fn change<V: Into<Cow<'static, str>>>(&self, values: [V; N], change: impl FnOnce(&mut S)) {
        // A panic leaves a number more or less.
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        change(series.entry(values.map(Into::into)).or_insert_with(self.new));
    }

    /// Writes it, in the order of the values.
    pub fn write(&self, out: &mut Text) {
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if !series.is_empty() {
            out.metric(self.name, S::KIND, self.help);
        }
        for (values, one) in &*series {
            let values: [&str; N] = std::array::from_fn(|i| &*values[i]);
            let labels: [(&str, &str); N] = std::array::from_fn(|i| (self.labels[i], values[i]));
            one.write(out, self.name, &labels);
        }
    }
}

impl<const N: usize> Family<N> {
    /// Counters.
    pub const fn counter(name: &'static str, help: &'static str, labels: [&'static str; N]) -> Self {
        Self::of(name, help, labels, u64::default)
    }

    /// Counts one more.
    pub fn count<V: Into<Cow<'static, str>>>(&self, values: [V; N]) {
        self.change(values, |count| *count += 1);
    }
}

impl<S: Series> Family<0, S> {
    /// It is there from the beginning.
    #[must_use]
    pub fn shown(self) -> Self {
        self.change([""; 0], |_| {});
        self
    }
}

impl<const N: usize, S> fmt::Debug for Family<N, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Family").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page<const N: usize, S: Series>(family: &Family<N, S>) -> String {
        let mut out = Text::default();
        family.write(&mut out);
        out.finish()
    }

    #[test]
    fn each_combination_of_labels_is_a_series_and_none_is_no_metric() {
        let ended = Family::counter("ended_total", "Ended", ["code", "kind"]);
        assert_eq!(page(&ended), "");
        ended.count(["1", "init"]);
        ended.count(["0", "sidecar"]);
        ended.count(["1".to_owned(), "init".to_owned()]);
        let want = "# HELP ended_total Ended\n# TYPE ended_total counter\n\
                    ended_total{code=\"0\",kind=\"sidecar\"} 1\nended_total{code=\"1\",kind=\"init\"} 2\n";
        assert_eq!(page(&ended), want);
    }

    #[test]
    fn what_has_no_labels_may_be_shown_from_the_beginning() {
        let pods = Family::counter("pods_total", "Pods", []).shown();
        assert_eq!(page(&pods), "# HELP pods_total Pods\n# TYPE pods_total counter\npods_total 0\n");
    }

    #[test]
    fn gauges_and_histograms_are_series_too() {
        let flying = Family::of("flying", "Flying", ["path"], Gauge::default);
        flying.change(["pods"], |gauge| gauge.0 += 2);
        flying.change(["pods"], |gauge| gauge.0 -= 1);
        assert!(page(&flying).ends_with("# TYPE flying gauge\nflying{path=\"pods\"} 1\n"));
        let seconds = Family::of("seconds", "Seconds", ["path"], || Histogram::new(&[1.0]));
        seconds.change(["pods"], |histogram| histogram.observe(0.5));
        assert!(page(&seconds).contains("seconds_bucket{path=\"pods\",le=\"1\"} 1\n"));
    }
}
