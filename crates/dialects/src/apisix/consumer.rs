//! ApisixConsumer: who is known, and by what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use routing::model::{Credentials, KeySource, Secret, TokenPlace, TokenProvider, Tokens};
use serde_json::{Value, json};

use super::CONSUMER;
use super::instance::{self, Outcome};
use crate::diagnostic::Effect;
use crate::fields::{self, Fields};
use crate::foreign::{Object, Translation};
use crate::objects::{Name, Objects, Reader};
use crate::shared::authority;

/// What a consumer is known by.
enum Known {
    Basic {
        user: String,
        password: String,
    },
    Key(String),
    /// A symmetric key, and how tokens are signed with it.
    Token {
        secret: Vec<u8>,
        algorithm: String,
    },
}

/// As APISIX calls it.
fn name(object: &Object) -> Arc<str> {
    let name = format!("{}_{}", object.name.namespace, object.name.name);
    name.replace('-', "_").into()
}

/// The fields of a kind of credentials, from the object or its Secret. `known` are those that are
/// read; what else the object says is reported.
fn values(
    fields: &Fields<'_>,
    known: &[&str],
    namespace: &str,
    reader: &Reader<'_>,
) -> Option<BTreeMap<String, String>> {
    if let Some(secret) = fields.object("secretRef") {
        fields.unsupported(
            "value",
            "the Secret of secretRef is read, remove one of the two",
        );
        let name = Name::new(namespace, secret.text("name").unwrap_or_default());
        let Some(data) = reader.secret(&name) else {
            let message = format!("Secret {name} does not exist: the consumer is not known");
            let findings = secret.findings();
            findings.say(Effect::Waiting, "SecretMissing", secret.path(), message);
            return None;
        };
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        let values = data.iter().map(|(key, value)| (key.clone(), text(value)));
        return Some(values.collect());
    }
    let value = fields.object("value")?;
    value.unsupported(
        "exp",
        "tokens are not issued here, who signs one says how long it lives",
    );
    value.unsupported("lifetime_grace_period", "clocks must not differ");
    for key in ["public_key", "private_key"] {
        value.unsupported(key, "tokens are verified with secret alone");
    }
    let read = |key: &&str| Some(((*key).to_owned(), value.loose(key)?));
    Some(known.iter().filter_map(read).collect())
}

fn known(spec: &Fields<'_>, namespace: &str, reader: &Reader<'_>) -> Vec<Known> {
    let mut all = Vec::new();
    let Some(parameters) = spec.object("authParameter") else {
        let message = "authParameter is missing: the consumer is not known by anything";
        spec.refuse("authParameter", "FieldMissing", message);
        return all;
    };
    let missing = |key: &str, what: &str| {
        let message = format!("{what} is missing: the consumer is not known by it");
        parameters.refuse(key, "FieldMissing", message);
    };
    let read = |key: &str, known: &[&str]| {
        let fields = parameters.object(key)?;
        values(&fields, known, namespace, reader)
    };
    if let Some(mut basic) = read("basicAuth", &["username", "password"]) {
        match (basic.remove("username"), basic.remove("password")) {
            (Some(user), Some(password)) => all.push(Known::Basic { user, password }),
            _ => missing("basicAuth", "username or password"),
        }
    }
    if let Some(mut key) = read("keyAuth", &["key"]) {
        match key.remove("key") {
            Some(key) => all.push(Known::Key(key)),
            None => missing("keyAuth", "key"),
        }
    }
    let known = ["key", "algorithm", "secret", "base64_secret"];
    if let Some(jwt) = read("jwtAuth", &known) {
        match token(&jwt) {
            Ok(token) => all.push(token),
            Err(error) => parameters.refuse("jwtAuth", "KeyNotSupported", error),
        }
    }
    let remedy = "use keyAuth, basicAuth or jwtAuth";
    for key in ["hmacAuth", "ldapAuth", "wolfRBAC"] {
        parameters.unsupported(key, remedy);
    }
    all
}

fn token(jwt: &BTreeMap<String, String>) -> Result<Known, String> {
    let algorithm = jwt.get("algorithm").map_or("HS256", String::as_str);
    if !matches!(algorithm, "HS256" | "HS384" | "HS512") {
        return Err(format!(
            "algorithm {algorithm} is not supported; use HS256, HS384 or HS512 with secret"
        ));
    }
    let secret = jwt.get("secret").ok_or("secret is missing")?;
    let secret = if jwt.get("base64_secret").is_some_and(|flag| flag == "true") {
        authority::base64(secret).ok_or("secret is not base64")?
    } else {
        secret.clone().into_bytes()
    };
    Ok(Known::Token {
        secret,
        algorithm: algorithm.to_owned(),
    })
}

/// Every consumer, by name of its object.
fn all(reader: &Reader<'_>) -> Vec<(Arc<str>, Known)> {
    let mut all = Vec::new();
    for object in reader.foreign_all(&CONSUMER) {
        let namespace = &object.name.namespace;
        let known = fields::quietly(object.spec(), |spec| known(spec, namespace, reader));
        all.extend(known.into_iter().map(|known| (name(object), known)));
    }
    all
}

/// Without any consumer nobody passes.
pub(super) fn basic(reader: &Reader<'_>, forward: bool) -> Credentials {
    let users = all(reader)
        .into_iter()
        .filter_map(|(_, known)| match known {
            Known::Basic { user, password } => {
                let secret = Secret(format!("{{PLAIN}}{password}").into());
                Some((Arc::from(user), secret))
            }
            Known::Key(_) | Known::Token { .. } => None,
        });
    Credentials::Basic {
        realm: "basic".into(),
        users: users.collect(),
        user_header: None,
        forward,
    }
}

/// The same with keys.
pub(super) fn key(reader: &Reader<'_>, places: Vec<TokenPlace>, forward: bool) -> Credentials {
    let keys = all(reader)
        .into_iter()
        .filter_map(|(name, known)| match known {
            Known::Key(key) => Some((name, Secret(key.into()))),
            Known::Basic { .. } | Known::Token { .. } => None,
        });
    Credentials::Key {
        places,
        keys: keys.collect(),
        consumer_header: Some("x-consumer-username".into()),
        forward,
    }
}

/// The same with tokens: one set of all keys, so that whoever signed with one of them passes.
pub(super) fn tokens(reader: &Reader<'_>, from: Vec<TokenPlace>, forward: bool) -> Tokens {
    let keys = all(reader)
        .into_iter()
        .filter_map(|(_, known)| match known {
            Known::Token { secret, algorithm } => Some(json!({
                "kty": "oct", "use": "sig", "alg": algorithm, "k": base64url(&secret),
            })),
            Known::Basic { .. } | Known::Key(_) => None,
        });
    let set = json!({"keys": keys.collect::<Vec<Value>>()});
    Tokens {
        providers: vec![TokenProvider {
            issuer: None,
            audiences: Vec::new(),
            keys: KeySource::Inline(set.to_string().into()),
            from,
            forward,
            claims_to_headers: Vec::new(),
            payload_header: None,
            leeway: Duration::ZERO,
        }],
        required: true,
    }
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..=chunk.len() {
            let index = bits >> (18 - 6 * digit) & 63;
            out.push(char::from(DIGITS[index as usize]));
        }
    }
    out
}

pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, reader, _| {
        let known = known(spec, &object.name.namespace, reader);
        spec.unsupported("plugins", "name plugins in the rules of routes");
        if known.is_empty() {
            Outcome::Refused
        } else {
            Outcome::Served
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_in_base64url_without_padding() {
        assert_eq!(base64url(b""), "");
        assert_eq!(base64url(b"a"), "YQ");
        assert_eq!(base64url(b"ab"), "YWI");
        assert_eq!(base64url(&[0xfb, 0xff, 0xfe]), "-__-");
    }
}
