//! Basic and key authentication.
//!
//! Hashes that are slow on purpose are computed on other threads, few at a time, and a login that
//! was good once is known by a keyed digest from then on.

mod hash;

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use policy::Keyed;
use routing::model::{Credentials, Secret, TokenPlace};
use tokio::sync::Semaphore;

use super::{Held, Kind, Passage, Refusal, token};
use crate::seen::Seen;
use crate::worker::Worker;

/// Logins that are remembered.
const MOST_LOGINS: usize = 10_000;
/// Slow hashes at once.
const MOST_SLOW: usize = 2;
/// A longer password is refused; bcrypt looks at 72 bytes.
const LONGEST: usize = 512;

/// Logins that were good, by digest.
#[derive(Debug)]
pub(super) struct Logins {
    known: Mutex<Keyed<[u8; 32], ()>>,
    /// `None` if the machine has no randomness: then nothing is remembered.
    key: Option<hmac::Key>,
    slow: Arc<Semaphore>,
}

impl Default for Logins {
    fn default() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Self {
            known: Mutex::new(Keyed::new(MOST_LOGINS)),
            key: key.ok(),
            slow: Arc::new(Semaphore::new(MOST_SLOW)),
        }
    }
}

impl Logins {
    fn digest(&self, parts: [&str; 3]) -> Option<[u8; 32]> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        for part in parts {
            context.update(&part.len().to_le_bytes());
            context.update(part.as_bytes());
        }
        context.sign().as_ref().try_into().ok()
    }

    fn knows(&self, digest: &[u8; 32]) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(digest).is_some()
    }

    fn learn(&self, digest: [u8; 32]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(&digest, || ());
    }
}

/// What a request shows.
pub(super) enum Shown {
    Nothing,
    Login { user: String, password: String },
    Key { key: String, place: TokenPlace },
}

/// Looks for what the credentials ask for.
pub(super) fn find(credentials: &Credentials, seen: &Seen<'_>) -> Shown {
    match credentials {
        Credentials::Basic { .. } => login(seen).unwrap_or(Shown::Nothing),
        Credentials::Key { places, .. } => {
            let mut found = places.iter().filter_map(|place| {
                let key = token::at_place(place, seen)?;
                let place = place.clone();
                Some(Shown::Key { key, place })
            });
            found.next().unwrap_or(Shown::Nothing)
        }
    }
}

fn login(seen: &Seen<'_>) -> Option<Shown> {
    let place = TokenPlace::Header {
        name: "authorization".into(),
        prefix: "Basic ".into(),
    };
    let decoded = STANDARD.decode(token::at_place(&place, seen)?).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(Shown::Login {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

/// Who it is, and what of it the backend sees.
pub(super) struct Admitted<'a> {
    header: Option<&'a Arc<str>>,
    name: Arc<str>,
    /// What is kept from the backend.
    hidden: Option<TokenPlace>,
}

/// Compares what was shown with what is known.
pub(super) async fn check<'a>(
    worker: &Rc<Worker>,
    credentials: &'a Credentials,
    shown: Shown,
) -> Result<Admitted<'a>, Held> {
    match credentials {
        Credentials::Basic {
            realm,
            users,
            user_header,
            forward,
        } => {
            let name = user(worker, realm, users, shown).await?;
            Ok(Admitted {
                header: user_header.as_ref(),
                name: Arc::clone(name),
                hidden: (!forward).then(|| TokenPlace::Header {
                    name: "authorization".into(),
                    prefix: "".into(),
                }),
            })
        }
        Credentials::Key {
            keys,
            consumer_header,
            forward,
            ..
        } => {
            let refused = || Refusal::new(Kind::Credential, 401, "Client authentication failed.");
            let Shown::Key { key, place } = shown else {
                return Err(refused().into());
            };
            Ok(Admitted {
                header: consumer_header.as_ref(),
                name: Arc::clone(consumer(keys, &key).ok_or_else(refused)?),
                hidden: (!forward).then_some(place),
            })
        }
    }
}

/// Whose login it is.
async fn user<'a>(
    worker: &Rc<Worker>,
    realm: &str,
    users: &'a [(Arc<str>, Secret)],
    shown: Shown,
) -> Result<&'a Arc<str>, Held> {
    let refused = |why: &str| {
        let text = format!("User authentication failed. {why}");
        let challenge = format!("Basic realm=\"{}\"", realm.replace(['"', '\\'], ""));
        let refusal = Refusal::new(Kind::Credential, 401, &text);
        Held::from(refusal.header("www-authenticate", challenge))
    };
    let Shown::Login { user, password } = shown else {
        return Err(refused("Missing username and password."));
    };
    let own = users.iter().find(|(name, _)| **name == *user);
    // An unknown name costs as much as a known one: nobody learns which there are.
    let Some((name, hash)) = own.or_else(|| users.first()) else {
        return Err(refused("Invalid username/password combination."));
    };
    let is_good = verify(worker, name, &hash.0, password).await;
    if !is_good || own.is_none() {
        return Err(refused("Invalid username/password combination."));
    }
    Ok(name)
}

/// Whose key it is. All are compared, so that time tells nothing.
fn consumer<'a>(keys: &'a [(Arc<str>, Secret)], key: &str) -> Option<&'a Arc<str>> {
    let mut own = None;
    for (consumer, known) in keys {
        if verify_slices_are_equal(known.0.as_bytes(), key.as_bytes()).is_ok() {
            own = Some(consumer);
        }
    }
    own
}

async fn verify(worker: &Rc<Worker>, name: &str, hash: &Arc<str>, password: String) -> bool {
    if password.len() > LONGEST {
        return false;
    }
    if !hash::is_slow(hash) {
        return hash::verify(hash, &password);
    }
    let logins = &worker.guards.logins;
    let digest = logins.digest([name, hash, &password]);
    if digest.is_some_and(|digest| logins.knows(&digest)) {
        return true;
    }
    let Ok(place) = Arc::clone(&logins.slow).acquire_owned().await else {
        return false;
    };
    let hash = Arc::clone(hash);
    let verifying = tokio::task::spawn_blocking(move || {
        let is_good = hash::verify(&hash, &password);
        drop(place);
        is_good
    });
    let is_good = verifying.await.unwrap_or(false);
    if let Some(digest) = digest.filter(|_| is_good) {
        logins.learn(digest);
    }
    is_good
}

impl Admitted<'_> {
    /// Tells the backend, and nobody else may have told it.
    pub(super) fn apply(self, passage: &mut Passage) {
        if let Some(header) = self.header {
            passage.set(Arc::clone(header), self.name);
        }
        if let Some(place) = self.hidden {
            token::hide(&place, passage);
        }
    }
}
