//! Header policies: what is set and removed, with Envoy's variables in values.
//!
//! Contour lets a list of variables through and takes every other percent sign as it is. Of that
//! list, the ones that our templates know are served; a header with another one is not set.

use std::collections::BTreeSet;
use std::sync::Arc;

use routing::model::{HeaderOps, Template};

use crate::fields::Fields;
use crate::shared::envoy_format::{self, Expanded};
use crate::shared::headers;

/// What a policy does.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    pub(super) ops: HeaderOps,
    pub(super) templates: Vec<Template>,
    pub(super) host: Option<Arc<str>>,
}

/// Names and values that Contour itself puts in, for example `CONTOUR_NAMESPACE`.
pub(super) type Variables<'v> = &'v [(&'v str, &'v str)];

/// Reads a policy. An error is one that makes its object invalid.
pub(super) fn read(
    fields: &Fields<'_>,
    may_set_host: bool,
    variables: Variables<'_>,
) -> Result<Policy, String> {
    let mut policy = Policy::default();
    let mut seen = BTreeSet::new();
    let mut first_error = Ok(());
    for (at, entry) in fields.objects("set").into_iter().enumerate() {
        let (name, value) = (entry.str("name"), entry.str("value"));
        let (name, value) = (name.unwrap_or_default(), value.unwrap_or_default());
        let unique = seen.insert(name.to_ascii_lowercase());
        let set = if unique {
            set(&mut policy, &entry, (name, value), may_set_host, variables)
        } else {
            Err(format!("duplicate header addition: {name:?}"))
        };
        let set = set.map_err(|text| format!("{text} (entry {at})"));
        first_error = first_error.and(set);
    }
    let mut removed = BTreeSet::new();
    for name in fields.strings("remove") {
        let checked = headers::name(name).map_err(|text| format!("invalid remove header: {text}"));
        let checked = checked.and_then(|name| {
            if removed.insert(Arc::clone(&name)) {
                Ok(name)
            } else {
                Err(format!("duplicate header removal: {name:?}"))
            }
        });
        match checked {
            Ok(name) => policy.ops.remove.push(name),
            Err(text) => first_error = first_error.and(Err(text)),
        }
    }
    first_error.map(|()| policy)
}

fn set(
    policy: &mut Policy,
    entry: &Fields<'_>,
    (name, value): (&str, &str),
    may_set_host: bool,
    variables: Variables<'_>,
) -> Result<(), String> {
    let is_host = name.eq_ignore_ascii_case("host");
    if is_host && !may_set_host {
        return Err("rewriting \"Host\" header is not supported".to_owned());
    }
    let known = headers::name(name).map_err(|text| format!("invalid set header: {text}"))?;
    headers::value(value)?;
    let value = envoy_format::expand(value, variables);
    match value {
        Expanded::Plain(host) if is_host => policy.host = Some(host.into()),
        Expanded::Template(_) if is_host => {
            let text = "a host that depends on the request is not supported; the host is kept";
            entry.refuse("value", "HostVariableNotSupported", text);
        }
        Expanded::Unknown(variable) => {
            let text = format!("%{variable}% is not known here; the header is not set");
            entry.refuse("value", "VariableNotSupported", text);
        }
        Expanded::Plain(value) => match headers::settable(&known, &value) {
            Ok(pair) => policy.ops.set.push(pair),
            Err(text) => entry.refuse("name", "HeaderNotSupported", text),
        },
        Expanded::Template(value) => match headers::settable(&known, "") {
            Ok((name, _)) => policy.templates.push(Template {
                name,
                value: value.into(),
                append: false,
            }),
            Err(text) => entry.refuse("name", "HeaderNotSupported", text),
        },
    }
    Ok(())
}
