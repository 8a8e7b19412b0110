//! `$(NAME)` in commands, arguments and variables, with a bound: a few lines of references to references could else
//! build more than any memory holds.
//! Rule: upstream `third_party/forked/golang/expansion`, which has no bound.

use std::borrow::Cow;

/// Most bytes that are built for one container: Linux takes no more for all arguments and variables of a program
/// together, whatever its limits (`fs/exec.c`: three quarters of the default stack).
pub const MAX_BYTES: usize = 6 << 20;

/// What may still be built. Counts what was built, not what was kept of it: that is the work.
#[derive(Debug, Clone)]
pub struct Budget(usize);

/// A text that would become too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "what its references stand for is too long: the variables, command and arguments of a container may come to {MAX_BYTES} bytes"
)]
pub struct TooLong;

impl Default for Budget {
    /// That of one container: [`MAX_BYTES`].
    fn default() -> Self {
        Self(MAX_BYTES)
    }
}

impl Budget {
    fn take(&mut self, bytes: usize) -> Result<(), TooLong> {
        self.0 = self.0.checked_sub(bytes).ok_or(TooLong)?;
        Ok(())
    }
}

/// Replaces each `$(NAME)` by what `value` gives; where it gives nothing the text stays. `$$` is a dollar sign.
/// Takes time in proportion to `text` and the result.
///
/// # Errors
/// The result would be longer than what is left of the budget.
pub fn expand<'a>(
    text: &str,
    budget: &mut Budget,
    value: impl Fn(&str) -> Option<Cow<'a, str>>,
) -> Result<String, TooLong> {
    // What stays of the text is paid for at once, so that only values are left to be counted.
    budget.take(text.len())?;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // The end of the text from its last bracket on: what is not longer closes nothing. Looked for once, and not for
    // each reference that is left open.
    let unclosed = text.rfind(')').map_or(usize::MAX, |at| text.len() - at);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let opened = rest.strip_prefix('(').filter(|rest| rest.len() >= unclosed);
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = opened.and_then(|rest| rest.split_once(')')) {
            match value(name) {
                Some(value) => {
                    budget.take(value.len())?;
                    out.push_str(&value);
                }
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expand<'a>(text: &str, value: impl Fn(&str) -> Option<Cow<'a, str>>) -> String {
        super::expand(text, &mut Budget::default(), value).unwrap()
    }

    #[test]
    fn what_is_built_is_bounded_whatever_is_kept_of_it() {
        let long = "x".repeat(MAX_BYTES / 4);
        let value = |name: &str| (name == "A").then_some(Cow::Borrowed(long.as_str()));
        assert_eq!(
            super::expand("$(A)$(A)$(A)", &mut Budget::default(), value).map(|t| t.len()),
            Ok(long.len() * 3)
        );
        assert_eq!(super::expand("$(A)$(A)$(A)$(A)", &mut Budget::default(), value), Err(TooLong));
        let mut budget = Budget::default();
        let built =
            std::iter::repeat_with(|| super::expand("$(A)", &mut budget, value)).take_while(Result::is_ok);
        assert_eq!(built.count(), 3);
        assert_eq!(super::expand(&"y".repeat(MAX_BYTES + 1), &mut Budget::default(), value), Err(TooLong));
    }

    /// With a search for each it would be hours.
    #[test]
    fn references_that_are_left_open_take_no_time() {
        let open = "$(".repeat(MAX_BYTES / 2);
        assert_eq!(expand(&open, |_| None), open);
        let closed_before = format!("$(A)){}", &open[..MAX_BYTES - 10]);
        assert_eq!(expand(&closed_before, |_| Some("a".into())), format!("a){}", &open[..MAX_BYTES - 10]));
    }

    #[test]
    fn references_are_expanded_as_the_kubelet_does() {
        let value = |name: &str| match name {
            "A" => Some(Cow::Borrowed("a")),
            "B" => Some(Cow::Borrowed("$(A)")),
            "" => Some(Cow::Borrowed("nothing")),
            _ => None,
        };
        for (text, want) in [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "a"),
            ("x$(A)y$(A)", "xaya"),
            ("$(B)", "$(A)"),
            ("$(NOPE)", "$(NOPE)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a"),
            ("$$$$(A)", "$$(A)"),
            ("$A $", "$A $"),
            ("$$", "$"),
            ("$(A", "$(A"),
            ("$(", "$("),
            ("$()", "nothing"),
            ("$(A))", "a)"),
            ("$($(A)", "$($(A)"),
            ("\u{e4}$\u{e4}$(A)", "\u{e4}$\u{e4}a"),
        ] {
            assert_eq!(expand(text, value), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn doubled_dollar_signs_give_back_the_text(text in any::<String>()) {
            let none = |_: &str| -> Option<Cow<'_, str>> { panic!("nothing is to be looked up") };
            prop_assert_eq!(expand(&text.replace('$', "$$"), none), text);
        }

        #[test]
        fn what_is_not_known_stays(text in "[$()A ]{0,20}") {
            let kept = expand(&text, |_| None);
            prop_assert_eq!(kept.replace('$', ""), text.replace('$', ""));
        }
    }
}
