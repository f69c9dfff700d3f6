//! One route of an Ingress with all that annotations and policies ask of it.

use std::sync::Arc;

use routing::model::{
    Action, Filters, HeaderOps, HostPattern, Match, Route, RouteId, SortKey, Visibility,
};

use super::nginx::{self, Redirected};
use super::translator::Translator;
use crate::overlay;
use crate::shared::scheme;

impl Translator<'_> {
    /// A route of a field; `part` tells it apart from the field's other ones.
    pub(super) fn route(
        &mut self,
        (field, part): (&str, &str),
        hosts: Vec<HostPattern>,
        sort_key: Vec<i64>,
        mut matches: Vec<Match>,
        action: Action,
    ) {
        self.conditions.narrow(&mut matches);
        let id = RouteId(format!("ingress/{}/{field}{part}", self.name).into());
        let policies = overlay::of_hosts(&self.reader, &hosts, &[]);
        let mut route = Route {
            origin: self.origin(field),
            bind: None,
            visibility: Visibility::External,
            hosts,
            sort_key: SortKey(sort_key),
            matches,
            request_headers: HeaderOps::default(),
            rewrite_host: None,
            filters: Filters::default(),
            action,
        };
        self.redirect(&mut route, &id);
        self.wishes.apply(&mut route);
        self.ask(&mut route);
        policies.apply(&mut route, &self.reader);
        self.out.routes.push((id, Arc::new(route)));
    }

    /// Plain HTTP of a route is sent to HTTPS, if that is asked for its hosts, before the route.
    fn redirect(&mut self, route: &mut Route, id: &RouteId) {
        let hosts: Vec<_> = match self.wishes.to_https {
            None => return,
            Some(Redirected::All) => route.hosts.clone(),
            Some(Redirected::WithCertificate) => {
                let named = |host: &&HostPattern| self.has_certificate(host);
                route.hosts.iter().filter(named).cloned().collect()
            }
        };
        if hosts.is_empty() {
            return;
        }
        let mut sent = Route {
            hosts,
            matches: scheme::over_http(&route.matches),
            action: Action::Redirect(nginx::to_https()),
            ..route.clone()
        };
        sent.sort_key.0.push(0);
        route.sort_key.0.push(1);
        let id = RouteId(format!("{id}/https").into());
        self.out.routes.push((id, Arc::new(sent)));
    }

    /// Whether `spec.tls` names a host, with a wildcard or not, or is for every one.
    fn has_certificate(&self, host: &HostPattern) -> bool {
        let spec = self.ingress.spec.iter();
        let mut entries = spec.flat_map(|spec| spec.tls.iter().flatten());
        let name = host.to_string();
        entries.any(|entry| {
            let hosts = entry.hosts.as_deref().unwrap_or_default();
            let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
            let is_of = |it: &String| {
                it.eq_ignore_ascii_case(&name)
                    || wildcard
                        .as_ref()
                        .is_some_and(|any| it.eq_ignore_ascii_case(any))
            };
            hosts.is_empty() || hosts.iter().any(is_of)
        })
    }
}
