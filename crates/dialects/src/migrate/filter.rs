//! What a route changes, as Gateway API's filters; and what has no filter there.

use std::time::Duration;

use routing::model::{
    Cors, Filters, HeaderOps, Mirror, Origins, PathEdit, PathMatch, Redirect, RedirectPort, Retry,
    Route,
};
use serde_json::{Map, Value, json};

use super::{Input, reference};

/// Filters of a rule, and what is lost.
pub(super) struct Written {
    pub(super) filters: Vec<Value>,
    pub(super) lost: Vec<String>,
}

pub(super) fn filters(filters: &Filters, route: &Route, input: &Input) -> Result<Written, String> {
    let mut written = Written {
        filters: headers("ResponseHeaderModifier", &filters.response_headers),
        lost: Vec::new(),
    };
    written.filters.extend(rewrite(filters, route)?);
    for mirror in &filters.mirrors {
        written.filters.push(self::mirror(mirror, input)?);
    }
    match filters.cors.as_deref().map(cors) {
        Some(Some(filter)) => written.filters.push(filter),
        Some(None) => written
            .lost
            .push("origins of CORS are expressions".to_owned()),
        None => {}
    }
    if !filters.request_templates.is_empty() || !filters.response_templates.is_empty() {
        let text = "headers whose values depend on the request have no filter there";
        written.lost.push(text.to_owned());
    }
    if filters.telemetry.is_some() {
        let text = "Gateway API has no place for what lines and spans tell: keep the Telemetry";
        written.lost.push(text.to_owned());
    }
    if filters.client.is_some() {
        let text = "Gateway API has no place for who may say the client's address";
        written.lost.push(text.to_owned());
    }
    if let Some(guards) = filters.guards.as_ref().filter(|guards| !guards.is_empty()) {
        let parts = [
            ("fault injection", guards.fault.is_some()),
            ("JSON Web Tokens", guards.tokens.is_some()),
            ("authorization", guards.authorization.is_some()),
            ("credentials", guards.credentials.is_some()),
            ("external authorization", guards.external.is_some()),
            ("rate limits", !guards.rate_limits.is_empty()),
            ("circuit breakers", !guards.breakers.is_empty()),
            ("quotas", !guards.quotas.is_empty()),
            ("adaptive concurrency", guards.concurrency.is_some()),
            ("the limit of the body", guards.max_body.is_some()),
            ("the refusal of upgrades", guards.no_upgrade),
        ];
        // Without these the rule would let in whom it keeps out.
        let protects = guards.tokens.is_some()
            || guards.authorization.is_some()
            || guards.credentials.is_some()
            || guards.external.is_some();
        let there = parts.iter().filter(|(_, is_there)| *is_there);
        let names: Vec<_> = there.map(|(name, _)| *name).collect();
        let text = format!("Gateway API has no place for {}", names.join(", "));
        if protects {
            return Err(text);
        }
        written.lost.push(text);
    }
    Ok(written)
}

/// A filter that edits headers, if it edits any.
pub(super) fn headers(type_: &str, ops: &HeaderOps) -> Vec<Value> {
    if ops.is_empty() {
        return Vec::new();
    }
    let pairs = |pairs: &[(std::sync::Arc<str>, std::sync::Arc<str>)]| -> Vec<Value> {
        let pairs = pairs.iter();
        let pairs = pairs.map(|(name, value)| json!({"name": name, "value": value}));
        pairs.collect()
    };
    let mut edits = Map::new();
    for (field, list) in [("set", pairs(&ops.set)), ("add", pairs(&ops.add))] {
        if !list.is_empty() {
            edits.insert(field.to_owned(), list.into());
        }
    }
    if !ops.remove.is_empty() {
        edits.insert("remove".to_owned(), json!(ops.remove));
    }
    let mut filter = json!({"type": type_});
    let first = type_[..1].to_lowercase();
    filter[format!("{first}{}", &type_[1..])] = Value::Object(edits);
    vec![filter]
}

fn rewrite(filters: &Filters, route: &Route) -> Result<Option<Value>, String> {
    let mut rewrite = Map::new();
    let host = filters
        .rewrite_host
        .as_ref()
        .or(route.rewrite_host.as_ref());
    if let Some(host) = host {
        rewrite.insert("hostname".to_owned(), host.as_ref().into());
    }
    if let Some(edit) = &filters.rewrite_path {
        let all_begin_with = |matched: &str| {
            let mut matches = route.matches.iter();
            !route.matches.is_empty()
                && matches.all(|it| {
                    matches!(&it.path, Some(PathMatch::ElementPrefix(path)) if **path == *matched)
                })
        };
        let path = match edit {
            PathEdit::Prefix { matched, .. } if !all_begin_with(matched) => {
                return Err(format!(
                    "the rewrite of {matched} is not of the path that matches"
                ));
            }
            edit => path(edit)?,
        };
        rewrite.insert("path".to_owned(), path);
    }
    let filter = json!({"type": "URLRewrite", "urlRewrite": rewrite});
    Ok((!rewrite.is_empty()).then_some(filter))
}

fn path(edit: &PathEdit) -> Result<Value, String> {
    match edit {
        PathEdit::Full(full) => Ok(json!({"type": "ReplaceFullPath", "replaceFullPath": full})),
        PathEdit::Prefix { with, .. } => {
            Ok(json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": with}))
        }
        PathEdit::Text { matched, .. } => Err(format!(
            "the path is rewritten from the characters {matched:?} on, and Gateway API replaces whole elements"
        )),
        PathEdit::Regex { pattern, .. } => Err(format!(
            "the path is rewritten by the expression {pattern:?}, which Gateway API has not"
        )),
    }
}

fn mirror(mirror: &Mirror, input: &Input) -> Result<Value, String> {
    let reference = reference(input, &mirror.backend)?;
    let service = &reference.service;
    let share = serde_json::to_value(mirror.share).unwrap_or_default();
    Ok(json!({"type": "RequestMirror", "requestMirror": {
        "backendRef": {"name": service.name, "namespace": service.namespace, "port": reference.port},
        "fraction": {"numerator": share["numerator"], "denominator": share["denominator"]},
    }}))
}

/// `None` if there is an origin that the API cannot say.
fn cors(cors: &Cors) -> Option<Value> {
    let origins: Option<Vec<String>> = cors
        .origins
        .iter()
        .map(|origin| match origin {
            Origins::Any => Some("*".to_owned()),
            Origins::Exact(origin) => Some(origin.to_string()),
            Origins::Wildcard { scheme, suffix } => Some(format!("{scheme}://*{suffix}")),
            Origins::Regex(_) | Origins::Prefix(_) => None,
        })
        .collect();
    Some(json!({"type": "CORS", "cors": {
        "allowOrigins": origins?,
        "allowMethods": cors.methods,
        "allowHeaders": cors.headers,
        "exposeHeaders": cors.expose,
        "allowCredentials": cors.credentials,
        "maxAge": cors.max_age.as_secs().max(1),
    }}))
}

pub(super) fn redirect(redirect: &Redirect) -> Result<Value, String> {
    let mut written = Map::new();
    if !matches!(redirect.status, 301 | 302 | 303 | 307 | 308) {
        return Err(format!(
            "Gateway API has no redirect with {}",
            redirect.status
        ));
    }
    if redirect.strip_query {
        return Err("the redirect leaves out the query, and Gateway API keeps it".to_owned());
    }
    written.insert("statusCode".to_owned(), redirect.status.into());
    if let Some(scheme) = &redirect.scheme {
        written.insert("scheme".to_owned(), scheme.as_ref().into());
    }
    if let Some(host) = &redirect.host {
        written.insert("hostname".to_owned(), host.as_ref().into());
    }
    if let RedirectPort::Number(port) = redirect.port {
        written.insert("port".to_owned(), port.into());
    }
    if let Some(edit) = &redirect.path {
        written.insert("path".to_owned(), path(edit)?);
    }
    Ok(json!({"type": "RequestRedirect", "requestRedirect": written}))
}

pub(super) fn timeouts(filters: &Filters) -> Map<String, Value> {
    let limits = [
        ("request", filters.request_timeout),
        ("backendRequest", filters.try_timeout),
    ];
    let there = limits
        .into_iter()
        .filter_map(|(field, limit)| Some((field.to_owned(), duration(limit?).into())));
    there.collect()
}

/// And what of it is lost.
pub(super) fn retry(retry: &Retry) -> (Value, Option<&'static str>) {
    let mut written = json!({"attempts": retry.attempts, "backoff": duration(retry.pause)});
    if !retry.statuses.is_empty() {
        written["codes"] = json!(retry.statuses);
    }
    let has_more = retry.when != Default::default() || retry.avoid_tried;
    let lost = "retries on more than statuses and failures have no place there";
    (written, has_more.then_some(lost))
}

/// In milliseconds, which every duration of the API can be.
fn duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}
