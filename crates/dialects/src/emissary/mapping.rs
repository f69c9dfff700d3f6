//! Groups of Mappings → routes.
//!
//! Every Mapping of a group computes the group and tells its own part of what is wrong; the first
//! by name writes the routes of all.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::{
    Action, ClientSource, FilterSet, Predicate, Redirect, RedirectPort, Route, RouteId, SortKey,
    Split, Subject, Telemetry, Test, TextTest, Visibility,
};
use serde_json::json;

use super::door::Security;
use super::group::{Content, Plan};
use super::host::Insecure;
use super::member::{self, Member};
use super::module::{self, Settings};
use super::spots::{self, Spot};
use super::{MAPPING, instance, logging, matching, tracing};
use crate::backend::BackendRef;
use crate::diagnostic::Effect;
use crate::fields::Findings;
use crate::foreign::{BackendSpec, Object, Translation};
use crate::objects::{Objects, Reader};

/// Where certificates are asked for by HTTP-01; always served without TLS.
const CHALLENGE: &str = "/.well-known/acme-challenge/";

/// What routes send to.
pub(super) type Backends = BTreeMap<BackendRef, Arc<BackendSpec>>;

pub(super) fn translate(object: &Object, objects: &Objects) -> Translation {
    if !instance::is_ours(object) {
        return instance::translate(object, objects, |_, _, _| {});
    }
    let findings = Findings::default();
    let reader = Reader::new(objects);
    let mut out = Translation::default();
    let is_served = run(object, &reader, &findings, &mut out);
    for key in object.body.as_object().into_iter().flatten() {
        if key.0 != "spec" {
            let message = format!("{} is not known here and changes nothing", key.0);
            findings.refuse("FieldNotSupported", key.0, message);
        }
    }
    out.diagnostics = findings.take();
    out.reads = reader.into_read();
    out.status = Some(json!({
        "state": if is_served { "Running" } else { "Inactive" },
        "reason": instance::summary(&out.diagnostics),
    }));
    out
}

/// Whether the Mapping is served.
fn run(object: &Object, reader: &Reader<'_>, findings: &Findings, out: &mut Translation) -> bool {
    let settings = module::settings(reader);
    let mut backends = Backends::new();
    let Some(own) = member::read(object, &settings, reader, findings, &mut backends) else {
        return false;
    };
    let group = group(object, own, &settings, reader, &mut backends);
    let plan = Plan::of(&group);
    let own = &object.name;
    let problems = plan.problems.iter().filter(|(of, ..)| of == own);
    for (_, reason, message) in problems.clone() {
        findings.refuse(reason, "spec", message.clone());
    }
    let Some(first) = group.first() else {
        return false;
    };
    let spots = spots::of(
        reader,
        &first.matching.glob,
        &object.labels,
        settings.trusts_proxies,
    );
    if spots.iter().all(|spot| spot.hosts.is_empty()) {
        let message = "no Host takes this Mapping: it is served nowhere; its hostname and labels \
             must fit those of a Host that a Listener takes";
        findings.refuse("NoHost", "spec.hostname", message);
        return false;
    }
    let is_left_out = problems
        .clone()
        .any(|(_, reason, _)| *reason == "NotInGroup");
    if first.name != *own {
        return plan.content.is_some() && !is_left_out;
    }
    let Some(content) = &plan.content else {
        return false;
    };
    let writer = Writer {
        object,
        first,
        content,
        client: settings.client.as_ref(),
        telemetry: told(reader),
    };
    for spot in &spots {
        writer.spot(spot, reader, findings, out);
    }
    out.backends = backends;
    !is_left_out
}

/// What routes tell of requests, if anybody takes it.
fn told(reader: &Reader<'_>) -> Option<Arc<Telemetry>> {
    let (traces, services) = (tracing::rule(reader), logging::services(reader));
    let is_anything = traces.is_some() || !services.is_empty();
    is_anything.then(|| {
        Arc::new(Telemetry {
            traces,
            services,
            ..Telemetry::default()
        })
    })
}

/// The members by name.
fn group(
    object: &Object,
    own: Member,
    settings: &Settings,
    reader: &Reader<'_>,
    backends: &mut Backends,
) -> Vec<Member> {
    let key = matching::group(object.spec());
    let others = reader.foreign_by_key(&MAPPING, &key);
    let others = others.filter(|other| other.name != object.name);
    let scratch = Findings::default();
    let mut group: Vec<_> = others
        .filter_map(|other| member::read(other, settings, reader, &scratch, backends))
        .collect();
    group.push(own);
    group.sort_by(|a, b| a.name.cmp(&b.name));
    group
}

/// What happens to the requests of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Serve,
    /// Over TLS; the others are redirected.
    ServeSecure,
    Redirect,
}

/// The routes of a spot: an extra condition, and the way.
fn ways(spot: &Spot, insecure: Insecure) -> Vec<(Option<Predicate>, Way)> {
    let is_https = |subject: Subject| Predicate {
        subject,
        test: Test::Text {
            how: TextTest::Exact,
            value: "https".into(),
            ignore_case: true,
        },
        negate: false,
        missing_is_empty: false,
    };
    let Security::ByTransport { trusts_proxies } = spot.door.security else {
        let is_secure = spot.door.security == Security::All || insecure == Insecure::Route;
        return match insecure {
            _ if is_secure => vec![(None, Way::Serve)],
            Insecure::Reject => Vec::new(),
            Insecure::Redirect | Insecure::Route => vec![(None, Way::Redirect)],
        };
    };
    if insecure == Insecure::Route || spot.door.is_tls == Some(true) {
        return vec![(None, Way::Serve)];
    }
    let mut ways = Vec::new();
    if trusts_proxies {
        let forwarded = is_https(Subject::Header("x-forwarded-proto".into()));
        ways.push((Some(forwarded), Way::Serve));
    }
    match (insecure, spot.door.is_tls) {
        (Insecure::Reject, None) => ways.push((Some(is_https(Subject::Scheme)), Way::Serve)),
        (Insecure::Reject, Some(_)) => {}
        (_, None) => ways.push((None, Way::ServeSecure)),
        (_, Some(_)) => ways.push((None, Way::Redirect)),
    }
    ways
}

struct Writer<'w> {
    object: &'w Object,
    first: &'w Member,
    content: &'w Content,
    /// Who may say the client's address.
    client: Option<&'w Arc<ClientSource>>,
    telemetry: Option<Arc<Telemetry>>,
}

impl Writer<'_> {
    fn spot(&self, spot: &Spot, reader: &Reader<'_>, findings: &Findings, out: &mut Translation) {
        let mut hosts = Vec::new();
        for host in &spot.hosts {
            match reader.other_owner(host, self.object) {
                Some(owner) if spot.door.bind.is_none() => {
                    let message = format!(
                        "host {host} belongs to the Knative Ingress {}; the Mapping is not served there",
                        owner.owner
                    );
                    findings.say(Effect::Conflict, "DomainConflict", "spec.hostname", message);
                }
                _ => hosts.push(host.clone()),
            }
        }
        if hosts.is_empty() {
            return;
        }
        let is_challenge = self.object.spec()["prefix"]
            .as_str()
            .is_some_and(|prefix| prefix.starts_with(CHALLENGE));
        let insecure = if is_challenge {
            Insecure::Route
        } else {
            spot.insecure
        };
        for (extra, way) in ways(spot, insecure) {
            // An index into a list of a few.
            let at = out.routes.len() as i64;
            let mut one = self.first.matching.matches.clone();
            one.other.extend(spot.condition.clone());
            one.other.extend(extra);
            let mut order = self.first.matching.order.clone();
            order.push(at);
            let (kind, name) = (self.object.kind.kind, &self.object.name);
            let id = format!("emissary/{kind}/{name}#{at}{}", spot.door.suffix());
            let route = Route {
                origin: self.object.origin("spec"),
                bind: spot.door.bind.clone(),
                visibility: Visibility::External,
                hosts: hosts.clone(),
                sort_key: SortKey(order),
                matches: vec![one],
                request_headers: self.content.request_headers.clone(),
                rewrite_host: None,
                filters: FilterSet {
                    client: self.client.cloned(),
                    telemetry: self.telemetry.clone(),
                    ..FilterSet::clone(&self.content.filters)
                }
                .into(),
                action: self.action(way),
            };
            out.routes.push((RouteId(id.into()), Arc::new(route)));
        }
    }

    fn action(&self, way: Way) -> Action {
        let to_https = Redirect {
            scheme: Some("https".into()),
            host: None,
            port: RedirectPort::WellKnown,
            path: None,
            strip_query: false,
            status: 301,
        };
        match (way, &self.content.redirect) {
            (Way::Redirect, _) => Action::Redirect(to_https),
            (Way::Serve, Some(redirect)) => Action::Redirect(redirect.clone()),
            (way, _) => match Split::new(self.content.arms.clone()) {
                Some(split) if way == Way::ServeSecure => Action::ForwardSecure(split),
                Some(split) => Action::Forward(split),
                // Plans with no weight at all have no content.
                None => Action::Redirect(to_https),
            },
        }
    }
}
