//! What a route changes and limits.

use routing::model::{
    ClientPlace, ClientSource, Cors, Filters, Origins, PathEdit, Respond, Retry, Template,
    TrustedProxies,
};
use serde_json::{Map, Value, json};

use super::super::edits::Templates;
use super::super::read::FAILURE;
use super::{Section, Writer, answer, any_time, sorted, texts, time};

pub(super) fn write(writer: &mut Writer, filters: &Filters, answer: Option<&Respond>) {
    if let Some(cors) = &filters.cors {
        writer.put(
            ("cors", "filters.cors"),
            self::cors(cors),
            &plain_cors(cors),
            |said| Some(plain_cors(said.cors.as_deref()?)),
        );
    }
    let limits = (filters.request_timeout, filters.try_timeout);
    if limits != (None, None) {
        writer.put(
            ("timeouts", "filters.timeouts"),
            timeouts(filters),
            &limits,
            |said| Some((said.request_timeout, said.try_timeout)),
        );
    }
    if let Some(retry) = &filters.retry {
        writer.put(
            ("retries", "filters.retry"),
            self::retry(retry),
            &plain_retry(retry),
            |said| Some(plain_retry(said.retry.as_deref()?)),
        );
    }
    if let Some(client) = &filters.client {
        writer.put(
            ("clientAddress", "filters.client"),
            self::client(client),
            &**client,
            |said| said.client.as_deref().cloned(),
        );
    }
    if !filters.rewrites.is_empty() {
        let why = "no policy changes statuses and bodies of answers: do it in the Service";
        writer.miss("filters.rewrites", why);
    }
    if filters.cookies.is_some() {
        let why = "no policy changes attributes of cookies: keep the HTTPProxy, or let the backend \
                   set them";
        writer.miss("filters.cookies", why);
    }
    if filters.telemetry.is_some() {
        let why = "no policy says which requests have lines and spans: keep the Telemetry";
        writer.miss("filters.telemetry", why);
    }
    if let Some(edit) = &filters.rewrite_path {
        writer.put(
            ("rewritePath", "filters.rewrite_path"),
            Ok(rewrite(edit)),
            edit,
            |said| said.edits.path,
        );
    }
    edits(writer, filters, answer);
}

fn edits(writer: &mut Writer, filters: &Filters, answer: Option<&Respond>) {
    let templates = Templates {
        request: filters.request_templates.clone(),
        response: filters.response_templates.clone(),
    };
    if templates != Templates::default() {
        let mut section = Map::new();
        let lists = [
            ("request", &templates.request),
            ("response", &templates.response),
        ];
        for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            section.insert(key.to_owned(), list.iter().map(template).collect());
        }
        writer.put(
            ("headerTemplates", "filters.templates"),
            Ok(Value::Object(section)),
            &templates,
            |said| said.edits.templates,
        );
    }
    if let Some(respond) = answer {
        writer.put(
            ("directResponse", "action"),
            Ok(self::answer(respond)),
            &sorted(respond),
            |said| Some(sorted(&said.edits.answer?)),
        );
    }
}

fn cors(cors: &Cors) -> Section {
    let mut section = json!({"allowCredentials": cors.credentials});
    section["maxAge"] = any_time(cors.max_age)?;
    for origin in &cors.origins {
        let (key, text) = match origin {
            Origins::Any => ("allowOrigins", "*".to_owned()),
            Origins::Exact(origin) => ("allowOrigins", origin.to_string()),
            Origins::Wildcard { scheme, suffix } => {
                ("allowOrigins", format!("{scheme}://*{suffix}"))
            }
            Origins::Regex(expression) => ("allowOriginRegexes", expression.to_string()),
            Origins::Prefix(prefix) => ("allowOriginPrefixes", prefix.to_string()),
        };
        match &mut section[key] {
            Value::Array(list) => list.push(text.into()),
            none => *none = json!([text]),
        }
    }
    let lists = [
        ("allowMethods", &cors.methods),
        ("allowHeaders", &cors.headers),
        ("exposeHeaders", &cors.expose),
    ];
    for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        section[key] = texts(list);
    }
    Ok(section)
}

/// One of the origins is enough, whichever comes first.
pub(super) fn plain_cors(cors: &Cors) -> Cors {
    let mut cors = cors.clone();
    cors.origins.sort_by_key(|origin| format!("{origin:?}"));
    cors
}

fn timeouts(filters: &Filters) -> Section {
    let mut section = Map::new();
    let limits = [
        ("request", filters.request_timeout),
        ("perTry", filters.try_timeout),
    ];
    for (key, limit) in limits {
        if let Some(limit) = limit {
            section.insert(key.to_owned(), time(limit)?);
        }
    }
    Ok(Value::Object(section))
}

fn retry(retry: &Retry) -> Section {
    let retry = plain_retry(retry);
    let when = &retry.when;
    let mut words = Vec::new();
    let flags = [
        ("5xx", when.any_5xx),
        ("connect-failure", when.connect_failure && !when.any_5xx),
        ("reset", when.reset && !when.any_5xx),
        ("refused-stream", when.refused_stream && !when.reset),
    ];
    words.extend(
        flags
            .into_iter()
            .filter(|(_, is)| *is)
            .map(|(word, _)| word),
    );
    for status in &when.grpc {
        words.push(match status {
            1 => "cancelled",
            4 => "deadline-exceeded",
            8 => "resource-exhausted",
            13 => "internal",
            14 => "unavailable",
            other => return Err(format!("gRPC status {other} has no word")),
        });
    }
    if retry.on_failure {
        words.push(FAILURE);
    }
    if !when.headers.is_empty() {
        return Err("answers are not tried again by their headers".to_owned());
    }
    if words.is_empty() && retry.statuses.is_empty() {
        return Err("a policy without a reason has reasons of its own".to_owned());
    }
    let mut section = json!({
        "attempts": retry.attempts,
        "pause": any_time(retry.pause)?,
        "maxPause": any_time(retry.max_pause)?,
        "avoidTried": retry.avoid_tried,
    });
    if !words.is_empty() {
        section["on"] = json!(words);
    }
    if !retry.statuses.is_empty() {
        section["statuses"] = json!(retry.statuses);
    }
    Ok(section)
}

/// The same reasons, each said once.
pub(super) fn plain_retry(retry: &Retry) -> Retry {
    let mut retry = retry.clone();
    retry.max_pause = retry.max_pause.max(retry.pause);
    retry.statuses.sort_unstable();
    retry.statuses.dedup();
    let when = &mut retry.when;
    if when.any_5xx {
        retry.statuses.retain(|status| !(500..600).contains(status));
    }
    when.refused_stream |= when.reset;
    when.grpc.sort_unstable();
    when.grpc.dedup();
    retry
}

fn client(client: &ClientSource) -> Section {
    let mut section = match &client.place {
        ClientPlace::Header(name) => json!({"header": name}),
        ClientPlace::Query(name) => {
            return Err(format!("query parameter {name} says nobody's address"));
        }
    };
    match &client.trust {
        TrustedProxies::Hops(hops) => section["trustedHops"] = (*hops).into(),
        TrustedProxies::Networks {
            networks,
            is_recursive,
        } => {
            let networks = networks.iter().map(ToString::to_string);
            section["trustedNetworks"] = networks.collect();
            section["recursive"] = (*is_recursive).into();
        }
    }
    Ok(section)
}

fn rewrite(edit: &PathEdit) -> Value {
    match edit {
        // A path that begins with nothing is every path.
        PathEdit::Full(full) => json!({"regex": "^.*$", "with": full}),
        PathEdit::Prefix { matched, with } => json!({"prefix": matched, "with": with}),
        PathEdit::Text { matched, with } => json!({"text": matched, "with": with}),
        PathEdit::Regex { pattern, with } => json!({"regex": pattern, "with": with}),
    }
}

fn template(template: &Template) -> Value {
    json!({"name": template.name, "value": template.value, "append": template.append})
}
