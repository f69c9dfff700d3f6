//! Annotations of ingress-nginx that are served, and those of APISIX that mean the same.
//!
//! What decides who may pass is served as written, or the paths of the Ingress answer 503: an
//! Ingress that its user believes closed must not be open. Everything else that is not served
//! leaves the Ingress as it is without the annotation, and is reported.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::networking::v1::Ingress;
use routing::model::{
    AccessRule, Action, Authorization, Cors, Credentials, Guards, LimitKey, Match, Network,
    Origins, PathEdit, PathMatch, Predicate, RateLimit, Redirect, RedirectPort, Respond, Route,
    Secret, Subject, Test, TextTest,
};

use super::annotations::remedy;
use crate::diagnostic::{Diagnostic, Effect};
use crate::objects::{Name, Reader};
use crate::shared::headers;

/// Whose annotations these are.
pub(super) const NGINX: &str = "nginx.ingress.kubernetes.io/";
const APISIX: &str = "k8s.apisix.apache.org/";

/// What APISIX calls what ingress-nginx calls otherwise.
const SAME: [(&str, &str); 5] = [
    ("allowlist-source-range", "allowlist-source-range"),
    ("blocklist-source-range", "denylist-source-range"),
    ("http-redirect", "temporal-redirect"),
    ("http-redirect-code", "temporal-redirect-code"),
    ("http-to-https", "force-ssl-redirect"),
];

/// Annotations that decide who may pass.
const GUARDS: [&str; 7] = [
    "auth-tls-secret",
    "auth-type",
    "auth-uri",
    "auth-url",
    "enable-csrf",
    "http-allow-methods",
    "http-block-methods",
];

/// What the annotations of one Ingress ask for.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    pub(super) guards: Guards,
    pub(super) cors: Option<Arc<Cors>>,
    /// In place of what the paths say.
    pub(super) respond: Option<Respond>,
    /// Plain HTTP is sent to HTTPS: always, or for hosts with a certificate.
    pub(super) to_https: Option<Redirected>,
    pub(super) rewrite_host: Option<Arc<str>>,
    /// Paths are expressions that ignore case; what the whole path becomes, in the notation of
    /// NGINX.
    pub(super) is_regex: bool,
    pub(super) rewrite: Option<String>,
    pub(super) forwarded_prefix: Option<Arc<str>>,
    /// Where requests for `/` are sent.
    pub(super) app_root: Option<String>,
    /// Hosts besides those of the rules.
    pub(super) aliases: Vec<String>,
    /// It is somebody's canary, and nothing of it is served.
    pub(super) is_canary: bool,
}

/// Which hosts are served over TLS only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redirected {
    WithCertificate,
    All,
}

/// One Ingress's annotations while they are read; each that nobody asked for is reported.
struct Annotations<'a> {
    name: Name,
    /// By their short name: the whole key and the value.
    left: BTreeMap<&'a str, (&'a str, &'a str)>,
    found: Vec<Diagnostic>,
    closed: bool,
}

/// What is asked for, and what is wrong with it.
pub(super) fn read(
    ingress: &Ingress,
    reader: &Reader<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Wishes {
    let mut left = BTreeMap::new();
    for (key, value) in ingress.metadata.annotations.iter().flatten() {
        if let Some(short) = key.strip_prefix(NGINX) {
            left.insert(short, (key.as_str(), value.trim()));
        } else if let Some(short) = key.strip_prefix(APISIX) {
            // What means something else there is reported under its whole name.
            let same = SAME.iter().find(|(theirs, _)| *theirs == short);
            let name = same.map_or(key.as_str(), |(_, ours)| ours);
            left.entry(name).or_insert((key.as_str(), value.trim()));
        }
    }
    if left.is_empty() {
        return Wishes::default();
    }
    let mut all = Annotations {
        name: Name::of(&ingress.metadata),
        left,
        found: Vec::new(),
        closed: false,
    };
    let mut wishes = Wishes::default();
    wishes.guards.authorization = all.networks();
    wishes.guards.credentials = all.basic(reader);
    wishes.guards.max_body = all.body();
    wishes.guards.rate_limits = all.limits();
    wishes.cors = all.cors();
    all.redirects(&mut wishes);
    all.paths(&mut wishes);
    wishes.is_canary = all.flag("canary") == Some(true);
    if wishes.is_canary {
        all.found.push(refused(
            "metadata.annotations[nginx.ingress.kubernetes.io/canary]",
            "CanaryNotSupported",
            "canaries are not served, and nothing of this Ingress is; write one HTTPRoute with \
             both Services: weights in backendRefs, or a rule that matches the header"
                .to_owned(),
        ));
        all.left.retain(|key, _| !key.starts_with("canary"));
    }
    all.rest();
    if all.closed {
        wishes.respond = Some(closed());
    }
    diagnostics.append(&mut all.found);
    wishes
}

/// The same matches, of requests over plain HTTP alone.
pub(super) fn over_http(matches: &[Match]) -> Vec<Match> {
    let plain = Predicate {
        subject: Subject::Scheme,
        test: Test::Text {
            how: TextTest::Exact,
            value: "http".into(),
            ignore_case: false,
        },
        negate: false,
        missing_is_empty: false,
    };
    let any = [Match::default()];
    let matches = if matches.is_empty() { &any } else { matches };
    let mut matches = matches.to_vec();
    for one in &mut matches {
        one.other.push(plain.clone());
    }
    matches
}

/// As ingress-nginx redirects.
pub(super) fn to_https() -> Redirect {
    Redirect {
        scheme: Some("https".into()),
        host: None,
        port: RedirectPort::WellKnown,
        path: None,
        strip_query: false,
        status: 308,
    }
}

impl Wishes {
    /// Puts on a route what is asked for every path.
    pub(super) fn apply(&self, route: &mut Route) {
        if !self.guards.is_empty() {
            route.filters.guards = Some(Arc::new(self.guards.clone()));
        }
        if let Some(respond) = &self.respond {
            route.action = Action::Respond(respond.clone());
        }
        if let Some(cors) = &self.cors {
            route.filters.cors = Some(Arc::clone(cors));
        }
        route.rewrite_host.clone_from(&self.rewrite_host);
        let Some(target) = &self.rewrite else {
            return;
        };
        if let Some(prefix) = &self.forwarded_prefix {
            let header = ("x-forwarded-prefix".into(), Arc::clone(prefix));
            route.request_headers.set.push(header);
        }
        let paths = route.matches.iter().filter_map(|one| one.path.as_ref());
        // Every path of such an Ingress is one expression; what has none is the default backend's.
        let pattern = paths.filter_map(|path| match path {
            PathMatch::Regex(expression) => Some(format!("^{expression}$")),
            _ => None,
        });
        let Some(pattern) = pattern.last() else {
            return;
        };
        route.filters.rewrite_path = Some(PathEdit::Regex {
            pattern: pattern.into(),
            with: groups(target).into(),
        });
    }
}

/// NGINX's `$1` as the model writes it.
fn groups(target: &str) -> String {
    let mut out = String::new();
    let mut rest = target.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '\\' => out.push_str(r"\\"),
            '$' if rest.peek().is_some_and(char::is_ascii_digit) => out.push('\\'),
            other => out.push(other),
        }
    }
    out
}

/// The answer of paths whose access cannot be checked as written.
fn closed() -> Respond {
    Respond {
        status: 503,
        headers: vec![("content-type".into(), "text/plain; charset=utf-8".into())],
        body: "an annotation of this Ingress says who may pass and cannot be served\n".into(),
    }
}

fn refused(field: &str, reason: &'static str, message: String) -> Diagnostic {
    Diagnostic::new(Effect::Refused, reason, field, message)
}

/// Parts of a list with commas.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

impl<'a> Annotations<'a> {
    fn take(&mut self, short: &str) -> Option<(&'a str, &'a str)> {
        self.left.remove(short)
    }

    fn text(&mut self, short: &str) -> Option<&'a str> {
        self.take(short).map(|(_, value)| value)
    }

    fn refuse(&mut self, key: &str, why: &str) {
        let message = format!("annotation {key}: {why}");
        let field = format!("metadata.annotations[{key}]");
        let finding = refused(&field, "AnnotationInvalid", message);
        self.found.push(finding);
    }

    /// What decides who may pass cannot be read.
    fn close(&mut self, key: &str, why: &str) {
        self.closed = true;
        self.refuse(
            key,
            &format!("{why}; its paths answer 503 until it can be served"),
        );
    }

    fn flag(&mut self, short: &str) -> Option<bool> {
        let (key, value) = self.take(short)?;
        let parsed = value.to_ascii_lowercase().parse().ok();
        if parsed.is_none() {
            self.refuse(key, &format!("{value:?} is neither true nor false"));
        }
        parsed
    }

    fn number(&mut self, short: &str) -> Option<u64> {
        let (key, value) = self.take(short)?;
        let parsed = value.parse().ok();
        if parsed.is_none() {
            self.refuse(key, &format!("{value:?} is no whole number"));
        }
        parsed
    }

    /// Who may come, by address.
    fn networks(&mut self) -> Option<Arc<Authorization>> {
        // Both names are in use; the newer one counts.
        let old = self.take("whitelist-source-range");
        let allow = self.take("allowlist-source-range").or(old);
        let deny = self.take("denylist-source-range");
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
    fn basic(&mut self, reader: &Reader<'_>) -> Option<Arc<Credentials>> {
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

    /// Bytes, or with k, m or g; zero is without bounds.
    fn body(&mut self) -> Option<u64> {
        let (key, value) = self.take("proxy-body-size")?;
        let (number, unit) = match value.char_indices().last() {
            Some((at, 'k' | 'K')) => (&value[..at], 1 << 10),
            Some((at, 'm' | 'M')) => (&value[..at], 1 << 20),
            Some((at, 'g' | 'G')) => (&value[..at], 1 << 30),
            _ => (value, 1),
        };
        let bytes = number.parse::<u64>().ok();
        let Some(bytes) = bytes.and_then(|number| number.checked_mul(unit)) else {
            self.refuse(key, &format!("{value:?} is no size; write for example 8m"));
            return None;
        };
        (bytes > 0).then_some(bytes)
    }

    /// Requests of one client in a second and in a minute.
    fn limits(&mut self) -> Vec<Arc<RateLimit>> {
        const BURST: u64 = 5;
        let rates = [("limit-rps", 1), ("limit-rpm", 60)];
        let rates = rates.map(|(short, seconds)| (short, seconds, self.number(short)));
        if rates.iter().all(|(_, _, rate)| rate.is_none()) {
            return Vec::new();
        }
        let burst = self.number("limit-burst-multiplier").unwrap_or(BURST);
        let mut when = Vec::new();
        let old = self.take("limit-whitelist");
        if let Some((key, value)) = self.take("limit-allowlist").or(old) {
            let networks: Vec<_> = words(value).filter_map(Network::parse).collect();
            if networks.len() != words(value).count() {
                self.refuse(
                    key,
                    "some of it is no network, and is counted as everybody is",
                );
            }
            when.push(Predicate {
                subject: Subject::Client,
                test: Test::Network(networks.into()),
                negate: true,
                missing_is_empty: false,
            });
        }
        let limit = |(short, seconds, rate): (&str, u64, Option<u64>)| {
            let rate = rate.filter(|rate| *rate > 0)?;
            Some(Arc::new(RateLimit {
                id: format!("ingress/{}/{short}", self.name).into(),
                when: when.clone(),
                keys: vec![LimitKey::Client],
                capacity: rate.saturating_mul(burst).saturating_add(1),
                fill: rate,
                interval: Duration::from_secs(seconds),
                per_connection: false,
                respond: Respond {
                    status: 503,
                    headers: Vec::new(),
                    body: "".into(),
                },
            }))
        };
        rates.into_iter().filter_map(limit).collect()
    }

    fn cors(&mut self) -> Option<Arc<Cors>> {
        const METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
        const HEADERS: &str = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,\
                               Cache-Control,Content-Type,Range,Authorization";
        const AGE: u64 = 1_728_000;
        let is_on = self.flag("enable-cors") == Some(true);
        let origins = self.text("cors-allow-origin").unwrap_or("*");
        let methods = self.text("cors-allow-methods").unwrap_or(METHODS);
        let names = self.text("cors-allow-headers").unwrap_or(HEADERS);
        let expose = self.text("cors-expose-headers").unwrap_or_default();
        let credentials = self.flag("cors-allow-credentials").unwrap_or(true);
        let age = self.number("cors-max-age").unwrap_or(AGE);
        let list = |text: &str| words(text).map(Into::into).collect::<Vec<Arc<str>>>();
        let origin = |word: &str| match (word, word.split_once("://*.")) {
            ("*", _) => Origins::Any,
            (_, Some((scheme, rest))) => Origins::Wildcard {
                scheme: scheme.into(),
                suffix: format!(".{rest}").into(),
            },
            _ => Origins::Exact(word.into()),
        };
        is_on.then(|| {
            Arc::new(Cors {
                origins: words(origins).map(origin).collect(),
                methods: list(methods),
                headers: list(names),
                expose: list(expose),
                credentials,
                max_age: Duration::from_secs(age),
            })
        })
    }

    fn redirects(&mut self, wishes: &mut Wishes) {
        if self.flag("ssl-redirect") == Some(true) {
            wishes.to_https = Some(Redirected::WithCertificate);
        }
        if self.flag("force-ssl-redirect") == Some(true) {
            wishes.to_https = Some(Redirected::All);
        }
        for (short, code, usual) in [
            ("permanent-redirect", "permanent-redirect-code", 301),
            ("temporal-redirect", "temporal-redirect-code", 302),
        ] {
            let written = self.take(short);
            let status = self.number(code).unwrap_or(usual);
            let Some((key, to)) = written.filter(|(_, to)| !to.is_empty()) else {
                continue;
            };
            let status = u16::try_from(status).ok();
            let Some(status) = status.filter(|status| (300..400).contains(status)) else {
                self.refuse(key, &format!("{code} is no redirect; it changes nothing"));
                continue;
            };
            if to.contains('$') || headers::value(to).is_err() {
                let why = "variables are not known: write an HTTPRoute with RequestRedirect, \
                           which keeps the parts that it does not name";
                self.refuse(key, why);
                continue;
            }
            wishes.respond = Some(Respond {
                status,
                headers: vec![("location".into(), to.into())],
                body: "".into(),
            });
        }
    }

    fn paths(&mut self, wishes: &mut Wishes) {
        wishes.is_regex = self.flag("use-regex") == Some(true);
        if let Some((key, target)) = self.take("rewrite-target").filter(|(_, to)| !to.is_empty()) {
            // NGINX compares paths as expressions then, whether or not there are groups.
            wishes.is_regex = true;
            if target.contains('?') || target.contains("://") {
                let why = "a rewrite is of the path: schemes, hosts and queries stay; the path \
                           is not rewritten";
                self.refuse(key, why);
            } else {
                wishes.rewrite = Some(target.to_owned());
            }
        }
        let header = |text: Option<(&'a str, &'a str)>| {
            text.map(|(key, value)| headers::value(value).map_err(|error| (key, error)))
        };
        match header(self.take("x-forwarded-prefix")) {
            Some(Ok(prefix)) => wishes.forwarded_prefix = Some(prefix),
            Some(Err((key, error))) => self.refuse(key, &error),
            None => {}
        }
        match header(self.take("upstream-vhost")) {
            Some(Ok(host)) if !host.contains('$') => wishes.rewrite_host = Some(host),
            Some(Ok(_)) => self.refuse(&format!("{NGINX}upstream-vhost"), "it has variables"),
            Some(Err((key, error))) => self.refuse(key, &error),
            None => {}
        }
        if let Some((key, root)) = self.take("app-root") {
            if root.starts_with('/') && headers::value(root).is_ok() {
                wishes.app_root = Some(root.to_owned());
            } else {
                self.refuse(key, &format!("{root:?} does not begin with /"));
            }
        }
        if let Some((key, aliases)) = self.take("server-alias") {
            let (bad, good): (Vec<_>, Vec<_>) =
                words(aliases).partition(|alias| alias.starts_with('~'));
            wishes.aliases = good.into_iter().map(str::to_owned).collect();
            if let Some(alias) = bad.first() {
                self.refuse(
                    key,
                    &format!("{alias:?} is an expression: write whole names"),
                );
            }
        }
    }

    /// What nobody asked for.
    fn rest(&mut self) {
        for (short, (key, value)) in std::mem::take(&mut self.left) {
            let short = short.strip_prefix(APISIX).unwrap_or(short);
            if super::annotations::is_as_served(short, value) {
                continue;
            }
            if GUARDS.contains(&short) && !value.is_empty() {
                self.close(key, &format!("it is not supported; {}", remedy(short)));
                continue;
            }
            let message = format!(
                "annotation {key} ({value:?}) is not supported and changes nothing; {}",
                remedy(short)
            );
            let field = format!("metadata.annotations[{key}]");
            let finding = refused(&field, "AnnotationNotSupported", message);
            self.found.push(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_a_target_are_written_as_the_model_does() {
        assert_eq!(groups("/$2"), r"/\2");
        assert_eq!(groups(r"/a$\1"), r"/a$\\1");
        let edit = PathEdit::Regex {
            pattern: "^(?i)(?:/app(/|$)(.*)).*$".into(),
            with: groups("/$2").into(),
        };
        assert_eq!(edit.apply("/app/one/two"), "/one/two");
        assert_eq!(edit.apply("/APP"), "/");
    }
}
