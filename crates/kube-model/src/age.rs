//! Lengths of time as kubectl shows them: two or three digits that matter.

use jiff::Timestamp;

/// How long before `now` the time `then` was. Up to two seconds in the future count as now, for clocks that do
/// not agree.
pub fn since(then: Timestamp, now: Timestamp) -> String {
    match now.duration_since(then).as_secs() {
        ..=-2 => "<invalid>".to_owned(),
        seconds => human(seconds.max(0)),
    }
}

/// How long after `now` the time `then` will be.
pub fn until(then: Timestamp, now: Timestamp) -> String {
    human(then.duration_since(now).as_secs().max(0))
}

/// A number of seconds, not negative, as kubectl shows it.
pub fn human(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let one = |unit, letter| format!("{}{letter}", seconds / unit);
    let two = |unit, letter, small, small_letter| match seconds % unit / small {
        0 => one(unit, letter),
        rest => format!("{}{letter}{rest}{small_letter}", seconds / unit),
    };
    match seconds {
        s if s < 2 * MINUTE => one(1, 's'),
        s if s < 10 * MINUTE => two(MINUTE, 'm', 1, 's'),
        s if s < 3 * HOUR => one(MINUTE, 'm'),
        s if s < 8 * HOUR => two(HOUR, 'h', MINUTE, 'm'),
        s if s < 2 * DAY => one(HOUR, 'h'),
        s if s < 8 * DAY => two(DAY, 'd', HOUR, 'h'),
        s if s < 2 * YEAR => one(DAY, 'd'),
        s if s < 8 * YEAR => two(YEAR, 'y', DAY, 'd'),
        _ => one(YEAR, 'y'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_look_as_in_kubectl() {
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (3599, "59m"),
            (3600, "60m"),
            (3 * 3600 - 1, "179m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 61, "3h1m"),
            (8 * 3600 + 61, "8h"),
            (47 * 3600, "47h"),
            (48 * 3600, "2d"),
            (49 * 3600, "2d1h"),
            (8 * 86400 + 3600, "8d"),
            (729 * 86400, "729d"),
            (730 * 86400, "2y"),
            (731 * 86400, "2y1d"),
            (9 * 365 * 86400 + 86400, "9y"),
        ] {
            let now = Timestamp::from_second(1_800_000_000).unwrap();
            let then = Timestamp::from_second(1_800_000_000 - seconds).unwrap();
            assert_eq!(since(then, now), expected, "{seconds}");
        }
    }
}
