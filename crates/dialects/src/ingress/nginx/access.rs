//! Who may pass: lists of addresses, and users with passwords. What cannot be read closes the paths.

use std::sync::Arc;

use routing::model::{
    AccessRule, Authorization, Credentials, Network, Predicate, Secret, Subject, Test,
};

use super::{Annotations, NGINX, words};
use crate::diagnostic::{Diagnostic, Effect};
use crate::objects::{Name, Reader};

impl<'a> Annotations<'a> {
    /// Who may come, by address.
    pub(super) fn networks(&mut self) -> Option<Arc<Authorization>> {
        // An empty list is none, as there. Both names are in use; the newer one counts.
        let mut list = |short: &str| self.take(short).filter(|(_, value)| !value.is_empty());
        let old = list("whitelist-source-range");
        let allow = list("allowlist-source-range").or(old);
        let deny = list("denylist-source-range");
        if allow.is_none() && deny.is_none() {
            return None;
        }
        let policy: Arc<str> = self.name.to_string().into();
        let mut rule = |wanted: Option<(&'a str, &'a str)>| {
            let (key, value) = wanted?;
            let (known, bad): (Vec<_>, Vec<_>) = words(value)
                .map(|word| Network::parse(word).ok_or(word))
                .partition(Result::is_ok);
            if let Some(Err(word)) = bad.first() {
                self.close(key, &format!("{word:?} is no network"));
            }
            let networks: Vec<_> = known.into_iter().flatten().collect();
            Some(AccessRule {
                policy: Arc::clone(&policy),
                all: vec![vec![vec![Predicate {
                    subject: Subject::Client,
                    test: Test::Network(networks.into()),
                    negate: false,
                    missing_is_empty: false,
                }]]],
            })
        };
        Some(Arc::new(Authorization {
            allow: rule(allow).map(|rule| vec![rule]),
            deny: rule(deny).into_iter().collect(),
            ..Authorization::default()
        }))
    }

    /// `auth-type: basic` with the Secret that `htpasswd` wrote.
    pub(super) fn basic(&mut self, reader: &Reader<'_>) -> Option<Arc<Credentials>> {
        let (_, kind) = *self.left.get("auth-type")?;
        if kind != "basic" {
            return None;
        }
        self.take("auth-type");
        let realm = self.text("auth-realm").unwrap_or_default();
        let by_user = self.text("auth-secret-type") == Some("auth-map");
        let Some((key, secret)) = self.take("auth-secret") else {
            let key = format!("{NGINX}auth-type");
            self.close(&key, "no Secret is named in auth-secret");
            return None;
        };
        let own = Arc::clone(&self.name.namespace);
        let (namespace, secret) = secret.split_once('/').unwrap_or((&own, secret));
        if *namespace != *own {
            self.close(key, "the Secret must be in the Ingress's own namespace");
            return None;
        }
        let name = Name::new(namespace, secret);
        let Some(data) = reader.secret(&name) else {
            self.closed = true;
            let message = format!(
                "Secret {name} does not exist; its paths answer 503. Create it with `kubectl \
                 create secret generic {secret} --from-file=auth`, of a file of htpasswd"
            );
            let field = format!("metadata.annotations[{key}]");
            let missing = Diagnostic::new(Effect::Waiting, "SecretMissing", &field, message);
            self.found.push(missing);
            return None;
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let mut users = Vec::new();
        if by_user {
            users.extend(data.iter().map(|(user, hash)| (user.clone(), text(hash))));
        } else if let Some(file) = data.get("auth") {
            let file = text(file);
            let lines = file.lines().filter_map(|line| line.trim().split_once(':'));
            users.extend(lines.map(|(user, hash)| (user.to_owned(), hash.to_owned())));
        } else {
            self.close(key, "the Secret has no key auth with a file of htpasswd");
            return None;
        }
        Some(Arc::new(Credentials::Basic {
            realm: realm.into(),
            users: users
                .into_iter()
                .map(|(user, hash)| (user.into(), Secret(hash.into())))
                .collect(),
            user_header: None,
            forward: true,
        }))
    }
}
