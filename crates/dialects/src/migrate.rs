//! Routes of any dialect → Gateway API objects and our own policies, with a verdict for each rule.
//!
//! Works on the model, so every dialect has it at once. A rule that neither can say is left out with
//! a note, never weakened: a condition that is dropped would send requests where nobody wanted them,
//! and one that protects would let in whom it keeps out. What only limits has a note and its rule
//! stays. What is written is read again by the policies' own reader before it counts as said.

mod door;
mod filter;
mod gateway;
mod hoist;
pub(crate) mod matching;
mod order;
mod route;
mod rule;
mod scheme;
mod secure;
mod service;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use routing::BindId;
use routing::model::tls::{TlsHost, TlsId};
use routing::model::{
    BackendId, Bind, HostPattern, Origin, Protocol, Route, RouteId, Stream, StreamId, Visibility,
};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::backend::BackendRef;
use crate::foreign::BackendSpec;
use crate::gateway_api::covers;
use crate::objects::Name;

use door::{Kind, Listeners};
use order::Placed;
use route::Routes;

const VERSION: &str = "gateway.networking.k8s.io/v1";
const POLICY_VERSION: &str = "gateway.suimon.dev/v1alpha1";
/// Rules of one HTTPRoute (schema).
const MOST_RULES: usize = 16;
/// Letters of a name (RFC 1123, §2.1).
const LONGEST_NAME: usize = 253;

/// What a file becomes.
#[derive(Clone, Debug, Default)]
pub struct Migration {
    /// In the order in which they should be applied.
    pub objects: Vec<Value>,
    /// Sorted.
    pub notes: Vec<Note>,
    /// Where rules are now.
    pub rules: BTreeMap<RouteId, NewRule>,
    /// Where requests by plain HTTP of such rules are redirected that are for HTTPS.
    pub redirects: BTreeMap<RouteId, NewRule>,
}

/// A rule of an HTTPRoute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewRule {
    pub route: Name,
    pub number: usize,
}

/// What became of a rule, or of a part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    pub origin: Origin,
    pub verdict: Verdict,
    /// The part of the routing model, for example `guards.rate_limits`; `rule` is all of it.
    pub part: &'static str,
    pub message: String,
}

/// How much is not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verdict {
    /// The rule is in a new object, the same but for what other notes say.
    Kept,
    /// The rule is left out.
    LeftOut,
    /// The rule is there without this.
    Lost,
    /// It is there and means something slightly different.
    Changed,
}

/// The routes of all objects, and what they send to.
#[derive(Clone, Debug, Default)]
pub struct Input {
    pub routes: BTreeMap<RouteId, Arc<Route>>,
    pub backends: BTreeMap<BackendId, (BackendRef, Option<Arc<BackendSpec>>)>,
    /// What their ports say that their pods speak; those that want TLS are not there.
    pub protocols: BTreeMap<BackendId, Protocol>,
    /// What happens to TLS, and to what is passed on as it is.
    pub tls: BTreeMap<TlsId, Arc<TlsHost>>,
    pub streams: BTreeMap<StreamId, Arc<Stream>>,
    /// The sockets of all of these.
    pub binds: BTreeMap<BindId, Arc<Bind>>,
    /// Those that objects ask for and that nothing is at.
    pub unrouted: Vec<(Origin, BindId)>,
}

/// Writes objects for these routes.
pub fn migrate(input: &Input, class: &str) -> Migration {
    let mut writer = Writer {
        input,
        is_ours: class == api::gateway::CLASS,
        notes: BTreeSet::new(),
        grants: BTreeSet::new(),
        listeners: Listeners::default(),
        uses: BTreeMap::new(),
        buckets: BTreeMap::new(),
    };
    writer.plan_tls();
    let groups = writer.groups();
    for door in groups.keys().flat_map(|place| &place.doors) {
        if door.spoken == door::Spoken::Http {
            writer.listeners.add((*door, HostPattern::Any), Kind::Http);
        }
    }
    let passed = writer.passed();
    writer.listeners.settle();
    let mut written = Routes::default();
    for (number, (place, members)) in groups.into_iter().enumerate() {
        writer.routes(number, &place, members, &mut written);
    }
    let passed = writer.write_passed(passed);
    writer.compare_order(&written.placed);
    writer.compare_hosts(&written.placed);
    writer.tell_about_buckets();
    let of_services = writer.service_policies();
    let mut objects = Vec::new();
    // Another's class is that other's to define.
    if writer.is_ours {
        objects.push(gateway::gateway_class(class));
    }
    objects.extend(writer.gateways(class));
    objects.extend(gateway::grants(&writer.grants));
    // Policies first, so that no route is served without what protects it.
    objects.extend(written.policies);
    objects.extend(of_services);
    objects.extend(written.routes);
    objects.extend(passed);
    let rules = |role: Role| {
        let placed = written.placed.iter().filter(move |it| it.role == role);
        let rules = placed.map(|placed| {
            let (namespace, name, number) = &placed.at;
            let (route, number) = (Name::new(namespace, name), *number);
            (placed.id.clone(), NewRule { route, number })
        });
        rules.collect()
    };
    Migration {
        objects,
        rules: rules(Role::Kept),
        redirects: rules(Role::Redirect),
        notes: writer.notes.into_iter().collect(),
    }
}

/// The text, if need be cut and told apart by what it was.
fn limited(text: &str) -> String {
    if text.len() <= LONGEST_NAME {
        return text.to_owned();
    }
    let digest = hex::encode(Sha256::digest(text));
    let digest = &digest[..8];
    let mut end = LONGEST_NAME - digest.len() - 1;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let begin = text[..end].trim_end_matches(['.', '-']);
    format!("{begin}-{digest}")
}

/// A route's name: that of the object that it was made of, and a number of its own.
fn route_name(of: &str, suffix: &str) -> String {
    limited(&format!("{of}{suffix}").to_lowercase())
}

/// Leave for objects of a namespace to name one of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    from: Arc<str>,
    from_kind: &'static str,
    to_kind: &'static str,
    to: Name,
}

/// What a written rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Kept,
    /// In place of one that is left out, it keeps requests from other rules.
    Blocked,
    /// It sends plain HTTP to where the rule is.
    Redirect,
}

/// Rules that count in one bucket: the HTTPRoute, the rule, and where it came from.
type Holders = BTreeMap<(Arc<str>, String), Origin>;

struct Writer<'i> {
    input: &'i Input,
    /// The Gateway is of our class, so that there are policies and visibilities.
    is_ours: bool,
    notes: BTreeSet<Note>,
    grants: BTreeSet<Grant>,
    listeners: Listeners,
    /// How Services are used, by whom.
    uses: BTreeMap<Name, BTreeMap<BackendId, BTreeSet<Origin>>>,
    /// Who counts in which bucket: rules, by the HTTPRoute.
    buckets: BTreeMap<Arc<str>, Holders>,
}

impl<'i> Writer<'i> {
    fn note(&mut self, origin: &Origin, verdict: Verdict, part: &'static str, message: &str) {
        self.notes.insert(Note {
            origin: origin.clone(),
            verdict,
            part,
            message: message.to_owned(),
        });
    }

    /// Tells where the written order and Gateway API's own differ: between rules of one host.
    fn compare_order(&mut self, placed: &[Placed<'_>]) {
        let mut hosts: BTreeMap<_, Vec<&Placed<'_>>> = BTreeMap::new();
        for one in placed {
            for host in &one.route.hosts {
                let key = (&one.route.bind, one.route.visibility, host);
                hosts.entry(key).or_default().push(one);
            }
        }
        for mut members in hosts.into_values() {
            for (origin, text) in order::inversions(&mut members) {
                self.note(&origin, Verdict::Changed, "order", &text);
            }
        }
    }

    /// At the gateway's own listeners the rules of a host are all there is for it; there, what none
    /// of them takes is for those of a wider one.
    fn compare_hosts(&mut self, placed: &[Placed<'_>]) {
        let shared = placed.iter().filter(|one| one.route.bind.is_none());
        let shared = shared.filter(|one| one.route.visibility == Visibility::External);
        let mut hosts: BTreeMap<&HostPattern, Vec<&Placed<'_>>> = BTreeMap::new();
        for one in shared {
            for host in &one.route.hosts {
                hosts.entry(host).or_default().push(one);
            }
        }
        for (narrow, members) in &hosts {
            let takes_all = members.iter().any(|one| one.matches.is_empty());
            let is_wider = |wide: &&&HostPattern| **wide != *narrow && covers(wide, narrow);
            let Some(wide) = hosts.keys().find(is_wider).filter(|_| !takes_all) else {
                continue;
            };
            let text = format!(
                "requests for {narrow} that no rule takes are answered 404 here, and are for the rules of {wide} there"
            );
            for one in members {
                self.note(&one.route.origin, Verdict::Changed, "hosts", &text);
            }
        }
    }

    /// A policy has buckets for each of its targets.
    fn tell_about_buckets(&mut self) {
        let shared = std::mem::take(&mut self.buckets).into_values();
        for users in shared.filter(|users| users.len() > 1) {
            let text = format!(
                "what is counted is counted together here, and for each of {} HTTPRoutes by itself there",
                users.len()
            );
            for origin in users.into_values() {
                self.note(&origin, Verdict::Changed, "guards.buckets", &text);
            }
        }
    }
}

#[cfg(test)]
mod tests;
