//! Canaries: what takes a part of the requests for a path of another Ingress.
//!
//! The routes are those of the Ingress that is altered, with all of its annotations; the canary
//! itself has none, and is told what is wrong with it.

use std::sync::Arc;

use k8s_openapi::api::networking::v1 as networking;
use routing::model::{Action, Arm, BackendId, HashKey, HostPattern, Instead, Match, Split};

use super::nginx::canary::{self, Canary, Taker};
use super::translator::{Translator, no_service, unusable};
use crate::diagnostic::{Diagnostic, Effect};
use crate::objects::Name;
use crate::shared::matches;

/// What a path of an Ingress becomes routes from.
pub(super) struct Served<'a> {
    /// The host of its rule, as it is written.
    pub(super) host: &'a str,
    pub(super) path: &'a networking::HTTPIngressPath,
    pub(super) field: String,
    pub(super) hosts: Vec<HostPattern>,
    pub(super) sort_key: Vec<i64>,
    pub(super) matches: Vec<Match>,
}

/// Whether two paths are one, so that a canary alters it.
fn is_same(one: &networking::HTTPIngressPath, other: &networking::HTTPIngressPath) -> bool {
    fn text(path: &networking::HTTPIngressPath) -> &str {
        let text = path.path.as_deref().unwrap_or_default();
        if text.is_empty() { "/" } else { text }
    }
    text(one) == text(other) && one.path_type == other.path_type
}

/// The paths of an Ingress for a host (in lower case).
fn paths<'a>(ingress: &'a networking::Ingress, host: &str) -> Vec<&'a networking::HTTPIngressPath> {
    let rules = ingress.spec.iter().flat_map(|spec| &spec.rules).flatten();
    let rules = rules.filter(|rule| {
        let own = rule.host.as_deref().unwrap_or_default();
        own.eq_ignore_ascii_case(host)
    });
    let paths = rules.flat_map(|rule| &rule.http);
    paths.flat_map(|http| &http.paths).collect()
}

impl Translator<'_> {
    /// A path's routes: one, and those before it that a canary adds.
    pub(super) fn serve(&mut self, served: &Served<'_>) {
        let path = served.path.path.as_deref().unwrap_or_default();
        let keeps = self.wishes.keeps(path);
        let own = Arc::clone(&self.name.namespace);
        let field = format!("{}.backend", served.field);
        let main = self.arm(&own, &served.path.backend, &field, keeps.as_ref());
        let main = main.map_err(|finding| self.out.diagnostics.push(finding));
        let Some((canary, arm)) = self.canary(served, keeps.as_ref()) else {
            let action = main.ok().and_then(|arm| Split::new(vec![arm]));
            let action = action.map_or_else(unusable, Action::Forward);
            self.route(
                (&served.field, ""),
                served.hosts.clone(),
                served.sort_key.clone(),
                served.matches.clone(),
                action,
            );
            return;
        };
        let main = main.unwrap_or_else(|()| instead());
        let decided = canary.decided();
        let all = |arm: &Arm| Split::new(vec![arm.clone()]).map_or_else(unusable, Action::Forward);
        for (at, (says, taker)) in decided.iter().enumerate() {
            let action = match taker {
                Taker::Canary => all(&arm),
                Taker::Main => all(&main),
            };
            self.route(
                (&served.field, &format!("/canary[{at}]")),
                served.hosts.clone(),
                after(served, at),
                matches::and(&served.matches, says),
                action,
            );
        }
        // The first one's sessions keep requests to an arm: a canary that is apart has none of the
        // others'.
        let shares = vec![
            Arm {
                weight: canary.weight,
                ..arm
            },
            Arm {
                weight: canary.total - canary.weight,
                ..main
            },
        ];
        let action = Split::new(shares).map_or_else(unusable, Action::Forward);
        self.route(
            (&served.field, ""),
            served.hosts.clone(),
            after(served, decided.len()),
            served.matches.clone(),
            action,
        );
    }

    /// The oldest canary of a path, and where it sends to.
    fn canary(&mut self, served: &Served<'_>, keeps: Option<&HashKey>) -> Option<(Canary, Arm)> {
        if self.wishes.instead.is_some() {
            return None;
        }
        let host = served.host.to_ascii_lowercase();
        let all = self.reader.canaries_of(&host);
        let mut found = all.into_iter().filter_map(|ingress| {
            let mut paths = paths(ingress, &host).into_iter();
            let path = paths.find(|path| is_same(path, served.path))?;
            Some((ingress, path))
        });
        let (ingress, path) = found.next()?;
        // What is wrong is told to the canary.
        let canary = canary::read(ingress, &mut Vec::new())?;
        let keeps = canary.keeps(keeps, path.path.as_deref().unwrap_or_default());
        let namespace = Name::of(&ingress.metadata).namespace;
        let arm = self.arm(&namespace, &path.backend, "", keeps.as_ref());
        Some((canary, arm.unwrap_or_else(|_| instead())))
    }

    /// What is wrong with an Ingress that is a canary itself.
    pub(super) fn judge(&mut self, spec: &networking::IngressSpec) {
        if spec.default_backend.is_some() {
            let message = "a canary's default backend alters nothing: write a rule with the path \
                           of the other Ingress";
            self.refuse(
                "CanaryNotSupported",
                "spec.defaultBackend",
                message.to_owned(),
            );
        }
        for (at, rule) in spec.rules.iter().flatten().enumerate() {
            let host = rule
                .host
                .as_deref()
                .unwrap_or_default()
                .to_ascii_lowercase();
            let paths = rule.http.iter().flat_map(|http| &http.paths);
            for (path_at, path) in paths.enumerate() {
                let field = format!("spec.rules[{at}].http.paths[{path_at}]");
                self.judge_path(&host, path, &field);
            }
        }
        if spec.rules.iter().flatten().next().is_none() {
            let message = "a canary without rules alters nothing";
            self.refuse("RulesMissing", "spec.rules", message.to_owned());
        }
    }

    fn judge_path(&mut self, host: &str, path: &networking::HTTPIngressPath, field: &str) {
        let has_path = |ingress: &&networking::Ingress| {
            let mut all = paths(ingress, host).into_iter();
            all.any(|other| is_same(other, path))
        };
        if !self.reader.mains_of(host).iter().any(has_path) {
            let message = format!(
                "no other Ingress has the path {:?} of type {} for host {host:?}, so there is \
                 nothing to alter; the path is not served",
                path.path.as_deref().unwrap_or_default(),
                path.path_type
            );
            let missing = Diagnostic::new(Effect::Waiting, "MainIngressMissing", field, message);
            self.out.diagnostics.push(missing);
        }
        let canaries = self.reader.canaries_of(host);
        let first = canaries.into_iter().find(has_path);
        let first = first.map(|first| Name::of(&first.metadata));
        if let Some(first) = first.filter(|first| *first != self.name) {
            let message = format!(
                "the older Ingress {first} is a canary of this path; there can be one, and this \
                 one gets nothing"
            );
            let conflict = Diagnostic::new(Effect::Conflict, "CanaryConflict", field, message);
            self.out.diagnostics.push(conflict);
        }
        let own = Arc::clone(&self.name.namespace);
        let found = self.target(&own, &path.backend, &format!("{field}.backend"));
        self.out.diagnostics.extend(found.err());
    }
}

/// A share whose Service cannot be used.
fn instead() -> Arm {
    Arm {
        instead: Some(Box::new(Instead::Respond(no_service()))),
        ..Arm::new(1, BackendId("".into()))
    }
}

/// The place of the route `at` of a path.
fn after(served: &Served<'_>, at: usize) -> Vec<i64> {
    let mut key = served.sort_key.clone();
    // A canary decides by a handful of conditions.
    key.push(at as i64);
    key
}
