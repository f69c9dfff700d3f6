//! Requests that keep to an endpoint: by a cookie that the gateway sets, or by a part of them.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{BackendPolicy, Balancer, HashKey, Session, SessionPlace};

use super::Annotations;
use crate::foreign::BackendSpec;
use crate::shared::headers;

/// What a cookie is called if nobody says.
const NAME: &str = "INGRESSCOOKIE";

/// `affinity: cookie`.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::ingress) struct Affinity {
    name: Arc<str>,
    /// `None` is that of the Ingress's path.
    path: Option<Arc<str>>,
    lifetime: Option<Duration>,
    attributes: Vec<(Arc<str>, Arc<str>)>,
}

impl Affinity {
    /// For a path as the Ingress writes it.
    fn at(&self, path: &str) -> Session {
        // An expression is no path that a browser would compare with.
        let is_plain = path.starts_with('/')
            && path
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%!$&'@:+=".contains(&byte));
        let own = || if is_plain { path.into() } else { "/".into() };
        Session {
            place: SessionPlace::Cookie {
                name: Arc::clone(&self.name),
                path: self.path.clone().unwrap_or_else(own),
                is_permanent: true,
                attributes: self.attributes.clone(),
            },
            lifetime: self.lifetime,
        }
    }
}

/// What keeps requests to an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::ingress) enum Keeps {
    /// A part of them.
    By(HashKey),
    Cookie(Affinity),
}

impl Keeps {
    /// For a path as the Ingress writes it.
    pub(in crate::ingress) fn at(&self, path: &str) -> HashKey {
        match self {
            Self::By(key) => key.clone(),
            Self::Cookie(affinity) => HashKey::Session(affinity.at(path)),
        }
    }
}

/// Puts on a backend what keeps requests to its endpoints.
pub(in crate::ingress) fn keep(key: HashKey, spec: &mut BackendSpec) {
    let mut policy: BackendPolicy = spec.policy.as_deref().cloned().unwrap_or_default();
    if !matches!(key, HashKey::Session(_)) {
        // As many points as NGINX has for one server.
        policy.balancer = Balancer::RingHash {
            min: 1024,
            max: 8_388_608,
        };
        policy.hash.clear();
    }
    policy
        .hash
        .retain(|key| !matches!(key, HashKey::Session(_)));
    policy.hash.insert(0, key);
    spec.policy = Some(Arc::new(policy));
}

impl Annotations<'_> {
    /// As there, `upstream-hash-by` counts before a cookie.
    pub(super) fn keeps(&mut self) -> Option<Keeps> {
        let cookie = self.affinity().map(Keeps::Cookie);
        self.hash_by().map(Keeps::By).or(cookie)
    }

    fn affinity(&mut self) -> Option<Affinity> {
        let (key, kind) = self.take("affinity").filter(|(_, it)| !it.is_empty())?;
        if kind != "cookie" {
            self.refuse(key, &format!("{kind:?} is not cookie; it changes nothing"));
            return None;
        }
        // Sessions stay where they are however many endpoints there are, which is what persistent
        // asks for and balanced allows.
        if let Some((key, mode)) = self.take("affinity-mode")
            && !matches!(mode, "" | "balanced" | "persistent")
        {
            self.refuse(key, &format!("{mode:?} is neither balanced nor persistent"));
        }
        if self.flag("session-cookie-change-on-failure") == Some(false) {
            let key = format!("{}session-cookie-change-on-failure", super::NGINX);
            let why = "a session goes to another endpoint if its own cannot be reached";
            self.refuse(&key, why);
        }
        let name = self.cookie_part("session-cookie-name", |text| headers::name(text).is_ok());
        let path = self.cookie_part("session-cookie-path", |text| text.starts_with('/'));
        let domain = self.cookie_part("session-cookie-domain", |_| true);
        let mut attributes: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        attributes.extend(domain.map(|domain| ("Domain".into(), domain)));
        if self.flag("session-cookie-secure") == Some(true) {
            attributes.push(("Secure".into(), "".into()));
        }
        if let Some((key, site)) = self.take("session-cookie-samesite") {
            let known = ["None", "Lax", "Strict"];
            match known.iter().find(|it| it.eq_ignore_ascii_case(site)) {
                Some(known) => attributes.push(("SameSite".into(), (*known).into())),
                None => self.refuse(key, &format!("{site:?} is not None, Lax or Strict")),
            }
        }
        let expires = self.number("session-cookie-expires");
        // Browsers that know both go by this one.
        let seconds = self.number("session-cookie-max-age").or(expires);
        Some(Affinity {
            name: name.unwrap_or_else(|| NAME.into()),
            path,
            lifetime: seconds.filter(|it| *it > 0).map(Duration::from_secs),
            attributes,
        })
    }

    /// A part of a cookie that cannot be mistaken for another part.
    fn cookie_part(&mut self, short: &str, is_fine: fn(&str) -> bool) -> Option<Arc<str>> {
        let (key, text) = self.take(short).filter(|(_, text)| !text.is_empty())?;
        let is_safe = text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b";,\"\\".contains(&byte));
        if is_safe && is_fine(text) {
            return Some(text.into());
        }
        self.refuse(key, &format!("{text:?} cannot be that of a cookie"));
        None
    }

    /// `upstream-hash-by` with one variable.
    fn hash_by(&mut self) -> Option<HashKey> {
        let (key, text) = self
            .take("upstream-hash-by")
            .filter(|(_, it)| !it.is_empty())?;
        let variable = text.strip_prefix('$').unwrap_or_default();
        let variable = variable
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .unwrap_or(variable);
        let is_one = variable
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let found = match variable {
            _ if !is_one => None,
            "remote_addr" | "binary_remote_addr" => Some(HashKey::Client),
            _ => None
                .or_else(|| {
                    let name = variable.strip_prefix("http_")?.replace('_', "-");
                    headers::name(&name).ok().map(HashKey::Header)
                })
                .or_else(|| {
                    let name = variable.strip_prefix("arg_")?;
                    Some(HashKey::Query(name.into()))
                })
                .or_else(|| {
                    let name = variable.strip_prefix("cookie_")?;
                    Some(HashKey::Cookie {
                        name: name.into(),
                        path: None,
                        set_for: None,
                        attributes: Vec::new(),
                    })
                }),
        };
        if found.is_none() {
            let why = "of variables $remote_addr, $http_NAME, $arg_NAME or $cookie_NAME is served, \
                       alone; it changes nothing";
            self.refuse(key, why);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is asked for, and how often something was wrong.
    fn read<T>(
        annotations: &[(&str, &str)],
        read: impl Fn(&mut Annotations<'_>) -> Option<T>,
    ) -> (Option<T>, usize) {
        let all = annotations.iter();
        let all = all.map(|(short, value)| (format!("{}{short}", super::super::NGINX), *value));
        let annotations: std::collections::BTreeMap<_, _> = all.collect();
        let ingress = json!({"metadata": {"annotations": annotations}});
        let ingress = serde_json::from_value(ingress).expect("an Ingress");
        let mut all = Annotations::of(&ingress).expect("annotations");
        let found = read(&mut all);
        (found, all.found.len())
    }

    #[test]
    fn a_cookie_is_as_it_is_written() {
        let affinity = |more: &[(&str, &str)]| {
            let all = [&[("affinity", "cookie")], more].concat();
            let (found, wrong) = read(&all, |all| all.affinity());
            (found.expect("an affinity").at("/shop"), wrong)
        };
        let place = |path: &str, attributes: &[(&str, &str)]| SessionPlace::Cookie {
            name: NAME.into(),
            path: path.into(),
            is_permanent: true,
            attributes: attributes
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        };
        let (plain, wrong) = affinity(&[]);
        assert_eq!(
            (&plain.place, plain.lifetime, wrong),
            (&place("/shop", &[]), None, 0)
        );
        let (full, wrong) = affinity(&[
            ("session-cookie-path", "/a"),
            ("session-cookie-domain", "example.com"),
            ("session-cookie-secure", "true"),
            ("session-cookie-samesite", "strict"),
            ("session-cookie-expires", "10"),
            ("session-cookie-max-age", "20"),
            ("affinity-mode", "persistent"),
        ]);
        let attributes = [
            ("Domain", "example.com"),
            ("Secure", ""),
            ("SameSite", "Strict"),
        ];
        assert_eq!((full.place, wrong), (place("/a", &attributes), 0));
        assert_eq!(full.lifetime, Some(Duration::from_secs(20)));
        let (bad, wrong) = affinity(&[
            ("session-cookie-name", "a b"),
            ("session-cookie-domain", "a; Path=/"),
            ("session-cookie-samesite", "no"),
            ("session-cookie-max-age", "-1"),
            ("affinity-mode", "x"),
        ]);
        assert_eq!((bad.place, wrong), (place("/shop", &[]), 5));
        let (none, wrong) = read(&[("affinity", "ip")], |all| all.affinity());
        assert_eq!((none, wrong), (None, 1));
    }

    #[test]
    fn the_cookie_of_an_expression_is_for_every_path() {
        let (affinity, _) = read(&[("affinity", "cookie")], |all| all.affinity());
        let session = affinity.expect("an affinity").at("/app(/|$)(.*)");
        let place = SessionPlace::Cookie {
            name: NAME.into(),
            path: "/".into(),
            is_permanent: true,
            attributes: Vec::new(),
        };
        assert_eq!(session.place, place);
    }

    #[test]
    fn one_variable_may_decide() {
        let by = |text| read(&[("upstream-hash-by", text)], |all| all.hash_by());
        assert_eq!(by("$binary_remote_addr"), (Some(HashKey::Client), 0));
        assert_eq!(
            by("${http_x_user}"),
            (Some(HashKey::Header("x-user".into())), 0)
        );
        assert_eq!(by("$arg_user"), (Some(HashKey::Query("user".into())), 0));
        for text in ["$request_uri", "$arg_a$arg_b", "text", "$http_"] {
            assert_eq!(by(text), (None, 1), "{text}");
        }
    }
}
