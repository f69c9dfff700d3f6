//! `headers` of a route or of one of its destinations: set, add, remove, both ways.
//!
//! Values may hold Envoy's `%…%` words. Those that the model knows are translated, others refuse
//! their header: a header with a wrong value is worse than none.

use std::sync::Arc;

use routing::model::{Arm, HeaderOps, Template};

use crate::fields::Fields;
use crate::shared::{headers, host};

/// What is changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) request: Direction,
    pub(super) response: Direction,
    /// The authority sent upstream.
    pub(super) host: Option<Arc<str>>,
}

/// One way.
#[derive(Clone, Debug, Default)]
pub(super) struct Direction {
    pub(super) ops: HeaderOps,
    pub(super) templates: Vec<Template>,
}

/// Reads `headers` of this object, if it is there.
pub(super) fn read(fields: &Fields<'_>) -> Changes {
    let mut changes = Changes::default();
    let Some(headers) = fields.object("headers") else {
        return changes;
    };
    if let Some(request) = headers.object("request") {
        changes.request = direction(&request, Some(&mut changes.host));
    }
    if let Some(response) = headers.object("response") {
        changes.response = direction(&response, None);
    }
    changes
}

fn direction(fields: &Fields<'_>, mut host: Option<&mut Option<Arc<str>>>) -> Direction {
    let mut found = Direction::default();
    for key in ["set", "add"] {
        for (name, value) in fields.string_map(key) {
            let is_host = ["host", ":authority", "authority"]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name));
            match host.as_deref_mut().filter(|_| is_host) {
                Some(host) => *host = authority(fields, key, value),
                None => one(fields, key, (name, value), &mut found),
            }
        }
    }
    for name in fields.strings("remove") {
        match headers::name(name) {
            Ok(name) => found.ops.remove.push(name),
            Err(error) => fields.refuse("remove", "HeaderInvalid", error),
        }
    }
    found
}

fn one(fields: &Fields<'_>, key: &str, (name, value): (&str, &str), found: &mut Direction) {
    let is_added = key == "add";
    let read = headers::settable(name, value).and_then(|(name, value)| {
        if !value.contains('%') {
            return Ok((name, value, false));
        }
        let (value, is_template) = template(&value)?;
        Ok((name, value.into(), is_template))
    });
    match read {
        Ok((name, value, true)) => found.templates.push(Template {
            name,
            value,
            append: is_added,
        }),
        Ok((name, value, false)) if is_added => found.ops.add.push((name, value)),
        Ok((name, value, false)) => found.ops.set.push((name, value)),
        Err(error) => fields.refuse(key, "HeaderInvalid", format!("{name}: {error}")),
    }
}

/// Envoy's words in the model's, and whether there are any; `%%` is a percent sign.
fn template(text: &str) -> Result<(String, bool), String> {
    let mut out = String::new();
    let (mut plain, mut is_template) = (String::new(), false);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        let (word, after) = after.split_once('%').ok_or_else(|| {
            format!("{text:?} has a % without an end; write %% for a percent sign")
        })?;
        out.push_str(before);
        plain.push_str(before);
        rest = after;
        if word.is_empty() {
            out.push_str("%%");
            plain.push('%');
            continue;
        }
        is_template = true;
        out.push_str(&match word {
            "REQ(:authority)" => "%HOST%".to_owned(),
            "REQ(:path)" => "%PATH%".to_owned(),
            "REQ(:method)" => "%METHOD%".to_owned(),
            "REQ(:scheme)" => "%SCHEME%".to_owned(),
            "PROTOCOL" | "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => format!("%{word}%"),
            _ => named(word).ok_or_else(|| format!("%{word}% is not supported"))?,
        });
    }
    out.push_str(rest);
    plain.push_str(rest);
    Ok((if is_template { out } else { plain }, is_template))
}

fn named(word: &str) -> Option<String> {
    let inner = word.strip_suffix(')')?;
    let (kind, name) = inner.split_once('(')?;
    let is_known = ["REQ", "RESP"].contains(&kind);
    headers::name(name)
        .ok()
        .filter(|_| is_known)
        .map(|name| format!("%{kind}({name})%"))
}

/// A host, optionally with a port, that may be sent upstream.
pub(super) fn authority(fields: &Fields<'_>, key: &str, text: &str) -> Option<Arc<str>> {
    let (name, port) = text
        .rsplit_once(':')
        .map_or((text, None), |(name, port)| (name, Some(port)));
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    if is_port
        && !name.is_empty()
        && (host::is_name(name) || name.parse::<std::net::IpAddr>().is_ok())
    {
        return Some(text.into());
    }
    fields.refuse(key, "HostInvalid", format!("{text:?} is not a host name"));
    None
}

impl Changes {
    /// As changes of one arm. Istio: what the route does to a header counts more than what its
    /// destination does.
    pub(super) fn apply(self, arm: &mut Arm, route: &Self) {
        let (request, response) = (self.request, self.response);
        arm.request_headers = below(request.ops, &route.request);
        arm.filters.response_headers = below(response.ops, &route.response);
        arm.filters.request_templates = request.templates;
        arm.filters.response_templates = response.templates;
        arm.filters.rewrite_host = self.host.filter(|_| route.host.is_none());
    }
}

fn below(mut ops: HeaderOps, route: &Direction) -> HeaderOps {
    let set = route.ops.set.iter().map(|(name, _)| name);
    let decided: Vec<_> = set.chain(&route.ops.remove).collect();
    ops.set.retain(|(name, _)| !decided.contains(&name));
    ops.add.retain(|(name, _)| !route.ops.remove.contains(name));
    ops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_are_translated_and_others_refused() {
        let check = |text: &str, expected: Result<(&str, bool), ()>| {
            let found = template(text).map_err(|_| ());
            assert_eq!(
                found,
                expected.map(|(text, is)| (text.to_owned(), is)),
                "{text}"
            );
        };
        check("100%%", Ok(("100%", false)));
        check(
            "%REQ(X-Id)%-%REQ(:authority)%",
            Ok(("%REQ(x-id)%-%HOST%", true)),
        );
        check("50%% of %PROTOCOL%", Ok(("50%% of %PROTOCOL%", true)));
        check("%START_TIME%", Err(()));
        check("%REQ(a?b)%", Err(()));
        check("100%", Err(()));
    }
}
