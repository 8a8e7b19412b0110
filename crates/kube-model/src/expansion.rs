//! `$(NAME)` in commands, arguments and variables.
//! Rule: reference 4.5; upstream `third_party/forked/golang/expansion`.

use std::borrow::Cow;

/// Replaces each `$(NAME)` by what `value` gives; where it gives nothing the text stays. `$$` is a dollar sign.
pub fn expand<'a>(text: &str, value: impl Fn(&str) -> Option<Cow<'a, str>>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match value(name) {
                Some(value) => out.push_str(&value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
