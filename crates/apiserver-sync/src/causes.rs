//! An error with its causes in one line.

use std::error::Error;
use std::iter::successors;

/// `error` and what caused it, without what was said already: many errors repeat their source.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    successors(error.source(), |cause| (*cause).source()).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}
