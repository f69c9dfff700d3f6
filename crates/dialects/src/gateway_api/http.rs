//! HTTPRoute: its rules in the form that all routes share.

use api::gateway::reason;
use api::gateway::v1::{HttpRoute, HttpRouteMatch, HttpRouteRetry, HttpRouteRule};
use routing::model::{HeaderMatch, Match, PathMatch, QueryMatch, RetryWhen, TextMatch};

use super::RouteTranslation;
use super::attach::Applicant;
use super::backends::Wanted;
use super::plan::{Finding, RouteKind};
use super::rules::{self, Alternative, Limits, Route, Rule};
use super::session;
use crate::objects::{Name, Objects};
use crate::shared::headers;

/// Translates one HTTPRoute.
pub fn translate_http(route: &HttpRoute, objects: &Objects) -> RouteTranslation {
    let name = Name::of(&route.metadata);
    let rules = route.spec.rules.iter().enumerate();
    let rules = rules.map(|(at, rule)| translate_rule(&name, &format!("spec.rules[{at}]"), rule));
    rules::translate(
        Route {
            applicant: Applicant {
                kind: RouteKind::Http,
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

fn translate_rule<'r>(name: &Name, field: &str, rule: &'r HttpRouteRule) -> Rule<'r> {
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
    let limits = limits(rule, field);
    let session = rule.session_persistence.as_ref();
    let session = session.map(|written| session::translate(written, (name, field)));
    let session = session.transpose();
    Rule {
        name: rule.name.as_deref(),
        alternatives: if rule.matches.is_empty() {
            vec![Ok(Alternative::everything())]
        } else {
            alternatives.collect()
        },
        filters: &rule.filters,
        backends: backends.collect(),
        limits,
        ignored: session
            .as_ref()
            .err()
            .map(|text| format!("{field}.sessionPersistence: {text}")),
        session: session.unwrap_or_default(),
    }
}

fn alternative(one: &HttpRouteMatch, field: &str) -> Result<Alternative, Finding> {
    let value = one.path.value.as_str();
    let (path, rank) = match one.path.type_.as_str() {
        "Exact" => (Some(PathMatch::Exact(value.into())), 0),
        "RegularExpression" => {
            let path = expression(value, &format!("{field}.path"))?;
            (Some(PathMatch::Regex(path)), 1)
        }
        "PathPrefix" if value == "/" => (None, 2),
        "PathPrefix" => (Some(PathMatch::ElementPrefix(value.into())), 2),
        other => {
            let text = format!("{field}.path.type {other:?} is not supported");
            return Err(Finding::new(reason::UNSUPPORTED_VALUE, text));
        }
    };
    let mut wanted: Vec<HeaderMatch> = Vec::new();
    for header in &one.headers {
        let name = headers::name(&header.name).map_err(|text| unsupported(field, &text))?;
        // Of names that are equal but for case, the first counts.
        if wanted.iter().all(|known| known.name != name) {
            let value = text(&header.type_, &header.value, &format!("{field}.headers"))?;
            wanted.push(HeaderMatch { name, value });
        }
    }
    let mut query: Vec<QueryMatch> = Vec::new();
    for parameter in &one.query_params {
        let value = text(
            &parameter.type_,
            &parameter.value,
            &format!("{field}.queryParams"),
        )?;
        let name = parameter.name.as_str().into();
        query.push(QueryMatch { name, value });
    }
    let length = |list: usize| i64::try_from(list).unwrap_or(i64::MAX);
    // The API's order: exact paths, longest prefixes, a method, most headers, most parameters.
    let precedence = vec![
        rank,
        -length(value.len()),
        i64::from(one.method.is_none()),
        -length(wanted.len()),
        -length(query.len()),
    ];
    let prefix = (rank == 2).then(|| value.into());
    Ok(Alternative {
        matches: Match {
            path,
            method: one.method.as_deref().map(Into::into),
            headers: wanted,
            query,
            other: Vec::new(),
        },
        prefix,
        precedence,
    })
}

/// How a header or parameter is compared.
pub(super) fn text(type_: &str, value: &str, field: &str) -> Result<TextMatch, Finding> {
    match type_ {
        "Exact" => Ok(TextMatch::Exact(value.into())),
        "RegularExpression" => Ok(TextMatch::Regex(expression(value, field)?)),
        other => {
            let text = format!("{field}: type {other:?} is not supported");
            Err(Finding::new(reason::UNSUPPORTED_VALUE, text))
        }
    }
}

/// A regular expression that compiles.
pub(super) fn expression(text: &str, field: &str) -> Result<std::sync::Arc<str>, Finding> {
    match routing::regex::compile(text) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(unsupported(field, &format!("{text:?}: {error}"))),
    }
}

pub(super) fn unsupported(field: &str, text: &str) -> Finding {
    Finding::new(reason::UNSUPPORTED_VALUE, format!("{field}: {text}"))
}

fn limits(rule: &HttpRouteRule, field: &str) -> Result<Limits, Finding> {
    let mut limits = Limits::default();
    if let Some(timeouts) = &rule.timeouts {
        let parse = |text: Option<&String>| match text {
            None => Ok(None),
            Some(text) => api::duration::parse(text)
                .map(|duration| Some(duration).filter(|duration| !duration.is_zero()))
                .map_err(|error| unsupported(&format!("{field}.timeouts"), &error.to_string())),
        };
        limits.request = parse(timeouts.request.as_ref())?;
        limits.one_try = parse(timeouts.backend_request.as_ref())?;
    }
    if let Some(retry) = &rule.retry {
        limits.retry = Some(translate_retry(retry, &format!("{field}.retry"))?);
    }
    Ok(limits)
}

fn translate_retry(retry: &HttpRouteRetry, field: &str) -> Result<routing::model::Retry, Finding> {
    let statuses = retry
        .codes
        .iter()
        .filter_map(|code| u16::try_from(*code).ok());
    let pause = match &retry.backoff {
        None => DEFAULT_PAUSE,
        Some(text) => {
            api::duration::parse(text).map_err(|error| unsupported(field, &error.to_string()))?
        }
    };
    Ok(routing::model::Retry {
        attempts: retry
            .attempts
            .map_or(1, |count| u32::try_from(count).unwrap_or(1)),
        statuses: statuses.collect(),
        on_failure: true,
        // UNAVAILABLE: the backend says that it did not act on the call.
        when: RetryWhen {
            grpc: vec![14],
            ..RetryWhen::default()
        },
        pause,
        max_pause: pause,
        avoid_tried: false,
    })
}

/// The API leaves the pause to us if it is not said.
const DEFAULT_PAUSE: std::time::Duration = std::time::Duration::from_millis(25);
