//! Session persistence: requests of one client that keep to one endpoint.
//!
//! What a rule says about it is written into the name of its backends' variant, because backends
//! are translated apart from routes; what an XBackendTrafficPolicy says is looked up there.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use api::gateway::v1::SessionPersistence;
use routing::model::{BackendPolicy, HashKey, Session, SessionPlace};

use crate::foreign::BackendSpec;
use crate::objects::Name;

/// What a session is called if nobody says; a hash of where it was written follows.
const NAME: &str = "suimon-session";
/// Set apart the parts of a session in a variant; no name of a cookie or header has it.
const BETWEEN: char = ',';

/// What a session is, in both shapes that the API has had. `written_at` tells it apart from others
/// if it has no name.
///
/// # Errors
/// Which field is wrong, and why.
pub(super) fn translate(
    persistence: &SessionPersistence,
    written_at: (&Name, &str),
) -> Result<Session, String> {
    let timeout = persistence.absolute_timeout.as_deref();
    let lifetime = timeout.map(|text| {
        api::duration::parse(text).map_err(|error| format!("absoluteTimeout: {error}"))
    });
    let lifetime = lifetime.transpose()?.filter(|it| !it.is_zero());
    let default = || {
        let at = format!("{} {}", written_at.0, written_at.1);
        format!("{NAME}-{:08x}", fingerprint(&at))
    };
    let (cookie, header) = (&persistence.cookie, &persistence.header);
    let named = persistence.session_name.clone();
    let place = match persistence.type_.as_str() {
        "Header" => {
            let name = header.as_ref().map(|header| header.name.clone()).or(named);
            SessionPlace::Header(
                token(&name.unwrap_or_else(default))?
                    .to_ascii_lowercase()
                    .into(),
            )
        }
        "Cookie" => {
            let name = cookie.as_ref().and_then(|cookie| cookie.name.clone());
            let path = cookie.as_ref().and_then(|cookie| cookie.path.clone());
            let lives = match (cookie, &persistence.cookie_config) {
                (Some(cookie), _) => Some(&cookie.lifetime_type),
                (None, Some(config)) => Some(&config.lifetime_type),
                (None, None) => None,
            };
            SessionPlace::Cookie {
                name: token(&name.or(named).unwrap_or_else(default))?.into(),
                path: path_of(path.as_deref().unwrap_or("/"))?.into(),
                is_permanent: lives.is_some_and(|lives| lives == "Permanent"),
                attributes: lax(),
            }
        }
        other => return Err(format!("type {other:?} is not supported")),
    };
    Ok(Session { place, lifetime })
}

/// What every cookie of a session says besides.
fn lax() -> Vec<(Arc<str>, Arc<str>)> {
    vec![("SameSite".into(), "Lax".into())]
}

/// A session as a part of a variant's name.
pub(super) fn name(session: &Session) -> String {
    let mut text = match &session.place {
        SessionPlace::Header(name) => format!("header{BETWEEN}{name}"),
        SessionPlace::Cookie {
            name,
            path,
            is_permanent,
            attributes: _,
        } => {
            let kind = if *is_permanent { "permanent" } else { "cookie" };
            format!("{kind}{BETWEEN}{name}{BETWEEN}{path}")
        }
    };
    if let Some(lifetime) = session.lifetime {
        let written = write!(text, "{BETWEEN}{}", lifetime.as_millis());
        debug_assert!(written.is_ok());
    }
    text
}

/// The session of such a part.
pub(super) fn named(text: &str) -> Option<Session> {
    let mut parts = text.split(BETWEEN);
    let place = match parts.next()? {
        "header" => SessionPlace::Header(parts.next()?.into()),
        kind => SessionPlace::Cookie {
            name: parts.next()?.into(),
            path: parts.next()?.into(),
            is_permanent: kind == "permanent",
            attributes: lax(),
        },
    };
    let lifetime = parts.next().and_then(|text| text.parse().ok());
    Some(Session {
        place,
        lifetime: lifetime.map(Duration::from_millis),
    })
}

/// Puts a session on a backend, in place of the one that it has.
pub(super) fn apply(session: Session, spec: &mut BackendSpec) {
    let mut policy: BackendPolicy = spec.policy.as_deref().cloned().unwrap_or_default();
    policy
        .hash
        .retain(|key| !matches!(key, HashKey::Session(_)));
    policy.hash.insert(0, HashKey::Session(session));
    spec.policy = Some(Arc::new(policy));
}

/// A name as cookies and headers may have one.
fn token(text: &str) -> Result<&str, String> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_fine) {
        Ok(text)
    } else {
        Err(format!("{text:?} is no name of a cookie or header"))
    }
}

fn path_of(text: &str) -> Result<&str, String> {
    let is_fine = |byte: u8| byte.is_ascii_graphic() && !b";,&>".contains(&byte);
    if text.starts_with('/') && text.bytes().all(is_fine) {
        Ok(text)
    } else {
        Err(format!("cookie.path: {text:?} is no path"))
    }
}

/// FNV-1a, 32 bits.
fn fingerprint(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn session(value: Value) -> Result<Session, String> {
        let persistence = serde_json::from_value(value).expect("session persistence");
        translate(&persistence, (&Name::new("n", "r"), "rules[0]"))
    }

    #[test]
    fn both_shapes_say_the_same() {
        let old = session(json!({
            "sessionName": "s", "absoluteTimeout": "1h",
            "cookieConfig": {"lifetimeType": "Permanent"},
        }));
        let new = session(json!({
            "absoluteTimeout": "1h",
            "cookie": {"name": "s", "path": "/", "lifetimeType": "Permanent"},
        }));
        assert_eq!(old, new);
        let old = session(json!({"type": "Header", "sessionName": "X-S"}));
        let new = session(json!({"type": "Header", "header": {"name": "x-s"}}));
        assert_eq!(old, new);
    }

    #[test]
    fn a_session_survives_the_name_of_its_variant() {
        for value in [
            json!({}),
            json!({"sessionName": "s|t", "absoluteTimeout": "90s"}),
            json!({"type": "Header", "sessionName": "x-s"}),
            json!({"cookie": {"name": "s", "path": "/shop", "lifetimeType": "Permanent"}}),
        ] {
            let session = session(value).expect("a session");
            assert_eq!(named(&name(&session)), Some(session));
        }
    }

    #[test]
    fn names_that_would_break_a_field_are_refused() {
        for value in [
            json!({"sessionName": "a;b"}),
            json!({"sessionName": "a,b"}),
            json!({"type": "Header", "sessionName": "a b"}),
            json!({"cookie": {"path": "x"}}),
            json!({"cookie": {"path": "/x;y"}}),
            json!({"absoluteTimeout": "soon"}),
        ] {
            assert!(session(value.clone()).is_err(), "{value}");
        }
    }
}
