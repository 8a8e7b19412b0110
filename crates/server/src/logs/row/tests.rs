use proptest::prelude::*;

use super::*;

const LOG: &str = "2016-10-06T00:17:09.669794202Z stdout F one\n\
                   2016-10-06T00:17:10.5Z stderr P tw\n\
                   2016-10-06T00:17:10.6Z stderr P:x o-\n\
                   2016-10-06T00:17:10.7Z stderr F half\n\
                   2016-10-06T00:17:11+02:00 stdout F \n\
                   2016-10-06T00:17:12Z stdout F  three\n";

fn read(options: &LogOptions, log: &str) -> Result<String, UnsupportedFormat> {
    let (mut rows, mut out) = (Rows::new(options), vec![]);
    rows.feed(log.as_bytes(), &mut out)?;
    rows.finish()?;
    Ok(String::from_utf8(out).unwrap())
}

fn plain() -> LogOptions {
    LogOptions::default()
}

#[test]
fn parts_are_joined_and_text_is_kept_as_it_is() {
    assert_eq!(read(&plain(), LOG).unwrap(), "one\ntwo-half\n\n three\n");
}

#[test]
fn each_line_has_the_time_of_its_first_part_with_nine_digits() {
    let options = LogOptions { timestamps: true, ..plain() };
    assert_eq!(
        read(&options, LOG).unwrap(),
        "2016-10-06T00:17:09.669794202Z one\n\
         2016-10-06T00:17:10.500000000Z two-half\n\
         2016-10-06T00:17:11.000000000+02:00 \n\
         2016-10-06T00:17:12.000000000Z  three\n"
    );
}

#[test]
fn rows_before_the_wanted_time_are_left_out() {
    let options = LogOptions { since: Some("2016-10-06T00:17:10.7Z".parse().unwrap()), ..plain() };
    assert_eq!(read(&options, LOG).unwrap(), "half\n three\n");
}

#[test]
fn output_stops_at_the_limit_which_counts_times_too() {
    for (limit, timestamps, expected) in [
        (1, false, "o"),
        (4, false, "one\n"),
        (5, false, "one\nt"),
        (10_000, false, "one\ntwo-half\n\n three\n"),
        (33, true, "2016-10-06T00:17:09.669794202Z on"),
    ] {
        let options = LogOptions { limit_bytes: Some(limit), timestamps, ..plain() };
        assert_eq!(read(&options, LOG).unwrap(), expected, "{limit}");
    }
}

#[test]
fn what_is_no_row_is_left_out_unless_it_comes_first() {
    let row = "2016-10-06T00:17:09Z stdout F text\n";
    for bad in [
        "no row\n",
        "\n",
        "2016-10-06T00:17:09Z stdout F\n",
        "2016-10-06T00:17:09Z stdin F text\n",
        "yesterday stdout F text\n",
        "\u{fffd} stdout F text\n",
        &format!("{}\n", "x".repeat(100_000)),
    ] {
        assert_eq!(read(&plain(), &format!("{row}{bad}{row}")).unwrap(), "text\ntext\n", "{bad:.40}");
        let first = read(&plain(), &format!("{bad}{row}")).unwrap_err().to_string();
        assert!(
            first.starts_with("failed to get parse function: unsupported log format: \""),
            "{first:.100}"
        );
        assert!(first.len() < 1000);
    }
    assert!(read(&plain(), "cut").is_err());
}

#[test]
fn a_row_that_is_not_ended_is_given_as_far_as_it_goes() {
    assert_eq!(read(&plain(), "2016-10-06T00:17:09Z stdout F te").unwrap(), "te");
    assert_eq!(read(&plain(), "2016-10-06T00:17:09Z stdout F text\n2016-10").unwrap(), "text\n");
}

proptest! {
    #[test]
    fn output_does_not_depend_on_how_the_file_is_cut_into_pieces(
        cuts in prop::collection::vec(0..LOG.len(), 0..8),
        timestamps: bool,
        limit in prop::option::of(1u64..200),
    ) {
        let options = LogOptions { timestamps, limit_bytes: limit, ..plain() };
        let mut cuts = cuts;
        cuts.sort_unstable();
        cuts.push(LOG.len());
        let (mut rows, mut out, mut at) = (Rows::new(&options), vec![], 0);
        for cut in cuts {
            rows.feed(&LOG.as_bytes()[at..cut], &mut out).unwrap();
            at = cut;
        }
        prop_assert_eq!(String::from_utf8(out).unwrap(), read(&options, LOG).unwrap());
    }
}
