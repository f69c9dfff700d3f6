//! One entry of `http`: when it applies and what it does.

use std::sync::Arc;

use routing::model::{
    Action, Arm, BackendId, Filters, HeaderOps, Instead, PathEdit, Redirect, RedirectPort, Respond,
    Split,
};

use super::compare;
use super::destination::Finder;
use super::headers::{self, Changes};
use super::matches::{self, Block, Prefix};
use super::{resilience, values};
use crate::fields::Fields;
use crate::overlay;

/// A rule that can be served.
pub(super) struct Rule {
    pub(super) blocks: Vec<Block>,
    pub(super) request_headers: HeaderOps,
    filters: Filters,
    rewrite: Option<Rewrite>,
    does: Does,
}

enum Does {
    Forward(Option<Split>),
    Respond(Respond),
    Redirect {
        redirect: Redirect,
        prefix: Option<Arc<str>>,
    },
}

enum Rewrite {
    Uri(Arc<str>),
    Regex { pattern: Arc<str>, with: Arc<str> },
}

/// Reads a rule; `None` if it cannot be served at all.
pub(super) fn read(rule: &Fields<'_>, finder: &Finder<'_, '_>, namespace: &str) -> Option<Rule> {
    // A name for logs and metrics.
    rule.ignore("name");
    let blocks = blocks(rule, namespace);
    let mut filters = Filters::default();
    let fault = resilience::read(rule, &mut filters);
    let changes = headers::read(rule);
    let rewrite = rule.object("rewrite").and_then(|written| {
        let host = written.text("authority");
        let host = host.and_then(|text| headers::authority(&written, "authority", text));
        filters.rewrite_host = host;
        rewrite(&written)
    });
    let mirrors = resilience::mirrors(rule, finder);
    let does = does(rule, finder, &changes);
    filters.mirrors = mirrors;
    filters.response_headers = changes.response.ops;
    filters.request_templates = changes.request.templates;
    filters.response_templates = changes.response.templates;
    if filters.rewrite_host.is_none() {
        filters.rewrite_host = changes.host;
    }
    if let Some(fault) = fault {
        overlay::guards_of(&mut filters).fault = Some(Arc::new(fault));
    }
    let does = does?;
    if !matches!(does, Does::Forward(_)) {
        // Nothing is sent on, so there is nothing to try again or to copy.
        filters.retry = None;
        filters.request_timeout = None;
        filters.try_timeout = None;
        filters.mirrors = Vec::new();
    }
    (!blocks.is_empty()).then_some(Rule {
        blocks,
        request_headers: changes.request.ops,
        filters,
        rewrite,
        does,
    })
}

fn blocks(rule: &Fields<'_>, namespace: &str) -> Vec<Block> {
    let written = rule.objects("match");
    if written.is_empty() {
        // What is no list was reported, and must not match everything.
        let is_wrong = rule.raw("match").is_some_and(|value| !value.is_array());
        let everything = Block::everything(rule.path().to_owned());
        return Some(everything).filter(|_| !is_wrong).into_iter().collect();
    }
    let list = rule.list("match");
    // One that cannot be read was reported, and the others are served.
    let read = written.iter().zip(list).map(|(block, value)| {
        let read = matches::read(block, namespace);
        read.ok().filter(|_| value.is_object())
    });
    read.flatten().collect()
}

fn does(rule: &Fields<'_>, finder: &Finder<'_, '_>, changes: &Changes) -> Option<Does> {
    let routes = rule.objects("route");
    let redirect = rule.object("redirect").map(|written| redirect(&written));
    let respond = rule
        .object("directResponse")
        .and_then(|written| respond(&written));
    if let Some((redirect, prefix)) = redirect {
        if !routes.is_empty() {
            rule.refuse(
                "route",
                "RouteAndRedirect",
                "a rule that redirects sends nowhere",
            );
        }
        routes.iter().for_each(Fields::pass_over);
        return Some(Does::Redirect { redirect, prefix });
    }
    if let Some(respond) = respond {
        routes.iter().for_each(Fields::pass_over);
        return Some(Does::Respond(respond));
    }
    if routes.is_empty() {
        if !rule.has("directResponse") {
            let message = "a rule needs route, redirect, directResponse or delegate";
            rule.refuse("route", "RouteMissing", message);
        }
        return None;
    }
    let alone = routes.len() == 1;
    let arms = routes
        .iter()
        .map(|route| arm(route, alone, finder, changes));
    let arms: Vec<_> = arms.collect();
    // Istio: a destination of several without a weight gets nothing.
    let arms: Vec<_> = arms
        .into_iter()
        .filter(|arm| alone || arm.weight > 0)
        .collect();
    if arms.is_empty() {
        rule.refuse(
            "route",
            "WeightMissing",
            "several destinations need weights",
        );
    }
    Some(Does::Forward(Split::new(arms)))
}

fn arm(route: &Fields<'_>, alone: bool, finder: &Finder<'_, '_>, changes: &Changes) -> Arm {
    let weight = route.number::<u32>("weight").unwrap_or(0);
    let weight = if alone { 1 } else { weight };
    let own = headers::read(route);
    let found = match route.object("destination") {
        Some(destination) => finder.find(&destination).ok(),
        None => {
            route.refuse(
                "destination",
                "DestinationMissing",
                "write a destination with a host",
            );
            None
        }
    };
    let mut arm = match &found {
        Some(found) => Arm {
            grpc_web: found.grpc_web,
            ..Arm::new(weight, found.id())
        },
        None => Arm {
            instead: Some(Box::new(Instead::Respond(values::unavailable()))),
            ..Arm::new(weight, BackendId("".into()))
        },
    };
    own.apply(&mut arm, changes);
    arm.filters.guards = found.and_then(|found| found.guards);
    arm
}

fn redirect(written: &Fields<'_>) -> (Redirect, Option<Arc<str>>) {
    let scheme = written.text("scheme").map(str::to_ascii_lowercase);
    let authority = written.text("authority");
    let authority = authority.and_then(|text| headers::authority(written, "authority", text));
    let (host, named) = match authority.as_deref().map(|text| text.rsplit_once(':')) {
        Some(Some((host, port))) => (Some(Arc::from(host)), port.parse().ok()),
        Some(None) => (authority, None),
        None => (None, None),
    };
    let number = written.number::<u16>("port").or(named);
    let derived = written.text("derivePort");
    let port = match (number, derived) {
        (Some(number), _) => RedirectPort::Number(number),
        (None, Some("FROM_REQUEST_PORT")) => RedirectPort::Listener,
        (None, Some(_)) => RedirectPort::WellKnown,
        (None, None) if scheme.is_some() || host.is_some() => RedirectPort::WellKnown,
        (None, None) => RedirectPort::Listener,
    };
    let uri = written.text("uri");
    let prefix = written
        .text("prefixRewrite")
        .or_else(|| written.text("prefix_rewrite"));
    let wanted = written.number::<u16>("redirectCode").unwrap_or(301);
    let is_known = [301, 302, 303, 307, 308].contains(&wanted);
    if !is_known {
        let message = format!("{wanted} is no code of a redirect; 301 is sent");
        written.refuse("redirectCode", "FieldInvalid", message);
    }
    let redirect = Redirect {
        scheme: scheme.map(Arc::from),
        host,
        port,
        path: uri.map(|uri| PathEdit::Full(uri.into())),
        strip_query: uri.is_some_and(|uri| uri.contains('?')),
        status: if is_known { wanted } else { 301 },
    };
    (redirect, prefix.map(Arc::from))
}

fn respond(written: &Fields<'_>) -> Option<Respond> {
    let body = written.object("body").map(|body| {
        let bytes = body.str("bytes").map(|text| {
            let bytes = values::base64(text).and_then(|bytes| String::from_utf8(bytes).ok());
            if bytes.is_none() {
                body.refuse("bytes", "BodyInvalid", "is no text in Base64");
            }
            bytes.unwrap_or_default()
        });
        body.str("string")
            .map(str::to_owned)
            .or(bytes)
            .unwrap_or_default()
    });
    let status = written
        .number::<u16>("status")
        .filter(|status| (200..600).contains(status));
    if status.is_none() {
        written.refuse("status", "StatusInvalid", "must be 200 to 599");
    }
    Some(values::plain(status?, &body.unwrap_or_default()))
}

fn rewrite(written: &Fields<'_>) -> Option<Rewrite> {
    let uri = written.text("uri").map(|uri| Rewrite::Uri(uri.into()));
    let regex = written.object("uriRegexRewrite").and_then(|regex| {
        let pattern = regex.text("match");
        let with = regex.str("rewrite").unwrap_or_default();
        let pattern = compare::expression(&regex, "match", pattern?).ok()?;
        Some(Rewrite::Regex {
            pattern,
            with: with.into(),
        })
    });
    if uri.is_some() && regex.is_some() {
        let message = "only one of uri and uriRegexRewrite can be; uri counts";
        written.refuse("uriRegexRewrite", "FieldInvalid", message);
    }
    uri.or(regex)
}

impl Rule {
    /// What a request of a block gets.
    pub(super) fn action(&self, block: &Block) -> (Action, Filters) {
        let mut filters = self.filters.clone();
        filters.rewrite_path = self.rewrite.as_ref().map(|rewrite| match rewrite {
            Rewrite::Uri(uri) => edit(block, uri),
            Rewrite::Regex { pattern, with } => PathEdit::Regex {
                pattern: Arc::clone(pattern),
                with: Arc::clone(with),
            },
        });
        let action = match &self.does {
            Does::Forward(Some(split)) => Action::Forward(split.clone()),
            Does::Forward(None) => Action::Respond(values::unavailable()),
            Does::Respond(respond) => Action::Respond(respond.clone()),
            Does::Redirect { redirect, prefix } => {
                let path = prefix.as_ref().map(|prefix| edit(block, prefix));
                filters.rewrite_path = None;
                Action::Redirect(Redirect {
                    path: redirect.path.clone().or(path),
                    ..redirect.clone()
                })
            }
        };
        (action, filters)
    }
}

/// Istio: what matched as a prefix is replaced, or else the whole path.
fn edit(block: &Block, with: &Arc<str>) -> PathEdit {
    let with = Arc::clone(with);
    match &block.prefix {
        Prefix::Text(matched) => PathEdit::Text {
            matched: Arc::clone(matched),
            with,
        },
        Prefix::AnyCase(matched) => PathEdit::Regex {
            pattern: format!("(?i)^{}", escape(matched)).into(),
            with: with.replace('\\', r"\\").into(),
        },
        Prefix::Whole => PathEdit::Full(with),
    }
}

/// A text as an expression that finds just it.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$#&-~/".contains(character) && character != '/' {
            out.push('\\');
        }
        out.push(character);
    }
    out
}
