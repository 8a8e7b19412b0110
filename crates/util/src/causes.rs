//! An error in one line.

use std::error::Error;
use std::iter::successors;

/// `error` and what caused it: `starting pod: calling the runtime: connection refused`. What was said already is not
/// said again: many errors repeat their source.
pub fn causes(error: &dyn Error) -> String {
    append(error.to_string(), error.source(), &|cause| cause.to_string())
}

/// The same with each error in the words that `word` has for it; the empty text for one that says nothing.
pub fn causes_with(error: &(dyn Error + 'static), word: impl Fn(&(dyn Error + 'static)) -> String) -> String {
    append(word(error), error.source(), &word)
}

fn append(
    first: String,
    source: Option<&(dyn Error + 'static)>,
    word: &dyn Fn(&(dyn Error + 'static)) -> String,
) -> String {
    successors(source, |cause| (*cause).source()).fold(first, |text, cause| {
        let cause = word(cause);
        match text.is_empty() {
            true => cause,
            false if text.contains(&cause) => text,
            false => format!("{text}: {cause}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    /// A text, and the error that caused it.
    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let (first, rest) = texts.split_first().unwrap();
        Layer(first, (!rest.is_empty()).then(|| Box::new(layers(rest))))
    }

    #[test]
    fn each_cause_is_told_once() {
        for (texts, want) in [
            (&["a"][..], "a"),
            (&["starting", "calling", "refused"], "starting: calling: refused"),
            (&["starting: refused", "refused"], "starting: refused"),
            (&["starting", "", "refused"], "starting: refused"),
            (&["", "refused"], "refused"),
        ] {
            assert_eq!(causes(&layers(texts)), want, "{texts:?}");
        }
    }

    #[test]
    fn whoever_knows_better_words_has_them() {
        let word = |error: &(dyn Error + 'static)| match error.to_string().as_str() {
            "transport error" => String::new(),
            text => text.to_uppercase(),
        };
        let error = layers(&["transport error", "calling", "transport error", "refused"]);
        assert_eq!(causes_with(&error, word), "CALLING: REFUSED");
    }
}
