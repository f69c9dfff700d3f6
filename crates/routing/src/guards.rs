//! [`Guards`] with their conditions compiled, and a place for whoever enforces them.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::model::{
    AccessRule, Authorization, DescriptorEntry, Guards, LimitDescriptor, Predicate, Quota, Ramp,
    Supply,
};
use crate::predicate::Predicates;
use crate::view::RequestView;

/// What a route asks of its requests. The lists are parallel to those of `source`.
#[derive(Debug)]
pub struct CompiledGuards {
    pub source: Arc<Guards>,
    pub ramps: Box<[CompiledRamp]>,
    /// Which requests each rate limit counts.
    pub rate_limits: Box<[Predicates]>,
    /// The descriptors of each rate limit service.
    pub limit_services: Box<[Box<[CompiledDescriptor]>]>,
    pub quotas: Box<[CompiledQuota]>,
    /// Which requests each limit of requests in flight counts.
    pub flights: Box<[Predicates]>,
    pub authorization: Option<CompiledAuthorization>,
    /// About which requests the external service is asked; empty asks about all.
    pub external: Box<[Predicates]>,
    /// What the enforcer keeps for this route, so that it looks nothing up per request.
    pub slot: Slot,
}

/// Which requests a [`Ramp`] is about.
#[derive(Debug)]
pub struct CompiledRamp {
    pub when: Predicates,
    /// Which of them each driver measures.
    pub drivers: Box<[Option<Predicates>]>,
}

/// The conditions of a [`LimitDescriptor`].
#[derive(Debug)]
pub struct CompiledDescriptor {
    pub when: Predicates,
    pub unless: Box<[Predicates]>,
    /// Those of its entries, one for each.
    pub entries: Box<[Predicates]>,
}

/// Which requests a [`Quota`] is about.
#[derive(Debug)]
pub struct CompiledQuota {
    pub when: Predicates,
    /// Which of them each workload has.
    pub workloads: Box<[Predicates]>,
    /// Which of them are measured, if how long requests take says how many tokens there are.
    pub measured: Option<Predicates>,
}

/// [`Authorization`], compiled.
#[derive(Debug)]
pub struct CompiledAuthorization {
    pub deny: Box<[CompiledAccessRule]>,
    pub allow: Option<Box<[CompiledAccessRule]>>,
    pub audit: Box<[CompiledAccessRule]>,
}

/// [`AccessRule`], compiled.
#[derive(Debug)]
pub struct CompiledAccessRule {
    pub policy: Arc<str>,
    all: Box<[Box<[Predicates]>]>,
}

/// Filled once by whoever enforces; it lives as long as the compiled route.
#[derive(Default)]
pub struct Slot(OnceLock<Arc<dyn Any + Send + Sync>>);

impl CompiledGuards {
    pub(crate) fn new(source: &Arc<Guards>) -> Self {
        let limits = source.rate_limits.iter();
        let services = source.limit_services.iter().map(|service| {
            let descriptors = service.descriptors.iter();
            descriptors.map(CompiledDescriptor::new).collect()
        });
        let external = source.external.iter().flat_map(|external| &external.when);
        Self {
            ramps: source
                .ramps
                .iter()
                .map(|it| CompiledRamp::new(it))
                .collect(),
            rate_limits: limits.map(|limit| Predicates::new(&limit.when)).collect(),
            limit_services: services.collect(),
            quotas: source
                .quotas
                .iter()
                .map(|it| CompiledQuota::new(it))
                .collect(),
            flights: lists(source.flights.iter().map(|limit| &limit.when)),
            authorization: source
                .authorization
                .as_deref()
                .map(CompiledAuthorization::new),
            external: lists(external),
            source: Arc::clone(source),
            slot: Slot::default(),
        }
    }
}

fn lists<'p>(lists: impl Iterator<Item = &'p Vec<Predicate>>) -> Box<[Predicates]> {
    lists.map(|list| Predicates::new(list)).collect()
}

impl CompiledRamp {
    fn new(source: &Ramp) -> Self {
        let drivers = source.drivers.iter();
        let measured = drivers.map(|driver| driver.when.as_deref().map(Predicates::new));
        Self {
            when: Predicates::new(&source.when),
            drivers: measured.collect(),
        }
    }
}

impl CompiledDescriptor {
    fn new(source: &LimitDescriptor) -> Self {
        let entries = source.entries.iter().map(|entry| match entry {
            DescriptorEntry::Match { when, .. } => Predicates::new(when),
            _ => Predicates::default(),
        });
        Self {
            when: Predicates::new(&source.when),
            unless: lists(source.unless.iter()),
            entries: entries.collect(),
        }
    }

    /// Whether a request is described.
    pub fn is_for(&self, request: &impl RequestView) -> bool {
        self.when.hold(request) && !self.unless.iter().any(|list| list.hold(request))
    }
}

impl CompiledQuota {
    fn new(source: &Quota) -> Self {
        Self {
            when: Predicates::new(&source.when),
            workloads: lists(source.workloads.iter().map(|workload| &workload.when)),
            measured: match &source.supply {
                Supply::Latency(latency) => latency.measured.as_deref().map(Predicates::new),
                Supply::Bucket { .. } | Supply::Places { .. } => None,
            },
        }
    }
}

impl CompiledAuthorization {
    fn new(source: &Authorization) -> Self {
        let rules = |rules: &[AccessRule]| rules.iter().map(CompiledAccessRule::new).collect();
        Self {
            deny: rules(&source.deny),
            allow: source.allow.as_deref().map(rules),
            audit: rules(&source.audit),
        }
    }

    /// `Ok` if the request may pass, or else the policy that denies it; none if nobody allows it.
    pub fn judge(&self, request: &impl RequestView) -> Result<(), Option<&Arc<str>>> {
        if let Some(rule) = self.deny.iter().find(|rule| rule.holds(request)) {
            return Err(Some(&rule.policy));
        }
        let Some(allow) = &self.allow else {
            return Ok(());
        };
        match allow.iter().any(|rule| rule.holds(request)) {
            true => Ok(()),
            false => Err(None),
        }
    }
}

impl CompiledAccessRule {
    fn new(source: &AccessRule) -> Self {
        Self {
            policy: Arc::clone(&source.policy),
            all: source.all.iter().map(|group| lists(group.iter())).collect(),
        }
    }

    /// Whether every group has a list of which all hold.
    pub fn holds(&self, request: &impl RequestView) -> bool {
        let any = |group: &[Predicates]| group.iter().any(|list| list.hold(request));
        self.all.iter().all(|group| any(group))
    }
}

impl Slot {
    /// What is kept, made with `fill` the first time. `None` if it was filled with another type.
    pub fn get_or_fill<T: Any + Send + Sync>(&self, fill: impl FnOnce() -> Arc<T>) -> Option<&T> {
        let kept: &Arc<dyn Any + Send + Sync> = self.0.get_or_init(|| fill());
        (**kept).downcast_ref()
    }

    /// The same, to be kept by the caller too.
    pub fn shared_or_fill<T: Any + Send + Sync>(
        &self,
        fill: impl FnOnce() -> Arc<T>,
    ) -> Option<Arc<T>> {
        let kept: &Arc<dyn Any + Send + Sync> = self.0.get_or_init(|| fill());
        Arc::clone(kept).downcast().ok()
    }
}

/// A copy begins empty: what is kept belongs to one compiled object.
impl Clone for Slot {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.0.get().is_some() {
            "filled"
        } else {
            "empty"
        };
        f.debug_tuple("Slot").field(&state).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Subject, Test, TextTest};

    struct Get(&'static str);

    impl RequestView for Get {
        fn host(&self) -> &str {
            "a"
        }
        fn path(&self) -> &str {
            self.0
        }
        fn header(&self, _: &str) -> Option<&[u8]> {
            None
        }
        fn method(&self) -> &str {
            "GET"
        }
        fn query(&self) -> &str {
            ""
        }
    }

    fn path(prefix: &str) -> Vec<Predicate> {
        vec![Predicate {
            subject: Subject::Path,
            test: Test::Text {
                how: TextTest::Prefix,
                value: prefix.into(),
                ignore_case: false,
            },
            negate: false,
            missing_is_empty: false,
        }]
    }

    fn rule(policy: &str, all: Vec<Vec<Vec<Predicate>>>) -> AccessRule {
        AccessRule {
            policy: policy.into(),
            all,
        }
    }

    #[test]
    fn denial_comes_first_and_allowances_exclude_the_others() {
        let judge = |authorization: &Authorization, at| {
            let compiled = CompiledAuthorization::new(authorization);
            let judged = compiled.judge(&Get(at));
            judged.map_err(|policy| policy.map(ToString::to_string))
        };
        let mut rules = Authorization {
            deny: vec![rule("d", vec![vec![path("/secret"), path("/admin")]])],
            ..Authorization::default()
        };
        assert_eq!(judge(&rules, "/"), Ok(()));
        assert_eq!(judge(&rules, "/admin/x"), Err(Some("d".into())));
        rules.allow = Some(Vec::new());
        assert_eq!(judge(&rules, "/"), Err(None));
        // Every group must hold.
        rules.allow = Some(vec![rule("a", vec![vec![path("/a")], vec![path("/a/b")]])]);
        assert_eq!(judge(&rules, "/a"), Err(None));
        assert_eq!(judge(&rules, "/a/b"), Ok(()));
        // A rule without a condition is for everybody.
        rules.allow = Some(vec![rule("all", Vec::new())]);
        assert_eq!(judge(&rules, "/x"), Ok(()));
        assert_eq!(judge(&rules, "/secret"), Err(Some("d".into())));
    }
}
