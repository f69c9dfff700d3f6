//! Header changes and CORS of Mappings.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{Cors, HeaderOps, Origins, Template};
use serde_json::Value;

use crate::fields::Fields;
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
    if let Some(value) = template(&value, direction)? {
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

/// A value with variables as the model writes them; `None` if it has none.
fn template(text: &str, direction: &str) -> Result<Option<Arc<str>>, String> {
    if !text.contains('%') {
        return Ok(None);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let (variable, after) = after
            .split_once('%')
            .ok_or_else(|| format!("{text:?} has a % without an end; write %% for the sign"))?;
        match variable {
            "" => out.push_str("%%"),
            "REQ(:authority)" => out.push_str("%HOST%"),
            "REQ(:method)" => out.push_str("%METHOD%"),
            "REQ(:scheme)" => out.push_str("%SCHEME%"),
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" | "PROTOCOL" => {
                out.push_str(&format!("%{variable}%"));
            }
            other
                if is_header(other, "REQ(")
                    || (is_header(other, "RESP(") && direction == "response") =>
            {
                out.push_str(&format!("%{other}%"));
            }
            other => {
                return Err(format!(
                    "%{other}% is not supported; what is: %REQ(name)%, %RESP(name)%, %PROTOCOL% \
                     and %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
                ));
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(Some(out.into()))
}

fn is_header(variable: &str, begin: &str) -> bool {
    let name = variable.strip_prefix(begin);
    let name = name.and_then(|name| name.strip_suffix(')'));
    name.is_some_and(|name| headers::name(name).is_ok())
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
