//! An HTTPProxy: as a root with all that it includes, or as a child for its status.

use std::sync::Arc;

use routing::model::tls::{TlsAction, TlsHost, TlsId};
use routing::model::{
    Action, ClientSource, Guards, HostPattern, RateLimitService, Redirect, RedirectPort, Route,
    RouteId, SortKey, Tokens, Visibility,
};

use super::configuration::Settings;
use super::extension::Asked;
use super::host::{Prepared, Shared, VirtualHost};
use super::limit::Global;
use super::plan::{self, Planned, Planning};
use super::spec::{self, Spec};
use super::status::{Problem, Told, kind};
use super::walk::Walk;
use super::{DIALECT, child, tcp};
use crate::fields::Findings;
use crate::foreign::{Object, Translation};
use crate::objects::{Name, Objects, Reader};
use crate::shared::scheme;

/// Translates one HTTPProxy.
pub(super) fn translate(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    let findings = Findings::default();
    let mut walk = Walk::new(&reader);
    let spec = Spec::read(object, &reader, &findings);
    let mut out = Translation::default();
    if spec.host.is_some() {
        walk_root(object, &spec, &findings, &mut walk, &mut out);
    } else {
        child::judge(object, &mut walk);
        walk.judge(&object.name).absorb(&findings);
    }
    let judgement = walk.judged.remove(&object.name).unwrap_or_default();
    // What is not served needs no backends.
    if !out.routes.is_empty() || !out.tls.is_empty() {
        out.backends = std::mem::take(&mut walk.facts.backends.found);
    }
    out.diagnostics = judgement.diagnostics();
    out.status = Some(if spec::is_legacy(object) {
        judgement.legacy_status()
    } else {
        judgement.status("HTTPProxy", object.generation)
    });
    out.reads = reader.into_read();
    out
}

/// Serves a root, if it can be. What is wrong stands in the walk's judgements.
pub(super) fn walk_root(
    object: &Object,
    spec: &Spec,
    findings: &Findings,
    walk: &mut Walk<'_, '_>,
    out: &mut Translation,
) {
    let Some(host) = &spec.host else { return };
    let judgement = walk.judge(&object.name);
    judgement.absorb(findings);
    if judgement.has_misread() {
        return;
    }
    if let Err(problem) = serve(object, spec, host, walk, out) {
        walk.judge(&object.name).error(problem);
        *out = Translation::default();
    }
}

fn serve(
    object: &Object,
    spec: &Spec,
    host: &VirtualHost,
    walk: &mut Walk<'_, '_>,
    out: &mut Translation,
) -> Told<()> {
    let pattern = host.pattern(object, walk.reader)?;
    let settings = Settings::read(walk.reader);
    let mut prepared = host.prepare(object, spec, &settings, &mut walk.facts.backends)?;
    walk.facts.has_tls = host.tls.is_some();
    walk.facts.forbids_insecure = settings.forbids_insecure;
    walk.facts.default_provider = prepared.default_provider.clone();
    let mut assembly = Assembly {
        object,
        host,
        authorization: settings.authorization.as_ref(),
        client: settings.client.as_ref(),
        limits: None,
        visibility: if spec::is_internal(object) {
            Visibility::ClusterLocal
        } else {
            Visibility::External
        },
        pattern,
        prepared: Prepared::default(),
        shared: Shared::default(),
    };
    if let Some(tcp) = &spec.tcp {
        let split = tcp::resolve(object, tcp, host, walk)?;
        out.tls
            .push(assembly.tls(match prepared.termination.take() {
                None => TlsAction::Passthrough(split),
                Some(mut termination) => {
                    // What is inside is the backend's business.
                    termination.protocols.clear();
                    TlsAction::Relay(termination, split)
                }
            }));
    }
    let routes = walk.routes(object, spec, &[], "");
    assembly.shared = host.shared(walk.judge(&object.name))?;
    check_providers(&routes, &prepared)?;
    assembly.limits = limits(object, &routes, &mut assembly.shared, &settings, walk);
    if spec.tcp.is_none()
        && let Some(termination) = prepared.termination.take()
    {
        out.tls
            .push(assembly.tls(TlsAction::Terminate(termination)));
    }
    assembly.prepared = prepared;
    for (key, planned) in plan::order(routes) {
        assembly.route(key, planned, out);
    }
    Ok(())
}

/// Every provider that a route asks for must be there: without it nobody would verify.
fn check_providers(routes: &[Planned], prepared: &Prepared) -> Told<()> {
    for route in routes {
        if let Some(name) = &route.provider
            && !prepared.providers.contains_key(name)
        {
            let text = format!("Route references an undefined JWT provider {name:?}");
            let field = "spec.virtualhost.jwtProviders";
            return Err(Problem::new(
                kind::JWT,
                "JWTProviderNotDefined",
                field,
                text,
            ));
        }
    }
    Ok(())
}

/// Who is asked for limits of these routes, if any of them has some.
fn limits(
    object: &Object,
    routes: &[Planned],
    shared: &mut Shared,
    settings: &Settings,
    walk: &mut Walk<'_, '_>,
) -> Option<RateLimitService> {
    if let (Global::Unsaid, Some(service)) = (&shared.limits.global, &settings.limits) {
        shared.limits.global = service.default.clone();
    }
    let of_host = &shared.limits.global;
    let mut asked = routes.iter().filter(|route| {
        let global = route.limits.global.or(of_host);
        !global.descriptors().is_empty()
    });
    let is_asked = asked.next().is_some();
    if let Some(service) = &settings.limits {
        return is_asked.then(|| service.resolve(&mut walk.facts.backends));
    }
    let of_routes = routes.iter().map(|route| {
        let origin = &route.origin;
        let name = Name::new(&origin.namespace, &origin.name);
        (name, &route.limits.global)
    });
    let of_host = (object.name.clone(), of_host);
    for (name, global) in of_routes.chain([of_host]) {
        if let Global::Said { field, .. } = global {
            let text = "no ContourConfiguration names a rateLimitService: nothing is limited";
            let problem = Problem::new(kind::SPEC, "RateLimitServiceMissing", field, text);
            walk.judge(&name).warn(problem);
        }
    }
    None
}

/// What the records of one root have in common.
struct Assembly<'a> {
    object: &'a Object,
    host: &'a VirtualHost,
    /// For everybody who does not say who decides.
    authorization: Option<&'a Asked>,
    client: Option<&'a Arc<ClientSource>>,
    /// Without descriptors.
    limits: Option<RateLimitService>,
    visibility: Visibility,
    pattern: HostPattern,
    prepared: Prepared,
    shared: Shared,
}

impl Assembly<'_> {
    fn tls(&self, action: TlsAction) -> (TlsId, Arc<TlsHost>) {
        let id = TlsId(format!("{}/spec.virtualhost.tls", place(self.object)).into());
        let record = TlsHost {
            origin: self.object.origin("spec.virtualhost.tls"),
            bind: None,
            visibility: self.visibility,
            names: vec![self.pattern.clone()],
            sort_key: SortKey(vec![self.object.created]),
            action,
        };
        (id, Arc::new(record))
    }

    fn route(&self, key: Vec<i64>, planned: Planned, out: &mut Translation) {
        let id = format!("{}/{}", place(self.object), planned.id);
        let matched = planned.conditions.matched();
        let mut filters = planned.filters.clone();
        filters.rewrite_path = planned.edit();
        filters.cors = self.shared.cors.clone();
        filters.client = self.client.cloned();
        let guards = self.guards(&planned);
        filters.guards = (!guards.is_empty()).then(|| Arc::new(guards));
        let action = match planned.action {
            Planning::Forward(split) if planned.secure_only => Action::ForwardSecure(split),
            Planning::Forward(split) => Action::Forward(split),
            Planning::Respond(respond) => Action::Respond(respond),
            Planning::Redirect(elsewhere) => {
                Action::Redirect(elsewhere.redirect(&planned.conditions.path))
            }
        };
        let is_forward = matches!(action, Action::Forward(_) | Action::ForwardSecure(_));
        let mut route = Route {
            origin: planned.origin,
            bind: None,
            visibility: self.visibility,
            hosts: vec![self.pattern.clone()],
            sort_key: SortKey(key),
            matches: vec![matched],
            request_headers: planned.request_headers,
            rewrite_host: planned.rewrite_host,
            filters,
            action,
        };
        if planned.secure_only && !is_forward {
            let mut upgrade = to_https(&route);
            upgrade.sort_key.0.push(0);
            route.sort_key.0.push(1);
            let id = RouteId(format!("{id}#http").into());
            out.routes.push((id, Arc::new(upgrade)));
        }
        out.routes.push((RouteId(id.into()), Arc::new(route)));
    }

    fn guards(&self, planned: &Planned) -> Guards {
        let provider = planned.provider.as_ref();
        let provider = provider.and_then(|name| self.prepared.providers.get(name));
        let tokens = provider.map(|provider| Tokens {
            providers: vec![provider.clone()],
            required: true,
        });
        // A route's own addresses take the place of the host's, as its own limit does.
        let addresses = planned
            .addresses
            .as_ref()
            .or(self.shared.addresses.as_ref());
        let of_host = &self.shared.limits;
        let limit = planned.limits.local.as_ref().or(of_host.local.as_ref());
        let descriptors = planned.limits.global.or(&of_host.global).descriptors();
        let asked = self.limits.as_ref().filter(|_| !descriptors.is_empty());
        let asked = asked.map(|service| RateLimitService {
            descriptors: descriptors.to_vec(),
            ..service.clone()
        });
        Guards {
            tokens: tokens.map(Arc::new),
            authorization: addresses.cloned().map(Arc::new),
            external: self.external(planned),
            rate_limits: limit.cloned().into_iter().collect(),
            limit_services: asked.into_iter().map(Arc::new).collect(),
            no_upgrade: planned.no_upgrade,
            ..Guards::default()
        }
    }

    fn external(&self, planned: &Planned) -> Option<Arc<routing::model::ExternalAuthorization>> {
        let mut external = self.prepared.external.clone()?;
        let own = self
            .host
            .authorization
            .as_ref()
            .filter(|asked| asked.is_named());
        let asked = own.or(self.authorization)?;
        let written = self.host.authorization.as_ref().unwrap_or(asked);
        let disabled = planned.authorization.disabled.or(written.choice.disabled);
        if disabled.or(asked.choice.disabled) == Some(true) {
            return None;
        }
        external.context = asked.context(&planned.authorization);
        Some(Arc::new(external))
    }
}

/// What the ids of an object's records begin with.
fn place(object: &Object) -> String {
    if spec::is_legacy(object) {
        format!("{DIALECT}-ingressroute/{}", object.name)
    } else {
        format!("{DIALECT}/{}", object.name)
    }
}

/// The same route for plain HTTP: it leads to HTTPS.
fn to_https(route: &Route) -> Route {
    Route {
        matches: scheme::over_http(&route.matches),
        request_headers: Default::default(),
        rewrite_host: None,
        filters: Default::default(),
        action: Action::Redirect(Redirect {
            scheme: Some("https".into()),
            host: None,
            port: RedirectPort::WellKnown,
            path: None,
            strip_query: false,
            status: 301,
        }),
        ..route.clone()
    }
}
