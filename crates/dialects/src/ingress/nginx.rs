//! Annotations of ingress-nginx that are served, and those of APISIX that mean the same.
//!
//! What decides who may pass is served as written, or the paths of the Ingress answer 503: an
//! Ingress that its user believes closed must not be open. Everything else that is not served
//! leaves the Ingress as it is without the annotation, and is reported.

mod access;
mod apply;
pub(super) mod auth;
pub(super) mod canary;
mod cookie;
mod crypto;
mod limit;
pub(super) mod session;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::Ingress;
use routing::model::{Action, CookieEdit, Cors, Crypto, Guards, HashKey, Redirect, Respond};

pub(super) use apply::to_https;
use auth::Auth;
use session::Keeps;

use super::annotations::remedy;
use crate::diagnostic::{Diagnostic, Effect};
use crate::objects::{Name, Reader};
use crate::shared::{headers, location};

/// Whose annotations these are.
const NGINX: &str = "nginx.ingress.kubernetes.io/";
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
    cookies: Option<Arc<[CookieEdit]>>,
    /// In place of what the paths say.
    pub(super) instead: Option<Action>,
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
    keeps: Option<Keeps>,
    pub(super) auth: Option<Auth>,
    /// What handshakes for the hosts of `spec.tls` may settle on.
    pub(super) crypto: Option<Crypto>,
    /// The suites that are wanted are not there: no handshake succeeds.
    pub(super) has_no_suites: bool,
    /// It is somebody's canary, and has no routes of its own.
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
    if canary::read(ingress, diagnostics).is_some() {
        return Wishes {
            is_canary: true,
            ..Wishes::default()
        };
    }
    let mut wishes = Wishes {
        // The default there.
        to_https: is_nginx(ingress, reader).then_some(Redirected::WithCertificate),
        ..Wishes::default()
    };
    let Some(mut all) = Annotations::of(ingress) else {
        return wishes;
    };
    wishes.guards.authorization = all.networks();
    wishes.guards.credentials = all.basic(reader);
    wishes.guards.max_body = all.body();
    wishes.guards.rate_limits = all.limits();
    wishes.cors = all.cors();
    wishes.cookies = all.cookies();
    all.redirects(&mut wishes);
    all.crypto(&mut wishes);
    all.paths(&mut wishes);
    wishes.keeps = all.keeps();
    wishes.auth = all.auth(reader);
    all.rest();
    if all.closed {
        wishes.instead = Some(Action::Respond(closed()));
    }
    diagnostics.append(&mut all.found);
    wishes
}

/// What classes of ingress-nginx name.
const CONTROLLER: &str = "k8s.io/ingress-nginx";

/// Whether an Ingress is one of ingress-nginx: its class says so, or is the one that it has unless
/// somebody renames it. The annotation counts before the field, as there.
fn is_nginx(ingress: &Ingress, reader: &Reader<'_>) -> bool {
    let annotations = ingress.metadata.annotations.as_ref();
    let annotation = annotations.and_then(|all| all.get("kubernetes.io/ingress.class"));
    let field = ingress
        .spec
        .as_ref()
        .and_then(|spec| spec.ingress_class_name.as_ref());
    let Some(class) = annotation.or(field) else {
        return false;
    };
    match reader.controller_of(class) {
        Some(controller) => controller == CONTROLLER,
        None => class == "nginx",
    }
}

/// The answer of paths whose access cannot be checked as written.
pub(super) fn closed() -> Respond {
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

impl Wishes {
    /// What keeps requests for a path, as it is written, to endpoints.
    pub(super) fn keeps(&self, path: &str) -> Option<HashKey> {
        self.keeps.as_ref().map(|keeps| keeps.at(path))
    }
}

impl<'a> Annotations<'a> {
    /// `None` if there are none.
    fn of(ingress: &'a Ingress) -> Option<Self> {
        let mut left = BTreeMap::new();
        for (key, value) in ingress.metadata.annotations.iter().flatten() {
            if let Some(short) = key.strip_prefix(NGINX) {
                left.insert(short, (key.as_str(), value.trim()));
            } else if let Some(short) = key.strip_prefix(APISIX) {
                // What means something else there is reported under its whole name.
                let same = SAME.iter().find(|(theirs, _)| *theirs == short);
                let name = same.map_or(key.as_str(), |(_, ours)| ours);
                left.entry(name)
                    .or_insert_with(|| (key.as_str(), value.trim()));
            }
        }
        (!left.is_empty()).then(|| Self {
            name: Name::of(&ingress.metadata),
            left,
            found: Vec::new(),
            closed: false,
        })
    }

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

    fn redirects(&mut self, wishes: &mut Wishes) {
        if let Some(is_on) = self.flag("ssl-redirect") {
            wishes.to_https = is_on.then_some(Redirected::WithCertificate);
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
            if !to.contains('$') && headers::value(to).is_ok() {
                wishes.instead = Some(Action::Respond(Respond {
                    status,
                    headers: vec![("location".into(), to.into())],
                    body: "".into(),
                }));
                continue;
            }
            match location::parse(to) {
                Ok(to) => {
                    wishes.instead = Some(Action::Redirect(Redirect {
                        scheme: to.scheme,
                        host: to.host,
                        port: to.port,
                        path: to.path,
                        strip_query: !to.keeps_query,
                        status,
                    }));
                }
                Err(error) => self.refuse(key, &error),
            }
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
