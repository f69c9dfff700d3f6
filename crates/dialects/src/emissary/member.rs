//! One Mapping by itself: what it does with the requests that its group gives it.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    BackendId, Cors, FilterSet, Filters, Guards, HeaderOps, Redirect, RedirectPort, Respond, Share,
};
use serde_json::Value;

use super::headers;
use super::mapping::Backends;
use super::matching::{self, Matching};
use super::module::Settings;
use super::service::Written;
use super::{auth, endpoint, limit, policy, rewrite};
use crate::fields::{Fields, Findings};
use crate::foreign::Object;
use crate::objects::{Name, Reader};
use crate::shared::headers as header_names;

/// A request has so long unless somebody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A Mapping as its group sees it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: Name,
    pub(super) what: What,
    /// Percent.
    pub(super) weight: Option<u32>,
    pub(super) matching: Matching,
    /// Or the answer in its place.
    pub(super) backend: Result<BackendId, Respond>,
    pub(super) request_headers: HeaderOps,
    pub(super) filters: Filters,
    pub(super) cors: Option<Arc<Cors>>,
    pub(super) guards: Guards,
    /// Its clients may speak gRPC-Web.
    pub(super) grpc_web: bool,
}

/// What a Mapping does.
#[derive(Clone, Debug)]
pub(super) enum What {
    Forward,
    /// A copy of so many.
    Shadow(Share),
    Redirect(Redirect),
}

/// Where a field is read: in the Mapping, or else in the defaults.
pub(super) fn pick<'a, 'v>(
    own: &'a Fields<'v>,
    defaults: &'a Fields<'v>,
    key: &str,
) -> &'a Fields<'v> {
    if own.has(key) { own } else { defaults }
}

/// The answer for a backend that cannot be used.
fn unavailable() -> Respond {
    Respond {
        status: 503,
        headers: vec![("content-type".into(), "text/plain; charset=utf-8".into())],
        body: "the service behind this Mapping cannot be used\n".into(),
    }
}

/// Reads a Mapping. `None` if nothing of it can be served.
pub(super) fn read(
    object: &Object,
    settings: &Settings,
    reader: &Reader<'_>,
    findings: &Findings,
    backends: &mut Backends,
) -> Option<Member> {
    let scratch = Findings::default();
    let spec = Fields::new(object.spec(), "spec".to_owned(), findings);
    let defaults = Fields::new(&settings.defaults, String::new(), &scratch);
    defaults.pass_over();
    spec.ignore("ambassador_id");
    not_served(&spec);
    let matching = matching::read(&spec, object.spec());
    let Some(matching) = matching else {
        spec.pass_over();
        return None;
    };
    let weight = spec.number::<u32>("weight");
    let written = written(&spec);
    let what = what(&spec, &matching, written.as_ref(), weight);
    let mut filters = filters(&spec, &defaults, &matching, written.as_ref());
    let mut request = headers::changes(&spec, &defaults, "request");
    let response = headers::changes(&spec, &defaults, "response");
    filters.request_templates = request.templates;
    filters.response_headers = response.ops;
    filters.response_templates = response.templates;
    linkerd(&spec, &defaults, object, written.as_ref(), &mut request.ops);
    let cors = pick(&spec, &defaults, "cors").object("cors");
    let cors = cors.map(|cors| headers::cors(&cors));
    let guards = guards(&spec, object, settings, (reader, &mut *backends));
    let backend = endpoint::backend(&spec, &defaults, object, (reader, backends), written);
    Some(Member {
        name: object.name.clone(),
        backend: match what {
            What::Redirect(_) => Err(unavailable()),
            What::Forward | What::Shadow(_) => backend.ok_or_else(unavailable),
        },
        what,
        weight,
        matching,
        request_headers: request.ops,
        filters,
        cors,
        guards,
        grpc_web: settings.grpc_web,
    })
}

/// Fields that say nothing about requests, and those that nothing here serves.
fn not_served(spec: &Fields<'_>) {
    for key in ["docs", "stats_name", "cluster_tag", "v2ExplicitTLS"] {
        spec.ignore(key);
    }
    for (key, remedy) in [
        (
            "dns_type",
            "names are looked up again and again, all addresses are used",
        ),
        ("respect_dns_ttl", "names are looked up again and again"),
        ("enable_ipv4", "every address that a name has is used"),
        ("enable_ipv6", "every address that a name has is used"),
        (
            "cluster_max_connection_lifetime_ms",
            "set cluster_idle_timeout_ms",
        ),
        (
            "error_response_overrides",
            "answer errors in the Service itself",
        ),
        ("bypass_error_response_overrides", "there are none"),
        (
            "envoy_override",
            "there is no Envoy that it could be given to",
        ),
        ("modules", "write the fields of the Mapping"),
    ] {
        let as_served = match key {
            "enable_ipv4" | "bypass_error_response_overrides" => Some(&Value::Bool(true)),
            "enable_ipv6" | "respect_dns_ttl" => Some(&Value::Bool(false)),
            _ => None,
        };
        if spec.raw(key) != as_served {
            spec.unsupported(key, remedy);
        }
    }
}

fn written(spec: &Fields<'_>) -> Option<Written> {
    if !spec.has("service") {
        let message = "service is missing: requests are answered 503";
        spec.refuse("service", "ServiceMissing", message);
    }
    spec.parse("service", Written::parse)
}

fn what(
    spec: &Fields<'_>,
    matching: &Matching,
    written: Option<&Written>,
    weight: Option<u32>,
) -> What {
    let is_shadow = spec.bool("shadow") == Some(true);
    let is_redirect = spec.bool("host_redirect") == Some(true);
    let code = spec.number::<u16>("redirect_response_code").unwrap_or(301);
    let path = rewrite::redirect(spec, matching);
    if is_shadow {
        if is_redirect {
            let message = "the Mapping is a shadow and redirects nobody";
            spec.refuse("host_redirect", "RedirectAndShadow", message);
        }
        let percent = weight.unwrap_or(100).min(100);
        return What::Shadow(Share::new(percent, 100).unwrap_or(Share::ALL));
    }
    if !is_redirect {
        if path.is_some() {
            let message = "host_redirect is not true: nobody is redirected";
            spec.refuse("host_redirect", "RedirectIncomplete", message);
        }
        return What::Forward;
    }
    let status = if [301, 302, 303, 307, 308].contains(&code) {
        code
    } else {
        let message = format!("{code} is no redirect, 301 is used");
        spec.refuse("redirect_response_code", "FieldInvalid", message);
        301
    };
    let scheme = spec.str("service").and_then(|it| it.split_once("://"));
    What::Redirect(Redirect {
        scheme: scheme.map(|(scheme, _)| scheme.to_ascii_lowercase().into()),
        host: written.map(|written| written.host.as_str().into()),
        port: match written.and_then(|written| written.port) {
            Some(port) => RedirectPort::Number(port),
            None => RedirectPort::WellKnown,
        },
        path,
        strip_query: false,
        status,
    })
}

fn filters<'v>(
    spec: &Fields<'v>,
    defaults: &Fields<'v>,
    matching: &Matching,
    written: Option<&Written>,
) -> Filters {
    let mut filters = Filters::from(FilterSet {
        request_timeout: policy::millis(spec, defaults, "timeout_ms", Some(TIMEOUT)),
        ..FilterSet::default()
    });
    filters.rewrite_path = rewrite::path(spec, matching);
    if let Some(host) = spec.text("host_rewrite") {
        match header_names::value(host) {
            Ok(host) => filters.rewrite_host = Some(host),
            Err(error) => spec.refuse("host_rewrite", "FieldInvalid", error),
        }
    }
    if spec.bool("auto_host_rewrite") == Some(true) && filters.rewrite_host.is_none() {
        filters.rewrite_host = written.map(|written| written.host.as_str().into());
    }
    let retry = pick(spec, defaults, "retry_policy").object("retry_policy");
    if let Some((retry, limit)) = retry.and_then(|fields| policy::retry(&fields)) {
        filters.retry = Some(retry);
        filters.try_timeout = limit;
    }
    filters
}

/// `add_linkerd_headers`: the name by which Linkerd knows the backend.
fn linkerd<'v>(
    spec: &Fields<'v>,
    defaults: &Fields<'v>,
    object: &Object,
    written: Option<&Written>,
    ops: &mut HeaderOps,
) {
    let key = "add_linkerd_headers";
    if pick(spec, defaults, key).bool(key) != Some(true) {
        return;
    }
    let Some(written) = written else { return };
    let host = if written.host.contains('.') {
        written.host.clone()
    } else {
        format!("{}.{}", written.host, object.name.namespace)
    };
    let value = format!("{host}:{}", written.port(written.is_https));
    ops.set.push(("l5d-dst-override".into(), value.into()));
}

fn guards(
    spec: &Fields<'_>,
    object: &Object,
    settings: &Settings,
    (reader, backends): (&Reader<'_>, &mut Backends),
) -> Guards {
    let upgrades = spec.strings("allow_upgrade");
    for other in &upgrades {
        if !other.eq_ignore_ascii_case("websocket") {
            let message = match other.eq_ignore_ascii_case("connect") {
                // As with Envoy, where the prefix of a Mapping matches none.
                true => "a CONNECT has no path, so it takes no Mapping".to_owned(),
                false => format!("upgrades to {other:?} are not known apart from websocket"),
            };
            spec.refuse("allow_upgrade", "UpgradeNotSupported", message);
        }
    }
    let is_websocket = |it: &&str| it.eq_ignore_ascii_case("websocket");
    let may_upgrade = spec.bool("use_websocket") == Some(true) || upgrades.iter().any(is_websocket);
    let bypasses = spec.bool("bypass_auth") == Some(true);
    let context = spec.string_map("auth_context_extensions");
    let external = if bypasses {
        None
    } else {
        auth::external(reader, backends).map(|mut external| {
            let own = context.into_iter();
            external
                .context
                .extend(own.map(|(key, value)| (key.into(), value.into())));
            Arc::new(external)
        })
    };
    let limits = limit::service(spec, &object.name.namespace, settings, reader, backends);
    Guards {
        authorization: settings.access.clone(),
        external,
        limit_services: limits.into_iter().collect(),
        max_body: settings.max_body,
        no_upgrade: !may_upgrade,
        ..Guards::default()
    }
}
