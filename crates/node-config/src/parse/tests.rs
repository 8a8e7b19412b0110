use super::*;
use crate::config::Effect;
use crate::flag::{Field, Flag, Standing, field};

#[derive(Debug, Default, PartialEq, Eq, Clone)]
struct Values {
    name: String,
    yes: bool,
    list: Vec<String>,
    count: i32,
    level: u32,
}

const fn row(
    name: &'static str,
    short: Option<char>,
    default: &'static str,
    slot: &'static dyn crate::flag::Slot<Values>,
) -> Flag<Values> {
    Flag {
        name,
        short,
        default,
        help: "",
        field: None,
        standing: Standing::Ours,
        effect: Effect::Done,
        instead: "",
        slot,
    }
}

const fn at<V>(get: fn(&mut Values) -> &mut V) -> Field<Values, V> {
    field(get)
}

static TABLE: &[Flag<Values>] = &[
    row("the-name", None, "somebody", &at(|v| &mut v.name)),
    row("yes", Some('y'), "", &at(|v| &mut v.yes)),
    row("list", None, "d,e", &at(|v| &mut v.list)),
    row("count", Some('c'), "7", &at(|v| &mut v.count)),
    row("v", Some('v'), "0", &at(|v| &mut v.level)),
];

fn read(line: &[&str]) -> Result<Parsed<Values>, UsageError> {
    parse(TABLE, line.iter().map(|&arg| arg.to_owned()))
}

fn failure(line: &[&str]) -> String {
    match read(line) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{line:?}: accepted"),
    }
}

fn values(line: &[&str]) -> Values {
    read(line).unwrap_or_else(|error| panic!("{line:?}: {error}")).values
}

#[test]
fn values_are_given_in_every_way_that_pflag_knows() {
    let default = values(&[]);
    assert_eq!(default.name, "somebody");
    assert_eq!(default.list, ["d", "e"]);
    assert_eq!(default.count, 7);

    for (line, name) in [
        (vec!["--the-name=x"], "x"),
        (vec!["--the-name", "x"], "x"),
        (vec!["--the_name=x"], "x"),
        (vec!["--the-name="], ""),
        (vec!["--the-name", ""], ""),
        (vec!["--the-name=a=b"], "a=b"),
        (vec!["--the-name=x_y"], "x_y"),
        (vec!["--the-name", "--yes"], "--yes"),
        (vec!["--the-name=x", "--the-name=z"], "z"),
    ] {
        assert_eq!(values(&line).name, name, "{line:?}");
    }
    for (line, yes) in [
        (vec!["--yes"], true),
        (vec!["--yes=true"], true),
        (vec!["--yes=false"], false),
        (vec!["--yes", "--yes=F"], false),
        (vec!["-y"], true),
        (vec!["-y=0"], false),
        (vec!["-yv4"], true),
    ] {
        assert_eq!(values(&line).yes, yes, "{line:?}");
    }
    for line in [vec!["-v4"], vec!["-v=4"], vec!["-v", "4"], vec!["--v=4"], vec!["--v", "4"], vec!["-yv4"]] {
        assert_eq!(values(&line).level, 4, "{line:?}");
    }
    for (line, list) in [
        (vec!["--list=a"], vec!["a"]),
        (vec!["--list=a,b", "--list", "c"], vec!["a", "b", "c"]),
        (vec!["--list="], vec![]),
    ] {
        assert_eq!(values(&line).list, list, "{line:?}");
    }
}

#[test]
fn words_are_kept_with_the_flag_that_took_none() {
    let word = |text: &str, after| Word { text: text.to_owned(), after };
    assert_eq!(read(&["--yes", "false"]).unwrap().words, [word("false", Some("yes"))]);
    assert_eq!(
        read(&["a", "--yes", "-v1", "b", "-"]).unwrap().words,
        [word("a", None), word("b", None), word("-", None)]
    );
    assert_eq!(read(&["--", "--yes", "-x"]).unwrap().words, [word("--yes", None), word("-x", None)]);
}

#[test]
fn each_use_is_remembered_and_can_be_applied_again() {
    let parsed =
        read(&["--the_name=a", "--list=x", "--count", "0x10", "--list=y", "--the-name=b", "--yes"]).unwrap();
    let uses: Vec<_> = parsed.uses.iter().map(|(flag, text)| (flag.name, text.as_str())).collect();
    assert_eq!(
        uses,
        [
            ("the-name", "a"),
            ("list", "x"),
            ("count", "0x10"),
            ("list", "y"),
            ("the-name", "b"),
            ("yes", "true")
        ]
    );
    let mut others = Values { list: vec!["old".into()], level: 3, ..Values::default() };
    parsed.apply(&mut others).unwrap();
    assert_eq!(others, Values { level: 3, ..parsed.values });
}

#[test]
fn errors_name_the_flag_and_what_was_expected() {
    for (line, error) in [
        (vec!["--nope"], "unknown flag: --nope"),
        (vec!["--no_pe=1"], "unknown flag: --no_pe"),
        (vec!["--=x"], "bad flag syntax: --=x"),
        (vec!["---x"], "bad flag syntax: ---x"),
        (vec!["-x"], "unknown shorthand flag: 'x' in -x"),
        (vec!["-yx"], "unknown shorthand flag: 'x' in -yx"),
        (vec!["--count"], "flag needs an argument: --count (a whole number)"),
        (vec!["-v"], "flag needs an argument: 'v' in -v (a whole number, 0 or more)"),
        (
            vec!["--count=x"],
            "invalid argument \"x\" for \"-c, --count\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            vec!["--yes=maybe"],
            "invalid argument \"maybe\" for \"-y, --yes\" flag: strconv.ParseBool: parsing \"maybe\": invalid \
             syntax",
        ),
        (vec!["--a\nb"], "unknown flag: --a\\nb"),
    ] {
        assert_eq!(failure(&line), error, "{line:?}");
    }
}

proptest::proptest! {
    #[test]
    fn no_command_line_panics_and_each_error_is_one_line(line: Vec<String>) {
        if let Err(error) = parse(TABLE, line) {
            proptest::prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn flags_of_different_names_may_stand_in_any_order(
        name in "[a-z-]*", count: i32, level in 0_u32..1000, yes: bool, swap in 0_usize..4,
    ) {
        let mut line = vec![
            format!("--the-name={name}"),
            format!("--count={count}"),
            format!("-v{level}"),
            format!("--yes={yes}"),
        ];
        let straight = parse(TABLE, line.clone()).unwrap().values;
        line.rotate_left(swap);
        let rotated = parse(TABLE, line).unwrap().values;
        proptest::prop_assert_eq!(&straight, &rotated);
        proptest::prop_assert_eq!(straight.count, count);
        proptest::prop_assert_eq!(straight.level, level);
    }
}
