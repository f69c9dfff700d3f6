//! Header changes and CORS of Mappings.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{Cors, HeaderOps, Origins, Template};
use serde_json::Value;

use crate::fields::Fields;
use crate::shared::envoy_format::{self, Expanded};
use crate::shared::headers;

/// How long browsers keep what a preflight said if nobody says: the Fetch standard's default.
const MAX_AGE: Duration = Duration::from_secs(5);

/// Changes of one direction.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) ops: HeaderOps,
    pub(super) templates: Vec<Template>,
}

/// `add_X_headers` and `remove_X_headers`; what the Mapping does not say, the defaults do.
pub(super) fn changes<'v>(own: &Fields<'v>, defaults: &Fields<'v>, direction: &str) -> Changes {
    let mut changes = Changes::default();
    let add = format!("add_{direction}_headers");
    let from = super::member::pick(own, defaults, &add);
    if let Some(map) = from.object(&add) {
        for name in map.keys() {
            if let Err(error) = one(&map, name, direction, &mut changes) {
                map.refuse(name, "HeaderInvalid", error);
            }
        }
    }
    let remove = format!("remove_{direction}_headers");
    let from = super::member::pick(own, defaults, &remove);
    for name in list(from, &remove) {
        match headers::name(&name) {
            Ok(name) => changes.ops.remove.push(name),
            Err(error) => from.refuse(&remove, "HeaderInvalid", error),
        }
    }
    changes
}

fn one(map: &Fields<'_>, name: &str, direction: &str, changes: &mut Changes) -> Result<(), String> {
    let is_map = map.raw(name).is_some_and(Value::is_object);
    let (text, append) = if is_map {
        let entry = map.object(name);
        let append = entry.as_ref().and_then(|entry| entry.bool("append"));
        let text = entry.as_ref().and_then(|entry| entry.loose("value"));
        (text, append.unwrap_or(true))
    } else {
        (map.loose(name), true)
    };
    // What is no text was reported by its reading.
    let Some(text) = text else { return Ok(()) };
    let (name, value) = headers::settable(name, &text)?;
    match envoy_format::read(&value, direction == "response")? {
        Expanded::Template(value) => changes.templates.push(Template {
            name,
            value: value.into(),
            append,
        }),
        Expanded::Plain(value) if append => changes.ops.add.push((name, value.into())),
        Expanded::Plain(value) => changes.ops.set.push((name, value.into())),
        Expanded::Unknown(variable) => {
            return Err(format!(
                "%{variable}% is not supported; what is: %REQ(name)%, %RESP(name)%, %PROTOCOL% \
                 and %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
            ));
        }
    }
    Ok(())
}

/// A list, or a text with commas in it as older versions write it.
pub(super) fn list(fields: &Fields<'_>, key: &str) -> Vec<String> {
    let is_text = fields.raw(key).is_some_and(Value::is_string);
    let part = |text: &str| text.trim().to_owned();
    if is_text {
        let text = fields.str(key).unwrap_or_default();
        text.split(',')
            .map(part)
            .filter(|it| !it.is_empty())
            .collect()
    } else {
        fields.strings(key).into_iter().map(part).collect()
    }
}

/// `cors` of a Mapping, or of the Module.
pub(super) fn cors(fields: &Fields<'_>) -> Arc<Cors> {
    let origins = list(fields, "origins").into_iter().map(|origin| {
        if origin == "*" {
            Origins::Any
        } else {
            Origins::Exact(origin.into())
        }
    });
    let texts = |key: &str| -> Vec<Arc<str>> {
        let list = list(fields, key).into_iter();
        list.map(Into::into).collect()
    };
    let max_age = fields.loose("max_age").and_then(|text| {
        let seconds = text.parse().ok();
        if seconds.is_none() {
            let message = format!("max_age {text:?} is no number of seconds");
            fields.refuse("max_age", "FieldInvalid", message);
        }
        seconds
    });
    let mut methods = texts("methods");
    for method in &mut methods {
        *method = method.to_ascii_uppercase().into();
    }
    Arc::new(Cors {
        origins: origins.collect(),
        methods,
        headers: texts("headers"),
        expose: texts("exposed_headers"),
        credentials: fields.bool("credentials").unwrap_or(false),
        max_age: max_age.map_or(MAX_AGE, Duration::from_secs),
    })
}
