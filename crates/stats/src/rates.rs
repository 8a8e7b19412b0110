//! CPU rates: from two readings of what was used so far.

use std::collections::BTreeMap;

use kube_model::Timestamp;
use kube_model::stats::CpuStats;

/// Shortest time that a rate is reckoned over. Of readings closer together the later has the rate of the earlier.
const SHORTEST: i128 = 1_000_000_000;

/// How long a reading is good for: upstream `pkg/kubelet/stats/cri_stats_provider.go`, `defaultCachePeriod`.
const LONGEST: i128 = 600 * 1_000_000_000;

/// The last readings, by container or cgroup.
#[derive(Debug, Default)]
pub(crate) struct Rates(BTreeMap<String, Reading>);

#[derive(Debug)]
struct Reading {
    at: Timestamp,
    used: u64,
    rate: Option<u64>,
}

impl Rates {
    /// Completes `cpu`, unless it has a rate already: nanoseconds of CPU a second since the last reading.
    pub(crate) fn complete(&mut self, name: &str, cpu: &mut CpuStats) {
        let (None, Some(used)) = (cpu.usage_nano_cores, cpu.usage_core_nano_seconds) else { return };
        let at = cpu.time.0;
        let Some(last) = self.0.get_mut(name) else {
            self.0.insert(name.to_owned(), Reading { at, used, rate: None });
            return;
        };
        let elapsed = nanoseconds(last.at, at);
        if (0..SHORTEST).contains(&elapsed) && used >= last.used {
            cpu.usage_nano_cores = last.rate;
            return;
        }
        // Of a clock that was set back, a cgroup that was made anew, or long ago, nothing can be said.
        let sound = elapsed > 0 && elapsed <= LONGEST;
        let grown = used.checked_sub(last.used).filter(|_| sound).map(i128::from);
        let rate = grown.and_then(|grown| u64::try_from(grown * 1_000_000_000 / elapsed).ok());
        *last = Reading { at, used, rate };
        cpu.usage_nano_cores = rate;
    }

    /// Drops what is too old to be of use: most of it is gone.
    pub(crate) fn forget(&mut self, now: Timestamp) {
        self.0.retain(|_, reading| nanoseconds(reading.at, now) <= LONGEST);
    }
}

fn nanoseconds(from: Timestamp, to: Timestamp) -> i128 {
    to.as_nanosecond() - from.as_nanosecond()
}

#[cfg(test)]
mod tests {
    use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    fn rate(rates: &mut Rates, milliseconds: i64, used: u64, own: Option<u64>) -> Option<u64> {
        let time = Time(at(milliseconds));
        let mut cpu =
            CpuStats { time, usage_nano_cores: own, usage_core_nano_seconds: Some(used), psi: None };
        rates.complete("a", &mut cpu);
        cpu.usage_nano_cores
    }

    #[test]
    fn a_rate_needs_two_readings_some_time_apart() {
        let mut rates = Rates::default();
        assert_eq!(rate(&mut rates, 0, 1_000_000_000, None), None, "the first");
        assert_eq!(rate(&mut rates, 500, 1_500_000_000, None), None, "too soon");
        assert_eq!(rate(&mut rates, 4000, 2_000_000_000, None), Some(250_000_000), "since the first");
        assert_eq!(rate(&mut rates, 4999, 9_000_000_000, None), Some(250_000_000), "too soon: as before");
        assert_eq!(rate(&mut rates, 6000, 2_000_000_000, None), Some(0), "idle");
        assert_eq!(rate(&mut rates, 6001, 5, Some(7)), Some(7), "the runtime's own stands");
    }

    #[test]
    fn what_makes_no_sense_starts_anew() {
        for (case, next, used) in
            [("less used", 5000, 1), ("clock set back", -5000, 200), ("long ago", 600_001, 200)]
        {
            let mut rates = Rates::default();
            rate(&mut rates, 0, 100, None);
            assert_eq!(rate(&mut rates, next, used, None), None, "{case}");
            assert_eq!(rate(&mut rates, next + 1000, used + 50, None), Some(50), "{case}: after that");
        }
    }

    #[test]
    fn what_is_gone_is_forgotten_in_the_end() {
        let mut rates = Rates::default();
        rate(&mut rates, 0, 100, None);
        rates.forget(at(600_000));
        assert_eq!(rates.0.len(), 1);
        rates.forget(at(600_001));
        assert!(rates.0.is_empty());
    }
}
