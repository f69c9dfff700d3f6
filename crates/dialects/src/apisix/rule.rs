//! Rules of an ApisixRoute → routes: one per host, path and branch of a traffic-split, since each
//! has a place of its own.

use std::sync::Arc;

use routing::model::{
    Action, Arm, HostPattern, PathMatch, Predicate, Route, RouteId, SortKey, Split, Visibility,
};
use serde_json::{Map, Value};

use super::access;
use super::backend::{Backends, Resolver, unavailable};
use super::instance::{self, Outcome};
use super::matching::{self, Matching};
use super::plugin::{self, Context, Effects};
use super::stream;
use super::upstream::Times;
use crate::diagnostic::Effect;
use crate::fields::Fields;
use crate::foreign::{Object, Translation};
use crate::objects::{Objects, Reader};

pub(super) fn translate(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, reader, out| {
        let mut backends = Backends::new();
        for (at, rule) in spec.objects("http").iter().enumerate() {
            let writer = Writer {
                object,
                reader,
                rule,
                at,
            };
            writer.run(&mut backends, out);
        }
        for (at, rule) in spec.objects("stream").iter().enumerate() {
            stream::translate(object, reader, (rule, at), &mut backends, out);
        }
        out.backends = backends;
        if out.routes.is_empty() && out.streams.is_empty() {
            if !spec.has("http") && !spec.has("stream") {
                spec.refuse(
                    "http",
                    "RulesMissing",
                    "there is no rule: nothing is served",
                );
            }
            return Outcome::Refused;
        }
        Outcome::Served
    })
}

struct Writer<'w, 'v, 'a> {
    object: &'w Object,
    reader: &'w Reader<'a>,
    rule: &'w Fields<'v>,
    /// Which rule of the object it is.
    at: usize,
}

impl Writer<'_, '_, '_> {
    fn run(&self, backends: &mut Backends, out: &mut Translation) {
        let rule = self.rule;
        rule.ignore("name");
        let Some(matching) = matching::read(rule) else {
            rule.pass_over();
            return;
        };
        let mut resolver = Resolver {
            reader: self.reader,
            namespace: &self.object.name.namespace,
            times: Times::read(rule),
            stream: None,
            backends,
        };
        let arms = resolver.arms(rule);
        let mut effects = Effects::default();
        effects.guards.no_upgrade = rule.bool("websocket") != Some(true);
        let mut ctx = Context {
            id: format!("apisix/{}/{}", self.object.name, self.at),
            resolver: &mut resolver,
        };
        let plugins = plugin::of_rule(rule, self.object, self.reader);
        plugin::apply(&plugins, rule, &mut effects, &mut ctx);
        self.authentication(&mut effects, &mut ctx);
        self.emit(&matching, &arms, effects, out);
    }

    /// `authentication` of the rule: the plugin of that kind.
    fn authentication(&self, effects: &mut Effects, ctx: &mut Context<'_, '_, '_>) {
        let Some(fields) = self.rule.object("authentication") else {
            return;
        };
        if fields.bool("enable") != Some(true) {
            fields.pass_over();
            return;
        }
        let (plugin, own) = match fields.text("type").unwrap_or("basicAuth") {
            "basicAuth" => ("basic-auth", None),
            "keyAuth" => ("key-auth", Some("keyAuth")),
            "jwtAuth" => ("jwt-auth", Some("jwtAuth")),
            other => {
                fields.unsupported("ldapAuth", "put a Service of forward-auth in front of LDAP");
                fields.pass_over();
                let message = format!(
                    "type {other:?} is not supported; use basicAuth, keyAuth or jwtAuth: the rule answers 503"
                );
                fields.refuse("type", "AuthenticationNotSupported", message);
                effects.closed.get_or_insert_with(|| other.to_owned());
                return;
            }
        };
        let none = Value::Object(Map::new());
        let config = own.and_then(|key| fields.raw(key)).unwrap_or(&none);
        let path = own.map_or_else(|| fields.path().to_owned(), |key| fields.at(key));
        let others = ["keyAuth", "jwtAuth", "ldapAuth"].into_iter();
        for key in others.filter(|key| Some(*key) != own) {
            fields.unsupported(key, "it belongs to another type, set type or remove it");
        }
        let config = Fields::new(config, path, fields.findings());
        access::consumers(plugin, &config, effects, ctx);
    }

    fn emit(&self, matching: &Matching, own: &[Arm], effects: Effects, out: &mut Translation) {
        let mut branches: Vec<(Vec<Vec<Predicate>>, Vec<Arm>)> = effects
            .branches
            .iter()
            .map(|branch| (branch.when.clone(), branch.arms(own)))
            .collect();
        // Nothing comes after a branch for all requests.
        let last = branches.iter().position(|(when, _)| when.is_empty());
        match last {
            Some(last) => branches.truncate(last + 1),
            None => branches.push((Vec::new(), own.to_vec())),
        }
        let field = format!("spec.http[{}]", self.at);
        let mut filters = effects.filters.clone();
        if !effects.guards.is_empty() {
            filters.guards = Some(Arc::new(effects.guards.clone()));
        }
        for (host_at, host) in matching.hosts.iter().enumerate() {
            let hosts = self.hosts(host, &field);
            if hosts.is_empty() {
                continue;
            }
            for (path_at, path) in matching.paths.iter().enumerate() {
                for (branch_at, (when, arms)) in branches.iter().enumerate() {
                    let mut key = matching::order(host, path, matching.priority);
                    // Indexes into an object that fits into memory.
                    key.extend([self.object.created, self.at as i64, branch_at as i64]);
                    let id = format!(
                        "apisix/ApisixRoute/{}/{}.{host_at}.{path_at}.{branch_at}",
                        self.object.name, self.at
                    );
                    let mut filters = filters.clone();
                    if let Some(plugin) = &effects.grpc_web {
                        plugin.edit(path, &mut filters);
                    }
                    let route = Route {
                        origin: self.object.origin(&field),
                        bind: None,
                        visibility: Visibility::External,
                        hosts: hosts.clone(),
                        sort_key: SortKey(key),
                        matches: alternatives(matching, path, when),
                        request_headers: effects.request_headers.clone(),
                        rewrite_host: None,
                        filters,
                        action: action(&effects, arms),
                    };
                    out.routes.push((RouteId(id.into()), Arc::new(route)));
                }
            }
        }
    }

    /// Where a host of the rule is entered.
    fn hosts(&self, host: &HostPattern, field: &str) -> Vec<HostPattern> {
        let mut hosts = Vec::new();
        for spot in matching::spread(self.reader, host) {
            match self.reader.host_owner(&spot) {
                Some(owner) => {
                    let message = format!(
                        "host {spot} belongs to the Knative Ingress {}; the rule is not served there",
                        owner.owner
                    );
                    let field = format!("{field}.match.hosts");
                    let findings = self.rule.findings();
                    findings.say(Effect::Conflict, "DomainConflict", &field, message);
                }
                None => hosts.push(spot),
            }
        }
        hosts
    }
}

fn alternatives(
    matching: &Matching,
    path: &PathMatch,
    when: &[Vec<Predicate>],
) -> Vec<routing::model::Match> {
    if when.is_empty() {
        return matching.matches(path, &[]);
    }
    let matches = when.iter().flat_map(|also| matching.matches(path, also));
    matches.collect()
}

fn action(effects: &Effects, arms: &[Arm]) -> Action {
    if effects.closed.is_some() {
        return Action::Respond(unavailable());
    }
    if let Some(respond) = &effects.respond {
        return Action::Respond(respond.clone());
    }
    if let Some(redirect) = &effects.redirect {
        return Action::Redirect(redirect.clone());
    }
    let mut split = Split::new(arms.to_vec());
    if effects.grpc_web.is_some() {
        split = split.map(Split::with_grpc_web);
    }
    match split {
        Some(split) if effects.to_https => Action::ForwardSecure(split),
        Some(split) => Action::Forward(split),
        None => Action::Respond(unavailable()),
    }
}
