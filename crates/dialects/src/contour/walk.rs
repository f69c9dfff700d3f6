//! From a root along its includes: every object's routes, with the conditions of the way to it.
//!
//! Each object that is met is judged; what is wrong with an included one is its own matter, not
//! its root's.

use std::collections::BTreeMap;

use super::condition::{self, Condition};
use super::plan::{self, AuthorizationChoice, Planned, Planning};
use super::policy;
use super::route;
use super::service::Backends;
use super::spec::{self, Include, Spec};
use super::status::{Judgement, Problem, Told, kind};
use crate::fields::Findings;
use crate::foreign::Object;
use crate::objects::{Name, Reader};
use routing::model::Filters;

/// Includes of includes, at most.
const DEEPEST: usize = 32;
/// Objects that one root meets, at most, counting an object as often as it is included.
const MOST: usize = 10_000;

/// What routes must know of their root.
pub(super) struct Facts<'r, 'o> {
    pub(super) backends: Backends<'r, 'o>,
    pub(super) default_provider: Option<String>,
    /// The host has TLS, so plain HTTP is redirected.
    pub(super) has_tls: bool,
    /// Even for routes that permit plain HTTP.
    pub(super) forbids_insecure: bool,
}

impl Facts<'_, '_> {
    pub(super) fn enforces_tls(&self, permit_insecure: bool) -> bool {
        self.has_tls && (self.forbids_insecure || !permit_insecure)
    }
}

/// A walk over the objects of one root.
pub(super) struct Walk<'r, 'o> {
    pub(super) reader: &'r Reader<'o>,
    pub(super) facts: Facts<'r, 'o>,
    pub(super) judged: BTreeMap<Name, Judgement>,
    way: Vec<Name>,
    steps: usize,
}

impl<'r, 'o> Walk<'r, 'o> {
    pub(super) fn new(reader: &'r Reader<'o>) -> Self {
        Self {
            reader,
            facts: Facts {
                backends: Backends::new(reader),
                default_provider: None,
                has_tls: false,
                forbids_insecure: false,
            },
            judged: BTreeMap::new(),
            way: Vec::new(),
            steps: 0,
        }
    }

    pub(super) fn judge(&mut self, name: &Name) -> &mut Judgement {
        self.judged.entry(name.clone()).or_default()
    }

    /// The routes of an object and of all that it includes. `at` is where it is, from the root.
    pub(super) fn routes(
        &mut self,
        object: &Object,
        spec: &Spec,
        conditions: &[Condition],
        at: &str,
    ) -> Vec<Planned> {
        if let Err(problem) = self.enter(&object.name) {
            self.judge(&object.name).error(problem);
            return Vec::new();
        }
        let routes = self.inside(object, spec, conditions, at);
        self.way.pop();
        match routes {
            Ok(routes) if spec::is_legacy(object) => routes,
            Ok(routes) => plan::expand(routes),
            Err(problem) => {
                self.judge(&object.name).error(problem);
                Vec::new()
            }
        }
    }

    fn enter(&mut self, name: &Name) -> Told<()> {
        let problem =
            |reason, text: String| Problem::new(kind::INCLUDE, reason, "spec.includes", text);
        if self.way.contains(name) {
            let way: Vec<_> = self.way.iter().chain([name]).map(Name::to_string).collect();
            let text = format!("include creates an include cycle: {}", way.join(" -> "));
            return Err(problem("IncludeCreatesCycle", text));
        }
        self.steps += 1;
        if self.way.len() >= DEEPEST || self.steps > MOST {
            let text = format!(
                "includes are followed {DEEPEST} deep and {MOST} times from one root; this one is not"
            );
            return Err(problem("IncludesTooMany", text));
        }
        self.way.push(name.clone());
        Ok(())
    }

    fn inside(
        &mut self,
        object: &Object,
        spec: &Spec,
        conditions: &[Condition],
        at: &str,
    ) -> Told<Vec<Planned>> {
        let mut out = Vec::new();
        let mut seen = Vec::new();
        for (index, include) in spec.includes.iter().enumerate() {
            let at = format!("{at}includes[{index}]/");
            match self.include(object, include, conditions, &mut seen, &at) {
                Ok(routes) => out.extend(routes),
                Err(problem) => self.judge(&object.name).error(problem),
            }
        }
        for route in &spec.routes {
            let all = join(object, conditions, &route.conditions, &route.field)?;
            let mut judgement = Judgement::default();
            let planned = route.plan(object, &all, &mut self.facts, &mut judgement);
            self.judge(&object.name).merge(judgement);
            let mut planned = planned?;
            planned.id.insert_str(0, at);
            out.push(planned);
        }
        Ok(out)
    }

    fn include(
        &mut self,
        object: &Object,
        include: &Include,
        conditions: &[Condition],
        seen: &mut Vec<condition::Conditions>,
        at: &str,
    ) -> Told<Vec<Planned>> {
        let problem =
            |reason, text: String| Problem::new(kind::INCLUDE, reason, &include.field, text);
        let own = &include.conditions;
        let paths = condition::check_include(own).and_then(|()| condition::check_paths(own));
        paths.map_err(|text| problem("PathMatchConditionsNotValid", format!("include: {text}")))?;
        route::check_matches(own, &include.field)?;
        let merged = condition::merge(own);
        let is_twice = seen
            .iter()
            .any(|other| other.canonical() == merged.canonical());
        if is_twice && !merged.is_all() {
            let text = "duplicate conditions defined on an include";
            return Err(problem("DuplicateMatchConditions", text.to_owned()));
        }
        seen.push(merged);
        let all = join(object, conditions, own, &include.field)?;
        let name = &include.name;
        let (reason, text) = match self.reader.foreign(object.kind, name) {
            None => ("IncludeNotFound", format!("include {name} not found")),
            Some(included) if !included.spec()["virtualhost"].is_null() => {
                let text = format!("root httpproxy cannot include another root httpproxy ({name})");
                ("RootIncludesRoot", text)
            }
            Some(included) => {
                let findings = Findings::default();
                let spec = Spec::read(included, self.reader, &findings);
                let judgement = self.judge(name);
                judgement.absorb(&findings);
                return Ok(if judgement.has_misread() {
                    Vec::new()
                } else {
                    self.routes(included, &spec, &all, at)
                });
            }
        };
        let missing = problem(reason, text);
        if own.is_empty() {
            return Err(missing);
        }
        // Contour: what was to go to the missing object is answered 502.
        self.judge(&object.name).error(missing);
        Ok(vec![self.bad_gateway(object, include, &all, at)])
    }

    fn bad_gateway(
        &self,
        object: &Object,
        include: &Include,
        conditions: &[Condition],
        at: &str,
    ) -> Planned {
        Planned {
            id: at.trim_end_matches('/').to_owned(),
            origin: object.origin(&include.field),
            conditions: condition::merge(conditions),
            replacement: None,
            request_headers: Default::default(),
            rewrite_host: None,
            filters: Filters::default(),
            no_upgrade: true,
            limits: Default::default(),
            addresses: None,
            provider: None,
            authorization: AuthorizationChoice::default(),
            secure_only: self.facts.enforces_tls(false),
            action: Planning::Respond(policy::respond(502, "")),
        }
    }
}

/// The conditions of a way and of what is at its end. Paths of IngressRoutes are whole already.
fn join(
    object: &Object,
    way: &[Condition],
    own: &[Condition],
    field: &str,
) -> Told<Vec<Condition>> {
    if !spec::is_legacy(object) {
        return Ok([way, own].concat());
    }
    let (parent, path) = (
        condition::merge(way).path.text,
        condition::merge(own).path.text,
    );
    if way.is_empty() || path.starts_with(&*parent) {
        return Ok(own.to_vec());
    }
    let text =
        format!("the path prefix {path:?} does not match the parent's path prefix {parent:?}");
    Err(Problem::new(kind::ROUTE, "PathPrefixMismatch", field, text))
}
