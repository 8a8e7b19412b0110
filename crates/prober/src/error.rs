//! Errors as one line, for events: users read and search them, so they are worded as the kubelet words them
//! where that costs nothing.

use std::error::Error;
use std::io;

/// The error and its sources, joined by `: `.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    util::causes_with(error, one)
}

/// Go prints system errors without their number and in lower case: `connection refused`.
fn one(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) else { return text };
    let plain = text.strip_suffix(&format!(" (os error {code})")).unwrap_or(&text);
    let mut letters = plain.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("dial tcp 10.0.0.1:80")]
    struct Outer(#[source] io::Error);

    #[test]
    fn system_errors_read_as_in_go() {
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(chain(&Outer(refused)), "dial tcp 10.0.0.1:80: connection refused");
    }

    #[test]
    fn other_errors_keep_their_words() {
        assert_eq!(
            chain(&Outer(io::Error::other("Odd (os error 5)"))),
            "dial tcp 10.0.0.1:80: Odd (os error 5)"
        );
    }
}
