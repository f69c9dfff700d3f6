//! `corsPolicy` of a virtual host.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{Cors, Origins};

use crate::fields::Fields;
use crate::shared::go_duration;

/// What browsers take if no age is said (Fetch standard).
const UNSAID_AGE: Duration = Duration::from_secs(5);

/// Reads it. An error is one that makes its object invalid.
pub(super) fn read(fields: &Fields<'_>) -> Result<Arc<Cors>, String> {
    let strings = |key| {
        fields
            .strings(key)
            .into_iter()
            .map(Arc::from)
            .collect::<Vec<_>>()
    };
    let origins = fields.strings("allowOrigin");
    let methods: Vec<Arc<str>> = strings("allowMethods");
    let headers = strings("allowHeaders");
    let expose = strings("exposeHeaders");
    let credentials = fields.bool("allowCredentials").unwrap_or(false);
    let age = fields.str("maxAge").unwrap_or_default();
    if fields.bool("allowPrivateNetwork").unwrap_or(false) {
        let text = "access from public to private networks is not answered here";
        fields.refuse("allowPrivateNetwork", "FieldNotSupported", text);
    }
    if origins.is_empty() {
        return Err("invalid allowed origin configuration with length 0".to_owned());
    }
    let origins: Result<Vec<_>, String> = origins.into_iter().map(origin).collect();
    let origins = origins?;
    if methods.is_empty() {
        return Err("invalid allowed methods configuration with length 0".to_owned());
    }
    let max_age = match age {
        "" => UNSAID_AGE,
        text => go_duration::parse(text).map_err(|_| format!("invalid max age value {text:?}"))?,
    };
    Ok(Arc::new(Cors {
        origins,
        methods: methods
            .iter()
            .map(|method| method.to_ascii_uppercase().into())
            .collect(),
        headers,
        expose,
        credentials,
        max_age,
    }))
}

/// `*`, `scheme://host[:port]`, or else an expression.
fn origin(text: &str) -> Result<Origins, String> {
    if text == "*" {
        return Ok(Origins::Any);
    }
    let is_exact = text.split_once("://").is_some_and(|(scheme, host)| {
        let in_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        let in_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        !scheme.is_empty()
            && !host.is_empty()
            && scheme.bytes().all(in_scheme)
            && host.bytes().all(in_host)
    });
    if is_exact {
        return Ok(Origins::Exact(text.into()));
    }
    match routing::regex::compile(text) {
        Ok(_) => Ok(Origins::Regex(text.into())),
        Err(_) => Err(format!(
            "invalid allowed origin {text:?}: allowed origin is invalid exact match and invalid regex match"
        )),
    }
}
