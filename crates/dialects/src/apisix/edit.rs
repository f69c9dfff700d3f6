//! Plugins that change requests and answers, or answer themselves.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    Abort, Cors, Fault, HeaderOps, Mirror, Origins, PathEdit, Respond, Share, Template,
};
use serde_json::Value;

use super::plugin::{Context, Effects};
use super::{redirect, vars};
use crate::fields::Fields;
use crate::shared::headers;

/// Thousandths of a percent.
const PARTS: u32 = 100_000;

/// A share by a number of percent.
fn percent(fields: &Fields<'_>, key: &str) -> Option<Share> {
    let percent = fields.float(key)?.clamp(0.0, 100.0);
    // Between 0 and 100 000.
    Share::new((percent * 1000.0).round() as u32, PARTS)
}

pub(super) fn words(text: Option<&str>) -> Vec<Arc<str>> {
    let words = text.unwrap_or_default().split(',').map(str::trim);
    words
        .filter(|word| !word.is_empty())
        .map(|word| {
            if word == "**" {
                "*".into()
            } else {
                word.into()
            }
        })
        .collect()
}

pub(super) fn cors(config: &Fields<'_>, effects: &mut Effects) {
    let mut origins = Vec::new();
    for word in words(Some(config.text("allow_origins").unwrap_or("*"))) {
        origins.push(match &*word {
            "*" => Origins::Any,
            _ => Origins::Exact(word),
        });
    }
    let expressions = config.strings("allow_origins_by_regex");
    if !expressions.is_empty() && !config.has("allow_origins") {
        origins.clear();
    }
    for expression in expressions {
        match routing::regex::compile(expression) {
            Ok(_) => {
                // APISIX searches the origin.
                let whole = format!(".*(?:{expression}).*");
                origins.push(Origins::Regex(whole.into()));
            }
            Err(error) => config.refuse("allow_origins_by_regex", "RegexInvalid", error),
        }
    }
    let remedy = "write allow_origins";
    config.unsupported("allow_origins_by_metadata", remedy);
    config.unsupported(
        "timing_allow_origins",
        "set the header with response-rewrite",
    );
    config.unsupported(
        "timing_allow_origins_by_regex",
        "set the header with response-rewrite",
    );
    let age = config.int("max_age").unwrap_or(5);
    effects.filters.cors = Some(Arc::new(Cors {
        origins,
        methods: words(Some(config.text("allow_methods").unwrap_or("*"))),
        headers: words(Some(config.text("allow_headers").unwrap_or("*"))),
        expose: words(config.text("expose_headers")),
        credentials: config.bool("allow_credential").unwrap_or(false),
        // -1 is: not to be kept.
        max_age: Duration::from_secs(u64::try_from(age).unwrap_or_default()),
    }));
}

/// Header changes of one direction.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) ops: HeaderOps,
    pub(super) templates: Vec<Template>,
}

/// `headers` with `set`, `add` and `remove`, or as older versions write it: a map of what is set.
pub(super) fn header_changes(config: &Fields<'_>) -> Changes {
    let mut changes = Changes::default();
    let Some(fields) = config.object("headers") else {
        return changes;
    };
    let is_new = ["set", "add", "remove"].iter().any(|key| {
        let value = fields.has(key).then(|| fields.raw(key)).flatten();
        value.is_some_and(|value| value.is_object() || value.is_array())
    });
    if !is_new {
        pairs(&fields, false, &mut changes);
        return changes;
    }
    if let Some(set) = fields.object("set") {
        pairs(&set, false, &mut changes);
    }
    if fields.raw("add").is_some_and(Value::is_array) {
        // `name: value` in response-rewrite.
        for text in fields.strings("add") {
            let (name, value) = text.split_once(':').unwrap_or((text, ""));
            let done = put(name.trim(), value.trim(), true, &mut changes);
            if let Err(error) = done {
                fields.refuse("add", "HeaderInvalid", error);
            }
        }
    } else if let Some(add) = fields.object("add") {
        pairs(&add, true, &mut changes);
    }
    for name in fields.strings("remove") {
        match headers::name(name) {
            Ok(name) => changes.ops.remove.push(name),
            Err(error) => fields.refuse("remove", "HeaderInvalid", error),
        }
    }
    changes
}

fn pairs(map: &Fields<'_>, append: bool, changes: &mut Changes) {
    for name in map.keys() {
        let Some(value) = map.loose(name) else {
            continue;
        };
        if let Err(error) = put(name, &value, append, changes) {
            map.refuse(name, "HeaderInvalid", error);
        }
    }
}

fn put(name: &str, value: &str, append: bool, changes: &mut Changes) -> Result<(), String> {
    let (name, value) = headers::settable(name, value)?;
    if value.is_empty() && !append {
        // NGINX sends no header without a value.
        changes.ops.remove.push(name);
    } else if let Some(value) = vars::template(&value)? {
        changes.templates.push(Template {
            name,
            value,
            append,
        });
    } else if append {
        changes.ops.add.push((name, value));
    } else {
        changes.ops.set.push((name, value));
    }
    Ok(())
}

pub(super) fn join(ops: &mut HeaderOps, more: HeaderOps) {
    ops.remove.extend(more.remove);
    ops.set.extend(more.set);
    ops.add.extend(more.add);
}

pub(super) fn proxy_rewrite(config: &Fields<'_>, effects: &mut Effects) {
    let regex = redirect::regex_uri(config);
    let uri = config.text("uri").and_then(|uri| {
        if uri.contains(['$', '?']) || !uri.starts_with('/') {
            let message = format!("uri {uri:?} is not supported: write a path, or regex_uri");
            config.refuse("uri", "FieldNotSupported", message);
            return None;
        }
        Some(PathEdit::Full(uri.into()))
    });
    // APISIX: uri decides if both are there.
    if let Some(edit) = uri.or(regex) {
        effects.filters.rewrite_path = Some(edit);
    }
    if let Some(host) = config.text("host") {
        match headers::value(host) {
            Ok(host) if !host.contains('$') => effects.filters.rewrite_host = Some(host),
            Ok(_) => {
                let message = "host may have no variables; the host stays";
                config.refuse("host", "FieldNotSupported", message);
            }
            Err(error) => config.refuse("host", "FieldInvalid", error),
        }
    }
    let changes = header_changes(config);
    join(&mut effects.request_headers, changes.ops);
    effects.filters.request_templates.extend(changes.templates);
    config.unsupported("method", "the method stays as it is");
    config.unsupported("scheme", "write scheme in an ApisixUpstream");
    config.unsupported(
        "use_real_request_uri_unsafe",
        "paths are sent on as they came",
    );
}

/// A copy for another server.
pub(super) fn mirror(config: &Fields<'_>, effects: &mut Effects, ctx: &mut Context<'_, '_, '_>) {
    let ratio = config.float("sample_ratio").unwrap_or(1.0).clamp(0.0, 1.0);
    config.unsupported("path", "the copy has the path of the request");
    config.ignore("path_concat_mode");
    let Some(host) = config.parse("host", http_host) else {
        return;
    };
    let backend = ctx.resolver.host(&host.0, host.1, None);
    let Some(backend) = backend else {
        let message = "host leads nowhere: nothing is copied";
        config.refuse("host", "BackendMissing", message);
        return;
    };
    // Between 0 and 100 000.
    let share = Share::new((ratio * f64::from(PARTS)).round() as u32, PARTS);
    let share = if ratio >= 1.0 {
        Some(Share::ALL)
    } else {
        share
    };
    effects
        .filters
        .mirrors
        .extend(share.map(|share| Mirror { backend, share }));
}

/// `http://host[:port]`.
fn http_host(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("{text:?} is not of the form http://host[:port]");
    let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
    let (host, port) = match rest.trim_end_matches('/').rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
        None => (rest.trim_end_matches('/'), 80),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if host.is_empty() || !host.bytes().all(allowed) {
        return Err(wrong());
    }
    Ok((host.to_ascii_lowercase(), port))
}

pub(super) fn fault(config: &Fields<'_>, effects: &mut Effects) {
    let mut fault = Fault {
        delay: None,
        abort: None,
    };
    let remedy = "write a rule of its own for these requests";
    if let Some(delay) = config.object("delay") {
        let share = percent(&delay, "percentage").unwrap_or(Share::ALL);
        let seconds = delay.float("duration").unwrap_or_default();
        let duration = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        if delay.raw("vars").is_some() {
            delay.unsupported("vars", remedy);
        } else {
            fault.delay = Some((duration, share));
        }
    }
    if let Some(abort) = config.object("abort") {
        let share = percent(&abort, "percentage").unwrap_or(Share::ALL);
        let is_all = share == Share::ALL || !abort.has("percentage");
        let status = abort.number::<u16>("http_status").unwrap_or(200);
        let body = abort.str("body");
        let fields = abort.object("headers");
        let mut headers: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        if let Some(fields) = &fields {
            for name in fields.keys() {
                let value = fields.loose(name).unwrap_or_default();
                match headers::settable(name, &value) {
                    Ok(pair) => headers.push(pair),
                    Err(error) => fields.refuse(name, "HeaderInvalid", error),
                }
            }
        }
        if abort.raw("vars").is_some() {
            abort.unsupported("vars", remedy);
        } else if is_all {
            // It comes before mocking.
            effects.mocked_after = None;
            effects.respond = Some(Respond {
                status,
                headers,
                body: body.unwrap_or_default().into(),
            });
        } else {
            if body.is_some() || !headers.is_empty() {
                let message = "a part of the requests is answered without body and headers";
                abort.refuse("body", "FieldNotSupported", message);
            }
            fault.abort = Some((Abort::Http(status), share));
        }
    }
    if fault.delay.is_some() || fault.abort.is_some() {
        effects.guards.fault = Some(Arc::new(fault));
    }
}
