//! How many requests there were, by method and outcome.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode};

/// Requests of one method with one outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// As `PATCH`.
    pub method: Method,
    /// The answer's code; `None` where there was no answer.
    pub code: Option<StatusCode>,
    /// How many.
    pub count: u64,
}

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Requests(Mutex<HashMap<(Method, Option<StatusCode>), u64>>);

impl Requests {
    pub(super) fn count(&self, method: Method, code: Option<StatusCode>) {
        *self.lock().entry((method, code)).or_default() += 1;
    }

    /// In the order of methods and codes.
    pub(super) fn counted(&self) -> Vec<Counted> {
        let counts = self.lock();
        let mut all: Vec<Counted> = counts
            .iter()
            .map(|((method, code), &count)| Counted { method: method.clone(), code: *code, count })
            .collect();
        drop(counts);
        all.sort_by(|a, b| (a.method.as_str(), a.code).cmp(&(b.method.as_str(), b.code)));
        all
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Method, Option<StatusCode>), u64>> {
        // A count more or less is all that a panic could have left.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
