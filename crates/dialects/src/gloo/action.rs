//! Routes as they are written, in VirtualServices and RouteTables alike.

use std::sync::Arc;

use routing::model::{PathEdit, Redirect, RedirectPort, Respond};
use serde_json::Value;

use super::matcher::{Matcher, flag};
use super::options::{prefix_edit, regex_edit};
use super::policy;
use super::reference;
use super::select::Selector;
use super::upstream::Destination;
use crate::fields::Fields;
use crate::objects::Name;

/// A route before anything is inherited.
pub(super) struct RouteSpec {
    pub(super) field: String,
    /// An error rejects the object.
    pub(super) matchers: Result<Vec<Matcher>, String>,
    pub(super) inherits: Option<bool>,
    pub(super) inherits_paths: Option<bool>,
    /// As they are written, to be merged with others.
    pub(super) options: Value,
    pub(super) option_refs: Vec<Name>,
    pub(super) action: Action,
}

/// What a route does.
pub(super) enum Action {
    Forward(Vec<Destination>),
    Group(Name),
    Redirect(Box<Elsewhere>),
    Respond(Respond),
    Delegate(Delegate),
    /// Nothing that can be served, and why.
    Invalid(String),
}

/// `delegateAction`.
pub(super) enum Delegate {
    To(Name),
    /// Namespaces; none is the own one, `*` is all.
    Selected(Vec<String>, Selector),
}

impl RouteSpec {
    pub(super) fn read(fields: &Fields<'_>, namespace: &str) -> Self {
        let matchers = fields.objects("matchers");
        let read: Vec<_> = matchers.iter().map(Matcher::read).collect();
        fields.ignore("name"); // Names are for metrics of Envoy.
        fields.ignore("routeMetadata");
        Self {
            field: fields.path().to_owned(),
            matchers: read.into_iter().collect(),
            inherits: flag(fields, "inheritableMatchers"),
            inherits_paths: flag(fields, "inheritablePathMatchers"),
            options: fields.raw("options").cloned().unwrap_or_default(),
            option_refs: option_refs(fields, namespace),
            action: Action::read(fields, namespace),
        }
    }
}

/// `optionsConfigRefs`, of routes and hosts.
pub(super) fn option_refs(fields: &Fields<'_>, namespace: &str) -> Vec<Name> {
    let refs = fields.object("optionsConfigRefs");
    let refs = refs.iter().flat_map(|refs| refs.objects("delegateOptions"));
    refs.map(|it| reference(&it, namespace)).collect()
}

impl Action {
    fn read(fields: &Fields<'_>, namespace: &str) -> Self {
        let forward = fields.object("routeAction");
        let redirect = fields.object("redirectAction");
        let respond = fields.object("directResponseAction");
        let delegate = fields.object("delegateAction");
        let graph = fields.raw("graphqlApiRef").is_some();
        match (forward, redirect, respond, delegate) {
            (Some(forward), None, None, None) => forward_to(&forward, namespace),
            (None, Some(redirect), None, None) => {
                Self::Redirect(Box::new(Elsewhere::read(&redirect)))
            }
            (None, None, Some(respond), None) => Self::Respond(answer(&respond)),
            (None, None, None, Some(delegate)) => Delegate::read(&delegate, namespace),
            (None, None, None, None) if graph => {
                Self::Invalid("graphqlApiRef is not supported".to_owned())
            }
            (None, None, None, None) => {
                Self::Invalid("invalid route: route must specify an action".to_owned())
            }
            (forward, redirect, respond, delegate) => {
                let all = [forward, redirect, respond, delegate];
                all.iter().flatten().for_each(Fields::pass_over);
                Self::Invalid("invalid route: more than one action is specified".to_owned())
            }
        }
    }
}

fn forward_to(fields: &Fields<'_>, namespace: &str) -> Action {
    let single = fields.object("single");
    let multi = fields.object("multi");
    let group = fields.object("upstreamGroup");
    fields.unsupported(
        "clusterHeader",
        "write the destinations as routes with header matchers",
    );
    fields.unsupported("dynamicForwardProxy", "write an Upstream with static hosts");
    match (single, multi, group) {
        (Some(single), _, _) => Action::Forward(vec![Destination::read(&single, namespace, true)]),
        (None, Some(multi), _) => {
            let all = multi.objects("destinations").into_iter();
            Action::Forward(
                all.map(|it| Destination::read(&it, namespace, false))
                    .collect(),
            )
        }
        (None, None, Some(group)) => Action::Group(reference(&group, namespace)),
        (None, None, None) => {
            Action::Invalid("invalid route: the route action has no destination".to_owned())
        }
    }
}

fn answer(fields: &Fields<'_>) -> Respond {
    let status = fields
        .number::<u16>("status")
        .filter(|it| (200..600).contains(it));
    if status.is_none() {
        let text = "a status between 200 and 599 is needed; 500 is answered";
        fields.refuse("status", "StatusInvalid", text);
    }
    let body = fields.str("body").unwrap_or_default();
    let content = ("content-type".into(), "text/plain".into());
    Respond {
        status: status.unwrap_or(500),
        headers: (!body.is_empty()).then_some(content).into_iter().collect(),
        body: body.into(),
    }
}

impl Delegate {
    fn read(fields: &Fields<'_>, namespace: &str) -> Action {
        let of = fields.object("ref").map(|it| reference(&it, namespace));
        let selector = fields.object("selector").map(|selector| {
            let mut out = Selector::default();
            out.labels(&selector, "labels");
            out.expressions(&selector, "expressions");
            let namespaces = selector.strings("namespaces").into_iter();
            (namespaces.map(str::to_owned).collect(), out)
        });
        let old = fields.has("name").then(|| reference(fields, namespace));
        match (old.or(of), selector) {
            (Some(name), _) => Action::Delegate(Self::To(name)),
            (None, Some((namespaces, selector))) => {
                Action::Delegate(Self::Selected(namespaces, selector))
            }
            (None, None) => {
                Action::Invalid("invalid route: the delegate action has no target".to_owned())
            }
        }
    }
}

/// `redirectAction`.
pub(super) struct Elsewhere {
    host: Option<Arc<str>>,
    https: bool,
    port: Option<u16>,
    full: Option<Arc<str>>,
    prefix: Option<Arc<str>>,
    regex: Option<PathEdit>,
    strip_query: bool,
    status: u16,
}

impl Elsewhere {
    fn read(fields: &Fields<'_>) -> Self {
        let text = |key| fields.text(key).map(Arc::from);
        Self {
            host: text("hostRedirect"),
            https: fields.bool("httpsRedirect").unwrap_or(false),
            port: policy::number(fields, "portRedirect"),
            full: text("pathRedirect"),
            prefix: text("prefixRewrite"),
            regex: fields.object("regexRewrite").and_then(|it| regex_edit(&it)),
            strip_query: fields.bool("stripQuery").unwrap_or(false),
            status: status(fields),
        }
    }

    /// For a route of this matcher.
    pub(super) fn redirect(&self, matcher: &Matcher) -> Redirect {
        let full = self.full.clone().map(PathEdit::Full);
        let prefix = self.prefix.as_ref().map(|with| prefix_edit(matcher, with));
        let port = match self.port {
            Some(port) => RedirectPort::Number(port),
            None if self.https || self.host.is_some() => RedirectPort::WellKnown,
            None => RedirectPort::Listener,
        };
        Redirect {
            scheme: self.https.then(|| "https".into()),
            host: self.host.clone(),
            port,
            path: full.or(prefix).or_else(|| self.regex.clone()),
            strip_query: self.strip_query,
            status: self.status,
        }
    }
}

/// Names of Envoy's, or their numbers.
fn status(fields: &Fields<'_>) -> u16 {
    let written = fields.loose("responseCode");
    match written.as_deref() {
        None | Some("MOVED_PERMANENTLY" | "0") => 301,
        Some("FOUND" | "1") => 302,
        Some("SEE_OTHER" | "2") => 303,
        Some("TEMPORARY_REDIRECT" | "3") => 307,
        Some("PERMANENT_REDIRECT" | "4") => 308,
        Some(other) => {
            let text = format!("response code {other:?} is not known; 301 is answered");
            fields.refuse("responseCode", "ResponseCodeUnknown", text);
            301
        }
    }
}
