//! Which listeners and Services a route is attached to, and for which hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::gateway::v1::ParentReference;
use api::gateway::{CONTROLLER, GROUP, reason};
use routing::BindId;
use routing::model::HostPattern;

use super::gateway::{EVERY, host};
use super::mesh::{self, ServiceBind};
use super::plan::{Finding, ListenerPlan, Namespaces, Plan, RouteKind};
use super::streams::Spot;
use crate::gloo::target::{self, Listener};
use crate::objects::{Name, Reader};
use crate::shared::selector;

/// Hosts that belong to both a listener and a route, with how much wider the hostname is that the
/// route has them by: 0 for the host itself. Of the routes of one host the narrowest come first.
pub(super) type Hosts = BTreeMap<HostPattern, i64>;

/// What a route says about where it wants to be.
pub(super) struct Applicant<'r> {
    pub(super) kind: RouteKind,
    pub(super) name: &'r Name,
    pub(super) parents: &'r [ParentReference],
    pub(super) hostnames: &'r [String],
    /// `useDefaultGateways`.
    pub(super) defaults: Option<&'r str>,
}

/// A parent that is a Gateway of ours, a ListenerSet of one, or a Service.
pub(super) struct Attached {
    pub(super) parent: ParentReference,
    pub(super) controller: Arc<str>,
    pub(super) refused: Option<Finding>,
}

/// Where a route is served.
#[derive(Default)]
pub(super) struct Places {
    pub(super) parents: Vec<Attached>,
    pub(super) listeners: BTreeSet<(Name, Arc<str>)>,
    /// The same, by ListenerSet.
    pub(super) sets: BTreeSet<(Name, Arc<str>)>,
    pub(super) gateways: BTreeSet<Name>,
    /// Hosts by bind; never empty.
    pub(super) hosts: BTreeMap<BindId, Hosts>,
    /// The Gateways of binds, for those that show a certificate to backends.
    pub(super) clients: BTreeMap<BindId, Name>,
    /// Listeners about which Gloo's options say something, by bind and host.
    pub(super) optioned: BTreeMap<(BindId, HostPattern), Listener>,
    /// At Services.
    pub(super) binds: Vec<ServiceBind>,
    /// The same apart for each listener, where there is no HTTP.
    pub(super) spots: BTreeMap<(BindId, Arc<str>), Spot>,
}

/// Judges every parent.
pub(super) fn attach(applicant: &Applicant<'_>, reader: &Reader<'_>) -> Places {
    let mut places = Places::default();
    for parent in applicant.parents {
        if mesh::is_service(parent) {
            places.at_service(applicant, parent, reader);
            continue;
        }
        if parent.group != GROUP {
            continue;
        }
        let namespace = parent
            .namespace
            .as_deref()
            .unwrap_or(&applicant.name.namespace);
        let name = Name::new(namespace, &parent.name);
        let plan = match parent.kind.as_str() {
            "Gateway" => reader.plan(&name),
            "ListenerSet" => reader.set_plan(&name),
            _ => None,
        };
        if let Some(plan) = plan {
            places.at_gateway(applicant, parent, plan, reader);
        }
    }
    if applicant.defaults == Some(EVERY) {
        places.at_defaults(applicant, reader);
    }
    places
}

/// The listeners that take the route: those that it names, that allow it, and that share a host
/// with it.
fn admit<'p>(
    applicant: &Applicant<'_>,
    parent: &ParentReference,
    plan: &'p Plan,
    reader: &Reader<'_>,
) -> Result<Vec<&'p ListenerPlan>, Finding> {
    let named = |listener: &&ListenerPlan| {
        let section = parent.section_name.as_deref();
        section.is_none_or(|section| *section == *listener.name)
            && parent
                .port
                .is_none_or(|port| port == i32::from(listener.port))
    };
    let named: Vec<_> = plan.listeners.iter().filter(named).collect();
    if named.is_empty() {
        return Err(Finding::new(
            reason::NO_MATCHING_PARENT,
            format!("{} {} has no such listener", plan.kind(), plan.name),
        ));
    }
    let allows = |listener: &&ListenerPlan| {
        listener.kinds.contains(&applicant.kind)
            && allows(&listener.namespaces, &plan.name, applicant.name, reader)
    };
    let allowing: Vec<_> = named.into_iter().filter(allows).collect();
    if allowing.is_empty() {
        return Err(Finding::new(
            reason::NOT_ALLOWED_BY_LISTENERS,
            format!(
                "no listener of {} {} takes routes of this kind from namespace {}",
                plan.kind(),
                plan.name,
                applicant.name.namespace
            ),
        ));
    }
    let shares =
        |listener: &&ListenerPlan| !intersection(&listener.host, applicant.hostnames).is_empty();
    let sharing: Vec<_> = allowing.into_iter().filter(shares).collect();
    if sharing.is_empty() {
        return Err(Finding::new(
            reason::NO_MATCHING_LISTENER_HOSTNAME,
            format!(
                "no listener of {} {} has a hostname of this route",
                plan.kind(),
                plan.name
            ),
        ));
    }
    Ok(sharing)
}

fn allows(namespaces: &Namespaces, gateway: &Name, route: &Name, reader: &Reader<'_>) -> bool {
    match namespaces {
        Namespaces::All => true,
        Namespaces::None => false,
        Namespaces::Same => gateway.namespace == route.namespace,
        Namespaces::Selected(wanted) => reader
            .namespace(&route.namespace)
            .is_some_and(|labels| selector::selects(wanted, labels)),
    }
}

impl Places {
    /// Whose requests there are: the Gateways that show a certificate to backends, each apart, and
    /// all others together.
    pub(super) fn clients(&self) -> BTreeSet<Option<&Name>> {
        let mut clients: BTreeSet<_> = self
            .hosts
            .keys()
            .map(|bind| self.clients.get(bind))
            .collect();
        if clients.is_empty() {
            // Whatever is wrong with a route is found out even where nothing of it is served.
            clients.insert(None);
        }
        clients
    }

    /// The namespace whose calls alone the route is for, at a bind of a Service.
    pub(super) fn callers(&self, bind: &BindId) -> Option<&Arc<str>> {
        let mut places = self.binds.iter();
        let place = places.find(|place| place.bind.id == *bind)?;
        place.callers.as_ref()
    }

    /// Hosts of a bind by the listeners about which there are options, and all others together.
    pub(super) fn by_listener(
        &self,
        bind: &BindId,
        hosts: &BTreeSet<HostPattern>,
    ) -> BTreeMap<Option<&Listener>, BTreeSet<HostPattern>> {
        let mut groups: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for host in hosts {
            let place = (bind.clone(), host.clone());
            let group = groups.entry(self.optioned.get(&place)).or_default();
            group.insert(host.clone());
        }
        groups
    }

    /// Whether all the parents are Services.
    pub(super) fn are_services(&self) -> bool {
        self.parents.iter().all(|it| mesh::is_service(&it.parent))
    }

    fn at_gateway(
        &mut self,
        applicant: &Applicant<'_>,
        parent: &ParentReference,
        plan: &Plan,
        reader: &Reader<'_>,
    ) {
        let refused = match admit(applicant, parent, plan, reader) {
            Ok(listeners) => {
                for listener in listeners {
                    self.add(plan, listener, applicant, reader);
                }
                None
            }
            Err(finding) => Some(finding),
        };
        self.parents.push(Attached {
            parent: parent.clone(),
            controller: Arc::clone(&plan.controller),
            refused,
        });
    }

    /// As if all default Gateways were parents; one that is, or of which a listener is, stays as
    /// it is named (GEP-3793).
    fn at_defaults(&mut self, applicant: &Applicant<'_>, reader: &Reader<'_>) {
        let own = &applicant.name.namespace;
        for plan in reader.default_plans() {
            let is_named = |parent: &ParentReference| {
                let namespace = parent.namespace.as_deref().unwrap_or(own);
                let is_gateway = parent.group == GROUP && parent.kind == "Gateway";
                is_gateway && *namespace == *plan.name.namespace && *parent.name == *plan.name.name
            };
            if applicant.parents.iter().any(is_named) {
                continue;
            }
            let parent = ParentReference {
                group: GROUP.to_owned(),
                kind: "Gateway".to_owned(),
                namespace: Some(plan.name.namespace.to_string()),
                name: plan.name.name.to_string(),
                section_name: None,
                port: None,
            };
            self.at_gateway(applicant, &parent, plan, reader);
        }
    }

    fn at_service(
        &mut self,
        applicant: &Applicant<'_>,
        parent: &ParentReference,
        reader: &Reader<'_>,
    ) {
        let admitted = mesh::admit(applicant, parent, reader);
        let refused = admitted.as_ref().err().cloned();
        for place in admitted.unwrap_or_default() {
            let hosts = Hosts::from([(HostPattern::Any, 0)]);
            self.hosts.insert(place.bind.id.clone(), hosts);
            self.binds.push(place);
        }
        self.parents.push(Attached {
            parent: parent.clone(),
            controller: CONTROLLER.into(),
            refused,
        });
    }

    fn add(
        &mut self,
        plan: &Plan,
        listener: &ListenerPlan,
        applicant: &Applicant<'_>,
        reader: &Reader<'_>,
    ) {
        let of_kind = match plan.parent {
            None => &mut self.listeners,
            Some(_) => &mut self.sets,
        };
        of_kind.insert((plan.name.clone(), Arc::clone(&listener.name)));
        self.gateways.insert(plan.gateway().clone());
        // A request belongs to the most specific listener of its port: hosts that are wholly
        // another's are not for routes of this one.
        let others = plan.served.get(&listener.port).into_iter().flatten();
        let others =
            others.filter(|other| **other != listener.host && covers(&listener.host, other));
        let narrower: Vec<_> = others.collect();
        let hosts: Hosts = intersection(&listener.host, applicant.hostnames)
            .into_iter()
            .filter(|(host, _)| !narrower.iter().any(|other| covers(other, host)))
            .collect();
        if hosts.is_empty() {
            return;
        }
        let itself = Listener {
            gateway: plan.gateway().clone(),
            set: plan.parent.as_ref().map(|_| plan.name.clone()),
            name: Arc::clone(&listener.name),
        };
        let has_options = applicant.kind.stream().is_none() && target::has_options(reader, &itself);
        for bind in &listener.binds {
            if applicant.kind.stream().is_some() {
                let spot = Spot {
                    hosts: hosts.clone(),
                    tls: listener.tls.clone(),
                };
                let key = (bind.clone(), plan.listener_id(listener));
                self.spots.insert(key, spot);
                continue;
            }
            let of_bind = self.hosts.entry(bind.clone()).or_default();
            for (host, wider) in &hosts {
                let known = of_bind.entry(host.clone()).or_insert(*wider);
                *known = (*known).min(*wider);
                if has_options {
                    let place = (bind.clone(), host.clone());
                    self.optioned.insert(place, itself.clone());
                }
            }
            if plan.client.is_some() {
                self.clients.insert(bind.clone(), plan.gateway().clone());
            }
        }
    }
}

/// Hosts that belong to both a listener and a route. A route without hostnames has all.
fn intersection(listener: &HostPattern, hostnames: &[String]) -> Hosts {
    let every = [String::new()];
    let hostnames = if hostnames.is_empty() {
        &every
    } else {
        hostnames
    };
    let mut common = Hosts::new();
    for text in hostnames {
        let wanted = host(Some(text));
        let (shared, wider) = if covers(listener, &wanted) {
            (wanted, 0)
        } else if covers(&wanted, listener) {
            (listener.clone(), WIDEST - length(text))
        } else {
            continue;
        };
        let known = common.entry(shared).or_insert(wider);
        *known = (*known).min(wider);
    }
    common
}

/// How much wider all hosts are; a hostname has less characters.
const WIDEST: i64 = 1024;

fn length(hostname: &str) -> i64 {
    i64::try_from(hostname.len()).unwrap_or(WIDEST).min(WIDEST)
}

/// Whether every host of `narrow` is one of `wide`.
pub(crate) fn covers(wide: &HostPattern, narrow: &HostPattern) -> bool {
    match (wide, narrow) {
        (HostPattern::Any, _) => true,
        (_, HostPattern::Any)
        | (HostPattern::Exact(_), HostPattern::Suffix(_) | HostPattern::Label(_))
        | (HostPattern::Label(_), HostPattern::Suffix(_)) => false,
        (HostPattern::Exact(wide), HostPattern::Exact(narrow)) => wide == narrow,
        (HostPattern::Suffix(suffix), HostPattern::Exact(name)) => name
            .strip_suffix(&**suffix)
            .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        (HostPattern::Label(suffix), HostPattern::Exact(name)) => name
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && *rest == **suffix),
        (HostPattern::Label(wide), HostPattern::Label(narrow)) => wide == narrow,
        (HostPattern::Suffix(wide), HostPattern::Suffix(narrow) | HostPattern::Label(narrow)) => {
            wide == narrow
                || narrow
                    .strip_suffix(&**wide)
                    .is_some_and(|rest| rest.ends_with('.'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrower_of_two_hosts_is_what_they_share() {
        let check = |listener: &str, route: &str, expected: &str| {
            let listener = host(Some(listener));
            let found = intersection(&listener, &[route.to_owned()]);
            let found: Vec<_> = found.into_keys().collect();
            let expected = match expected {
                "none" => Vec::new(),
                text => vec![host(Some(text))],
            };
            assert_eq!(found, expected, "{listener:?} {route}");
        };
        check("", "a.example.com", "a.example.com");
        check("a.example.com", "a.example.com", "a.example.com");
        check("a.example.com", "A.Example.com", "a.example.com");
        check("a.example.com", "b.example.com", "none");
        check("a.example.com", "*.example.com", "a.example.com");
        check("*.example.com", "a.b.example.com", "a.b.example.com");
        check("*.example.com", "example.com", "none");
        check("*.example.com", "*.com", "*.example.com");
        check("*.example.com", "*.a.example.com", "*.a.example.com");
        check("*.example.com", "badexample.com", "none");
        check("*.example.com", "*.badexample.com", "none");
        let all = Hosts::from([(HostPattern::Any, 0)]);
        assert_eq!(intersection(&HostPattern::Any, &[]), all);
    }

    #[test]
    fn a_route_that_has_a_host_by_a_narrower_name_is_nearer() {
        let listener = host(Some("a.b.example.com"));
        let wider = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let hosts = intersection(&listener, &names);
            hosts.into_values().next().expect("a host")
        };
        let order = [
            wider(&["a.b.example.com", "*.com"]),
            wider(&["*.b.example.com", "*.com"]),
            wider(&["*.example.com"]),
            wider(&["*.com"]),
            wider(&[]),
        ];
        assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
    }
}
