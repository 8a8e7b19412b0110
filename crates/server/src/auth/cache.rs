//! Answers that hold for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A bounded map whose entries expire.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    entries: Mutex<HashMap<K, (Instant, V)>>,
    most: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { entries: Mutex::default(), most }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        let (until, value) = self.lock().get(key).cloned()?;
        (Instant::now() < until).then_some(value)
    }

    /// Keeps `value` for `ttl`. When there is no room, what is expired goes, else what would expire next.
    pub(super) fn put(&self, key: K, value: V, ttl: Duration) {
        if ttl.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut entries = self.lock();
        if entries.len() >= self.most {
            entries.retain(|_, (until, _)| now < *until);
        }
        if entries.len() >= self.most {
            let next = entries.iter().min_by_key(|(_, (until, _))| *until).map(|(key, _)| key.clone());
            next.and_then(|next| entries.remove(&next));
        }
        entries.insert(key, (now + ttl, value));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, (Instant, V)>> {
        // A panic cannot leave a map half changed.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_forgotten_after_its_time() {
        let cache = Cache::new(10);
        cache.put("a", 1, Duration::from_secs(30));
        tokio::time::advance(Duration::from_secs(29)).await;
        assert_eq!(cache.get(&"a"), Some(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(cache.get(&"a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_cache_gives_up_what_would_expire_next() {
        let cache = Cache::new(2);
        cache.put("long", 1, Duration::from_secs(60));
        cache.put("short", 2, Duration::from_secs(5));
        cache.put("new", 3, Duration::from_secs(30));
        assert_eq!((cache.get(&"long"), cache.get(&"short"), cache.get(&"new")), (Some(1), None, Some(3)));
    }
}
