//! Waiting for a condition with a deadline, and being interrupted while waiting.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Error;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes every wait of this process end with [`Error::Interrupted`]; for signal handlers.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether [`interrupt`] was called.
#[must_use]
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Looks every 20 ms until `look` returns a value; its `Err` says why the condition does not hold yet.
///
/// # Errors
/// [`Error::Timeout`] with the last reason when `limit` has passed, [`Error::Interrupted`] after [`interrupt`].
pub fn until<T>(what: &str, limit: Duration, look: impl FnMut() -> Result<T, String>) -> Result<T, Error> {
    until_every(Duration::from_millis(20), what, limit, look)
}

/// As [`until`], with this pause between two looks, where a look costs what is being measured.
///
/// # Errors
/// As [`until`].
pub fn until_every<T>(
    pause: Duration,
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, Error> {
    let deadline = Instant::now() + limit;
    loop {
        if interrupted() {
            return Err(Error::Interrupted);
        }
        match look() {
            Ok(value) => return Ok(value),
            Err(last) if Instant::now() >= deadline => {
                return Err(Error::Timeout { what: what.to_owned(), limit, last });
            }
            Err(_) => std::thread::sleep(pause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_never_holds_is_a_timeout_that_names_the_last_reason() {
        let mut looks = 0;
        let error = until("the moon is blue", Duration::from_millis(50), || {
            looks += 1;
            Err::<(), _>(format!("look {looks}: it is grey"))
        })
        .unwrap_err()
        .to_string();
        assert!(looks > 1);
        assert!(error.contains("the moon is blue"), "{error}");
        assert!(error.contains(&format!("look {looks}: it is grey")), "{error}");
    }

    #[test]
    fn a_condition_is_looked_at_once_even_with_no_time_left() {
        assert_eq!(until("now", Duration::ZERO, || Ok(7)).unwrap(), 7);
    }
}
