//! What a route changes, as Gateway API's filters and fields; what has none is left for a policy.

use std::time::Duration;

use routing::model::{
    Cors, Filters, HeaderOps, Match, Mirror, Origins, PathEdit, PathMatch, Redirect, RedirectPort,
    Retry, Route, Share,
};
use serde_json::{Map, Value, json};

use super::Writer;

/// Filters of a rule, and what no filter says.
pub(super) struct Written {
    pub(super) filters: Vec<Value>,
    pub(super) rest: Filters,
}

/// Everything that Gateway API has a filter or a field for is taken out of the rest.
pub(super) fn filters(route: &Route, writer: &mut Writer<'_>) -> Result<Written, String> {
    let mut rest = route.filters.clone();
    let response = std::mem::take(&mut rest.response_headers);
    let mut filters = headers("ResponseHeaderModifier", &response);
    filters.extend(rewrite(&mut rest, route)?);
    for mirror in std::mem::take(&mut rest.mirrors) {
        let filter = self::mirror(&mirror, route, writer)?;
        filters.push(filter);
    }
    if let Some(filter) = rest.cors.as_deref().and_then(cors) {
        rest.cors = None;
        filters.push(filter);
    }
    Ok(Written { filters, rest })
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

/// Takes out what is written; a path that a policy has to rewrite stays.
fn rewrite(rest: &mut Filters, route: &Route) -> Result<Option<Value>, String> {
    let mut rewrite = Map::new();
    let host = rest.rewrite_host.take();
    if let Some(host) = host.or_else(|| route.rewrite_host.clone()) {
        if !is_precise(&host) {
            return Err(format!(
                "the host is rewritten to {host}, and Gateway API wants a name in lower case without a port"
            ));
        }
        rewrite.insert("hostname".to_owned(), host.as_ref().into());
    }
    if let Some(path) = rest.rewrite_path.as_ref().and_then(|it| path(it, route)) {
        rest.rewrite_path = None;
        rewrite.insert("path".to_owned(), path);
    }
    let filter = json!({"type": "URLRewrite", "urlRewrite": rewrite});
    Ok((!rewrite.is_empty()).then_some(filter))
}

/// A PreciseHostname of Gateway API.
pub(super) fn is_precise(host: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

/// `None` if Gateway API has no such change.
fn path(edit: &PathEdit, route: &Route) -> Option<Value> {
    match edit {
        PathEdit::Full(full) => Some(json!({"type": "ReplaceFullPath", "replaceFullPath": full})),
        PathEdit::Prefix { matched, with } => {
            let is_it = |it: &Match| matches!(&it.path, Some(PathMatch::ElementPrefix(path)) if path == matched);
            let is_match = !route.matches.is_empty() && route.matches.iter().all(is_it);
            let filter = json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": with});
            is_match.then_some(filter)
        }
        PathEdit::Text { .. } | PathEdit::Regex { .. } => None,
    }
}

fn mirror(mirror: &Mirror, route: &Route, writer: &mut Writer<'_>) -> Result<Value, String> {
    let mut reference = writer.reference(route, &mirror.backend)?;
    let share = serde_json::to_value(mirror.share.reduced()).unwrap_or_default();
    let mut filter = json!({"backendRef": reference.take()});
    if mirror.share.reduced() != Share::ALL {
        filter["fraction"] =
            json!({"numerator": share["numerator"], "denominator": share["denominator"]});
    }
    Ok(json!({"type": "RequestMirror", "requestMirror": filter}))
}

/// `None` if there is something in it that the API cannot say.
fn cors(cors: &Cors) -> Option<Value> {
    if cors.max_age.is_zero() || cors.max_age.subsec_nanos() != 0 {
        return None;
    }
    let origins: Option<Vec<String>> = cors
        .origins
        .iter()
        .map(|origin| match origin {
            Origins::Any => Some("*".to_owned()),
            // An asterisk in it is no wildcard.
            Origins::Exact(origin) => Some(origin.to_string()).filter(|it| !it.contains('*')),
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
        "maxAge": cors.max_age.as_secs(),
    }}))
}

/// The filter, and what it means differently.
pub(super) fn redirect(
    redirect: &Redirect,
    route: &Route,
) -> Result<(Value, Option<&'static str>), String> {
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
        if !is_precise(host) {
            return Err(format!(
                "the redirect is to {host}, and Gateway API wants a name in lower case without a port"
            ));
        }
        written.insert("hostname".to_owned(), host.as_ref().into());
    }
    let changed = match (redirect.port, &redirect.scheme) {
        (RedirectPort::Number(port), _) => {
            written.insert("port".to_owned(), port.into());
            None
        }
        (RedirectPort::WellKnown, Some(_)) | (RedirectPort::Listener, None) => None,
        (RedirectPort::WellKnown, None) => {
            Some("the location has no port here, and the listener's there if it is not the usual")
        }
        (RedirectPort::Listener, Some(_)) => {
            Some("the location has the listener's port here and the scheme's usual one there")
        }
    };
    if let Some(edit) = &redirect.path {
        let path = path(edit, route).ok_or("Gateway API has no such change of the path")?;
        written.insert("path".to_owned(), path);
    }
    let filter = json!({"type": "RequestRedirect", "requestRedirect": written});
    Ok((filter, changed))
}

/// Takes out what is written: times that the API can say, and a try that is not longer than all.
pub(super) fn timeouts(rest: &mut Filters) -> Map<String, Value> {
    let mut limits = Map::new();
    let whole = rest.request_timeout;
    if let Some(text) = whole.and_then(duration) {
        limits.insert("request".to_owned(), text.into());
        rest.request_timeout = None;
    }
    let one = rest.try_timeout;
    let fits = whole.is_none_or(|whole| one.is_none_or(|one| one <= whole));
    if let Some(text) = one.and_then(duration).filter(|_| fits) {
        limits.insert("backendRequest".to_owned(), text.into());
        rest.try_timeout = None;
    }
    limits
}

/// `None` if it means more than the API's own retries.
pub(super) fn retry(retry: &Retry) -> Option<Value> {
    let plain = Retry {
        on_failure: true,
        when: Default::default(),
        max_pause: retry.pause,
        avoid_tried: false,
        ..retry.clone()
    };
    if *retry != plain {
        return None;
    }
    let mut written = json!({"attempts": retry.attempts, "backoff": duration(retry.pause)?});
    if !retry.statuses.is_empty() {
        written["codes"] = json!(retry.statuses);
    }
    Some(written)
}

/// As the API writes durations: up to five digits of each unit. `None` for nothing, and for what
/// is shorter than a millisecond or longer than eleven years.
fn duration(duration: Duration) -> Option<String> {
    let all = duration.as_millis();
    let units = [
        ("h", all / 3_600_000),
        ("m", all / 60_000 % 60),
        ("s", all / 1000 % 60),
        ("ms", all % 1000),
    ];
    let there = units.iter().filter(|(_, number)| *number > 0);
    let text: String = there
        .map(|(unit, number)| format!("{number}{unit}"))
        .collect();
    let is_exact = duration.subsec_nanos().is_multiple_of(1_000_000) && units[0].1 <= 99_999;
    (is_exact && all > 0).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_five_digits_of_each_unit() {
        let check = |millis: u64, expected: Option<&str>| {
            let written = duration(Duration::from_millis(millis));
            assert_eq!(written.as_deref(), expected, "{millis}");
        };
        check(120_000, Some("2m"));
        check(1_500, Some("1s500ms"));
        check(3_600_001, Some("1h1ms"));
        check(0, None);
        check(99_999 * 3_600_000, Some("99999h"));
        check(100_000 * 3_600_000, None);
        assert_eq!(duration(Duration::from_micros(1500)), None);
    }
}
