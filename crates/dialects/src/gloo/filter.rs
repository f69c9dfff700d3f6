//! Options of hosts and routes that change heads: headers, CORS, further tries.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{Cors, HeaderOps, Origins, Retry, RetryWhen, Template};
use serde_json::Value;

use super::matcher::flag;
use crate::fields::Fields;
use crate::shared::envoy_format::{self, Expanded};
use crate::shared::{go_duration, headers, retry_on};

/// `headerManipulation`.
#[derive(Clone, Debug, Default)]
pub(super) struct Headers {
    pub(super) request: HeaderOps,
    pub(super) request_templates: Vec<Template>,
    pub(super) response: HeaderOps,
    pub(super) response_templates: Vec<Template>,
}

impl Headers {
    pub(super) fn read(fields: &Fields<'_>) -> Self {
        let mut out = Self::default();
        let request = (&mut out.request, &mut out.request_templates);
        edit(
            fields,
            ["requestHeadersToAdd", "requestHeadersToRemove"],
            request,
        );
        let response = (&mut out.response, &mut out.response_templates);
        edit(
            fields,
            ["responseHeadersToAdd", "responseHeadersToRemove"],
            response,
        );
        out
    }

    /// What the host says comes after what the route says.
    pub(super) fn then(mut self, host: &Self) -> Self {
        let join = |own: &mut HeaderOps, host: &HeaderOps| {
            own.remove.extend(host.remove.iter().cloned());
            own.set.extend(host.set.iter().cloned());
            own.add.extend(host.add.iter().cloned());
        };
        join(&mut self.request, &host.request);
        join(&mut self.response, &host.response);
        self.request_templates
            .extend(host.request_templates.iter().cloned());
        self.response_templates
            .extend(host.response_templates.iter().cloned());
        self
    }
}

fn edit(
    fields: &Fields<'_>,
    [add, remove]: [&str; 2],
    (ops, templates): (&mut HeaderOps, &mut Vec<Template>),
) {
    for entry in fields.objects(add) {
        // Protocol buffers: what is not said is true here.
        let append = flag(&entry, "append").unwrap_or(true);
        if entry.raw("headerSecretRef").is_some() {
            let text = "values from Secrets are not supported; the header is not set";
            entry.refuse("headerSecretRef", "FieldNotSupported", text);
        }
        let Some(header) = entry.object("header") else {
            continue;
        };
        let key = header.str("key").unwrap_or_default();
        let value = header.loose("value").unwrap_or_default();
        let set = |value: &str| headers::settable(key, value);
        let expanded = match envoy_format::read(&value, add.starts_with("response")) {
            Ok(expanded) => expanded,
            Err(text) => {
                header.refuse("value", "HeaderNotSupported", text);
                continue;
            }
        };
        match expanded {
            Expanded::Plain(value) => match set(&value) {
                Ok(pair) if append => ops.add.push(pair),
                Ok(pair) => ops.set.push(pair),
                Err(text) => header.refuse("key", "HeaderNotSupported", text),
            },
            Expanded::Template(value) => match set("") {
                Ok((name, _)) => templates.push(Template {
                    name,
                    value: value.into(),
                    append,
                }),
                Err(text) => header.refuse("key", "HeaderNotSupported", text),
            },
            Expanded::Unknown(variable) => {
                let text = format!("%{variable}% is not known here; the header is not set");
                header.refuse("value", "VariableNotSupported", text);
            }
        }
    }
    for (at, name) in fields.strings(remove).into_iter().enumerate() {
        match headers::name(name) {
            Ok(name) => ops.remove.push(name),
            Err(text) => {
                let field = format!("{}[{at}]", fields.at(remove));
                fields.findings().refuse("HeaderNotSupported", &field, text);
            }
        }
    }
}

/// `cors` of a route, its fields before those of its host.
pub(super) fn cors(
    own: Option<&Value>,
    host: Option<&Value>,
    fields: &Fields<'_>,
) -> Option<Arc<Cors>> {
    let mut merged = host.or(own)?.clone();
    if let (Some(map), Some(own)) = (merged.as_object_mut(), own.and_then(Value::as_object)) {
        map.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    let fields = Fields::new(&merged, fields.at("cors"), fields.findings());
    let texts = |key| {
        fields
            .strings(key)
            .into_iter()
            .map(Arc::from)
            .collect::<Vec<Arc<str>>>()
    };
    let mut origins = Vec::new();
    for origin in fields.strings("allowOrigin") {
        origins.push(match origin {
            "*" => Origins::Any,
            exact => Origins::Exact(exact.into()),
        });
    }
    for expression in fields.strings("allowOriginRegex") {
        match routing::regex::compile(expression) {
            Ok(_) => origins.push(Origins::Regex(expression.into())),
            Err(error) => {
                let text = format!("expression {expression:?} cannot be used: {error}");
                fields.refuse("allowOriginRegex", "RegexInvalid", text);
            }
        }
    }
    let (methods, headers, expose) = (
        texts("allowMethods"),
        texts("allowHeaders"),
        texts("exposeHeaders"),
    );
    let age = fields.loose("maxAge");
    let age = age
        .as_deref()
        .map(|text| text.parse::<u64>().map_err(|_| text));
    let max_age = match age {
        None => UNSAID_AGE,
        Some(Ok(seconds)) => Duration::from_secs(seconds),
        Some(Err(text)) => go_duration::parse(text).unwrap_or_else(|error| {
            fields.refuse("maxAge", "MaxAgeInvalid", error);
            UNSAID_AGE
        }),
    };
    let credentials = fields.bool("allowCredentials").unwrap_or(false);
    if fields.bool("disableForRoute").unwrap_or(false) {
        return None;
    }
    Some(Arc::new(Cors {
        origins,
        methods,
        headers,
        expose,
        credentials,
        max_age,
    }))
}

/// What browsers take if no age is said (Fetch standard).
const UNSAID_AGE: Duration = Duration::from_secs(5);

/// `retries`, and the time of one try.
pub(super) fn retries(fields: &Fields<'_>) -> (Option<Arc<Retry>>, Option<Duration>) {
    let back_off = fields.object("retryBackOff");
    let pause = |key| {
        let text = back_off.as_ref()?.text(key)?;
        duration(back_off.as_ref()?, key, text)
    };
    let base = pause("baseInterval").unwrap_or(Duration::from_millis(25));
    let max = pause("maxInterval").unwrap_or(base * 10);
    let attempts = fields
        .number::<u32>("numRetries")
        .filter(|count| *count > 0);
    let mut codes = Vec::new();
    for code in fields.list("retriableStatusCodes") {
        match code.as_u64().and_then(|code| u16::try_from(code).ok()) {
            Some(code) => codes.push(code),
            None => {
                let text = format!("{code} is not the status of an answer");
                fields.refuse("retriableStatusCodes", "FieldInvalid", text);
            }
        }
    }
    let mut retry = Retry {
        attempts: attempts.unwrap_or(1),
        statuses: Vec::new(),
        on_failure: false,
        when: RetryWhen::default(),
        pause: base,
        max_pause: max,
        avoid_tried: false,
    };
    let words = fields.str("retryOn").unwrap_or_default().split(',');
    let words: Vec<_> = words
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect();
    for word in &words {
        if !retry_on::add(word, &codes, &mut retry) {
            let text = format!("{word:?} is not supported as a reason to try again");
            fields.refuse("retryOn", "RetryOnNotSupported", text);
        }
    }
    if !codes.is_empty() && !words.contains(&"retriable-status-codes") {
        let text = "they count with retriable-status-codes in retryOn alone";
        fields.refuse("retriableStatusCodes", "FieldDiffers", text);
    }
    let time = fields.text("perTryTimeout");
    let time = time.and_then(|text| duration(fields, "perTryTimeout", text));
    let retry = (!words.is_empty()).then(|| Arc::new(retry));
    (retry, time.filter(|time| !time.is_zero()))
}

/// A duration as protocol buffers write it, which Go reads too.
pub(super) fn duration(fields: &Fields<'_>, key: &str, text: &str) -> Option<Duration> {
    let told = |error| fields.refuse(key, "DurationInvalid", error);
    go_duration::parse(text).map_err(told).ok()
}
