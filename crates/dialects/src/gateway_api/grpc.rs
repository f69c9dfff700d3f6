//! GRPCRoute: services and methods are paths (`/service/method`), calls are HTTP/2 requests.

use api::gateway::v1::{GrpcMethodMatch, GrpcRoute, GrpcRouteMatch, GrpcRouteRule};
use routing::model::{HeaderMatch, Match, PathMatch};

use super::RouteTranslation;
use super::attach::Applicant;
use super::backends::Wanted;
use super::http::{expression, text, unsupported};
use super::plan::{Finding, RouteKind};
use super::rules::{self, Alternative, Limits, Route, Rule};
use super::session;
use crate::objects::{Name, Objects};
use crate::shared::headers;

/// Any service or method.
const ANY: &str = "[^/]+";

/// Translates one GRPCRoute.
pub fn translate_grpc(route: &GrpcRoute, objects: &Objects) -> RouteTranslation {
    let name = Name::of(&route.metadata);
    let rules = route.spec.rules.iter().enumerate();
    let rules = rules.map(|(at, rule)| translate_rule(&name, &format!("spec.rules[{at}]"), rule));
    rules::translate(
        Route {
            applicant: Applicant {
                kind: RouteKind::Grpc,
                name: &name,
                parents: &route.spec.parent_refs,
                hostnames: &route.spec.hostnames,
                defaults: route.spec.use_default_gateways.as_deref(),
            },
            metadata: &route.metadata,
            rules: rules.collect(),
        },
        objects,
    )
}

fn translate_rule<'r>(name: &Name, field: &str, rule: &'r GrpcRouteRule) -> Rule<'r> {
    let matches = rule.matches.iter().enumerate();
    let alternatives = matches.map(|(at, one)| alternative(one, &format!("{field}.matches[{at}]")));
    let backends = rule.backend_refs.iter().map(|backend| Wanted {
        group: &backend.group,
        kind: &backend.kind,
        namespace: backend.namespace.as_deref(),
        name: &backend.name,
        port: backend.port,
        weight: backend.weight,
        filters: &backend.filters,
    });
    let session = rule.session_persistence.as_ref();
    let session = session.map(|written| session::translate(written, (name, field)));
    let session = session.transpose();
    Rule {
        name: None,
        alternatives: if rule.matches.is_empty() {
            vec![Ok(Alternative::everything())]
        } else {
            alternatives.collect()
        },
        filters: &rule.filters,
        backends: backends.collect(),
        limits: Ok(Limits::default()),
        ignored: session
            .as_ref()
            .err()
            .map(|text| format!("{field}.sessionPersistence: {text}")),
        session: session.unwrap_or_default(),
    }
}

fn alternative(one: &GrpcRouteMatch, field: &str) -> Result<Alternative, Finding> {
    let method = one.method.as_ref();
    let path = method
        .map(|method| path(method, &format!("{field}.method")))
        .transpose()?
        .flatten();
    let mut wanted: Vec<HeaderMatch> = Vec::new();
    for header in &one.headers {
        let name = headers::name(&header.name).map_err(|text| unsupported(field, &text))?;
        if wanted.iter().all(|known| known.name != name) {
            let value = text(&header.type_, &header.value, &format!("{field}.headers"))?;
            wanted.push(HeaderMatch { name, value });
        }
    }
    let length =
        |text: Option<&String>| i64::try_from(text.map_or(0, String::len)).unwrap_or(i64::MAX);
    // The API's order: longest service, longest method, most headers.
    let precedence = vec![
        -length(method.and_then(|method| method.service.as_ref())),
        -length(method.and_then(|method| method.method.as_ref())),
        -i64::try_from(wanted.len()).unwrap_or(i64::MAX),
    ];
    Ok(Alternative {
        matches: Match {
            path,
            headers: wanted,
            ..Match::default()
        },
        prefix: None,
        precedence,
    })
}

/// `None` if every call matches.
fn path(method: &GrpcMethodMatch, field: &str) -> Result<Option<PathMatch>, Finding> {
    let service = method.service.as_deref().filter(|text| !text.is_empty());
    let name = method.method.as_deref().filter(|text| !text.is_empty());
    let path = match (method.type_.as_str(), service, name) {
        (_, None, None) => return Ok(None),
        ("Exact", Some(service), Some(name)) => {
            PathMatch::Exact(format!("/{service}/{name}").into())
        }
        ("Exact", Some(service), None) => PathMatch::ElementPrefix(format!("/{service}").into()),
        // Method names are identifiers: nothing in them means anything in an expression.
        ("Exact", None, Some(name)) => {
            PathMatch::Regex(expression(&format!("/{ANY}/{name}"), field)?)
        }
        ("RegularExpression", service, name) => {
            let (service, name) = (service.unwrap_or(ANY), name.unwrap_or(ANY));
            PathMatch::Regex(expression(&format!("/(?:{service})/(?:{name})"), field)?)
        }
        (other, _, _) => {
            return Err(unsupported(
                field,
                &format!("type {other:?} is not supported"),
            ));
        }
    };
    Ok(Some(path))
}
