//! Where key sets come from: the policy itself, or a server that is asked now and then. All
//! threads share what came.
//!
//! One request fetches while the others use what there is, or wait for it if there is nothing
//! yet. What failed is not asked again at once.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use routing::model::KeySource;

use super::keys::{Digest, KeySet, Signed};
use super::{Denied, Verified, fetch};
use crate::worker::Worker;

/// How long a source that failed is left alone.
const PAUSE: Duration = Duration::from_secs(1);
/// A token with an unknown key makes us look for it, but not more often than this.
const ROTATION: Duration = Duration::from_secs(10);

/// A source and what came of it.
#[derive(Debug)]
pub(in crate::guard) struct KeyState {
    source: KeySource,
    held: Mutex<Fetched>,
    /// Whoever holds it fetches.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Fetched {
    keys: Option<Arc<KeySet>>,
    /// When a fetch ended last, well or not.
    at: Option<Duration>,
    /// When one ended well.
    good_at: Option<Duration>,
}

impl KeyState {
    pub(in crate::guard) fn new(source: &KeySource) -> Self {
        let mut held = Fetched::default();
        if let KeySource::Inline(text) = source {
            held.keys = Some(Arc::new(
                KeySet::read(text.as_bytes(), true).unwrap_or_else(KeySet::empty),
            ));
        }
        Self {
            source: source.clone(),
            held: Mutex::new(held),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Fetched) -> T) -> T {
        look(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a token says that the keys here have verified lately; nothing if they are due.
    pub(in crate::guard) fn recall(&self, digest: &Digest, now: Duration) -> Option<Arc<Verified>> {
        let keys = self.with(|held| {
            let is_due = match &self.source {
                KeySource::Inline(_) => false,
                KeySource::Remote { refresh, .. } => held
                    .good_at
                    .is_none_or(|at| now.saturating_sub(at) >= *refresh),
            };
            held.keys.clone().filter(|_| !is_due)
        });
        keys?.recall(digest)
    }

    /// The keys that are here, and whether they should be fetched now.
    fn look(
        &self,
        signed: &Signed<'_>,
        refresh: Duration,
        now: Duration,
    ) -> (Option<Arc<KeySet>>, bool) {
        self.with(|held| {
            let since = |at: Option<Duration>| at.map(|at| now.saturating_sub(at));
            let is_paused = since(held.at).is_some_and(|since| since < PAUSE);
            let is_old = since(held.good_at).is_none_or(|since| since >= refresh);
            let is_known = held.keys.as_ref().is_some_and(|keys| keys.knows(signed));
            let may_rotate = since(held.at).is_none_or(|since| since >= ROTATION);
            let wants = is_old || !is_known && may_rotate;
            (held.keys.clone(), wants && !is_paused)
        })
    }
}

/// The keys of a source. Waits only if there are none that could be the token's.
pub(super) async fn get(
    worker: &Rc<Worker>,
    state: &KeyState,
    signed: &Signed<'_>,
) -> Result<Arc<KeySet>, Denied> {
    let KeySource::Remote {
        uri,
        timeout,
        refresh,
    } = &state.source
    else {
        return state.with(|held| held.keys.clone()).ok_or(Denied::NoKeys);
    };
    let (keys, wants) = state.look(signed, *refresh, worker.guards.now());
    if !wants {
        return keys.ok_or(Denied::Fetch);
    }
    let place = match &keys {
        // Somebody is at it already, and these will do.
        Some(keys) if keys.knows(signed) => match state.fetching.try_lock() {
            Ok(place) => place,
            Err(_) => return Ok(Arc::clone(keys)),
        },
        _ => state.fetching.lock().await,
    };
    let (keys, still_wants) = state.look(signed, *refresh, worker.guards.now());
    if !still_wants {
        return keys.ok_or(Denied::Fetch);
    }
    let fetched = tokio::time::timeout(*timeout, fetch::get(worker, uri)).await;
    let read = match fetched {
        Ok(Ok(body)) => KeySet::read(&body, false).ok_or_else(|| "it is no key set".to_owned()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err("no answer in time".to_owned()),
    };
    let now = worker.guards.now();
    let keys = state.with(|held| {
        held.at = Some(now);
        match read {
            Ok(keys) => {
                held.good_at = Some(now);
                held.keys = Some(Arc::new(keys));
            }
            Err(error) => {
                worker.counters.key_fetch_failures.add(1);
                tracing::warn!(%uri, error, "cannot fetch keys for tokens");
            }
        }
        held.keys.clone()
    });
    drop(place);
    keys.ok_or(Denied::Fetch)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::keys;
    use super::*;

    fn remote(refresh: Duration) -> KeySource {
        KeySource::Remote {
            uri: "http://keys.example/jwks".into(),
            timeout: Duration::from_secs(1),
            refresh,
        }
    }

    fn some_keys() -> Arc<KeySet> {
        let key = json!({ "keys": [{ "kty": "oct", "k": "c2VjcmV0" }] }).to_string();
        Arc::new(KeySet::read(key.as_bytes(), true).expect("a set"))
    }

    #[test]
    fn what_a_token_says_is_remembered_until_the_keys_are_due_or_others_have_come() {
        let state = KeyState::new(&remote(Duration::from_secs(60)));
        let text = "a.b.c";
        let digest = keys::digest(text);
        let said = Arc::new(Verified::new(json!({ "iss": "me", "sub": "you" })));
        let seconds = Duration::from_secs;
        let (first, second) = (some_keys(), some_keys());
        first.keep(&digest, text, &said);
        state.with(|held| {
            held.good_at = Some(seconds(10));
            held.keys = Some(first);
        });
        let principal = |at| state.recall(&digest, seconds(at))?.principal.clone();
        assert_eq!(principal(69).as_deref(), Some("me/you"));
        assert_eq!(principal(70), None, "the keys have to be fetched again");
        assert!(state.recall(&keys::digest("a.b.d"), seconds(11)).is_none());
        state.with(|held| held.keys = Some(second));
        assert_eq!(principal(11), None, "other keys have verified it");
    }

    #[test]
    fn what_a_long_token_says_is_not_kept() {
        let keys = some_keys();
        let text = "x".repeat(5000);
        let digest = keys::digest(&text);
        let said = Arc::new(Verified::new(json!({})));
        keys.keep(&digest, &text, &said);
        assert!(keys.recall(&digest).is_none());
    }
}
