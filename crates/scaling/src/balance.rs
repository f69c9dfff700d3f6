//! Choosing, limiting and taking out the endpoints of a backend that has a policy.
//!
//! The algorithms are pure: time and chance are arguments. What lives here is where they meet an
//! activator's endpoints: a [`Balance`] is made from each snapshot's backend, a [`Traffic`] keeps
//! what outlives it. A backend without a policy has neither.

mod hash;
pub(crate) mod health;
pub(crate) mod limits;
mod locality;
mod maglev;
mod outlier;
mod picker;
mod plan;
mod priority;
pub(crate) mod random;
pub(crate) mod recent;
mod ring;
mod schedule;
mod slow_start;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod traffic;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use routing::model::{BackendPolicy, SlowStart};

use crate::endpoint::{Counted, Slot};
use health::Health;
use picker::{Draw, Host, Picker};
use plan::{Candidate, Rules};
use random::Random;

pub use hash::hash;

/// What a request wants of the choice of its endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Preference<'a> {
    /// Decides with the balancers that hash; without it they draw.
    pub hash: Option<u64>,
    /// The [key](endpoint_key) of the endpoint to use as long as it takes requests.
    pub keep: Option<u64>,
    /// Endpoints to use only if there is no other: those that were tried.
    pub avoid: &'a [SocketAddr],
    /// It is a further try of a request.
    pub is_retry: bool,
}

/// A number that stands for an endpoint, the same in every gateway.
pub fn endpoint_key(address: SocketAddr) -> u64 {
    hash(address.to_string().as_bytes())
}

/// What became of a wish for an endpoint.
#[derive(Debug)]
pub(crate) enum Pick {
    Slot(Slot),
    /// Every endpoint has as many requests as it may.
    Full,
    /// No endpoint is well.
    NobodyWell,
}

/// The endpoints of one snapshot under its policy.
#[derive(Debug)]
pub(crate) struct Balance {
    pub(crate) policy: Arc<BackendPolicy>,
    hosts: Box<[Member]>,
    rules: Rules,
    plan: ArcSwap<Plan>,
}

/// A ready endpoint.
#[derive(Clone, Debug)]
struct Member {
    counted: Arc<Counted>,
    weight: u32,
    standing: Option<locality::Standing>,
    slow_start: Option<Arc<SlowStart>>,
}

/// Who gets requests now.
#[derive(Debug, Default)]
struct Plan {
    shares: Vec<Share>,
    total: u64,
}

#[derive(Debug)]
struct Share {
    /// The sum of the weights up to and including this one.
    end: u64,
    members: Vec<Member>,
    picker: Picker,
}

impl Balance {
    /// For these ready endpoints and their weights and localities; the plan is made by
    /// [`Self::plan`]. `own` is the gateway's locality, if it is known.
    pub(crate) fn new(
        policy: &Arc<BackendPolicy>,
        endpoints: impl Iterator<Item = (Arc<Counted>, u32, Option<Arc<str>>)>,
        own: Option<&str>,
        now: u64,
    ) -> Self {
        let slow_start = policy.slow_start.clone().map(Arc::new);
        let hosts = endpoints.map(|(counted, weight, locality)| {
            counted.health_since(now);
            let standing = match &policy.locality {
                Some(rules) => locality::standing(rules, own, locality.as_deref()),
                None => Some(locality::Standing {
                    priority: 0,
                    group: 0,
                }),
            };
            Member {
                counted,
                weight,
                standing,
                slow_start: slow_start.clone(),
            }
        });
        Self {
            hosts: hosts.collect(),
            rules: rules(policy, own),
            policy: Arc::clone(policy),
            plan: ArcSwap::default(),
        }
    }

    /// Makes the plan from what is known of the endpoints' health. One caller at a time.
    pub(crate) fn plan(&self, now: u64, random: &mut impl Random) {
        let candidates: Vec<_> = self
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, member)| member.weight > 0)
            .filter_map(|(host, member)| {
                let standing = member.standing?;
                Some(Candidate {
                    host,
                    priority: standing.priority,
                    group: standing.group,
                    is_healthy: self.is_well(member),
                })
            })
            .collect();
        for member in &self.hosts {
            member.set_used(false);
        }
        let mut plan = Plan::default();
        for share in plan::shares(&candidates, &self.rules) {
            let members: Vec<_> = share
                .hosts
                .iter()
                .map(|host| self.hosts[*host].clone())
                .collect();
            for member in &members {
                member.set_used(true);
            }
            let mut draw = Draw {
                hash: None,
                now,
                random: &mut *random,
            };
            let ramps = self.policy.slow_start.is_some();
            let picker = Picker::new(&self.policy.balancer, &members, ramps, &mut draw);
            plan.total += share.weight;
            plan.shares.push(Share {
                end: plan.total,
                members,
                picker,
            });
        }
        self.plan.store(Arc::new(plan));
    }

    /// Whether there are endpoints and none may be used.
    pub(crate) fn is_out(&self) -> bool {
        self.plan.load().total == 0 && !self.hosts.is_empty()
    }

    /// A place at the endpoint that the policy names, or else at another one that may be used.
    pub(crate) fn pick(
        &self,
        preference: &Preference<'_>,
        limit: u32,
        now: u64,
        random: &mut impl Random,
    ) -> Pick {
        let plan = self.plan.load();
        if plan.total == 0 {
            return if self.hosts.is_empty() {
                Pick::Full
            } else {
                Pick::NobodyWell
            };
        }
        let share = plan.share(preference.hash, random);
        let is_welcome = |member: &Member| {
            !preference.avoid.contains(&member.counted.endpoint.address)
                && !member.counted.is_suspect()
        };
        let enter = |member: &Member| {
            let counted = &member.counted;
            is_welcome(member)
                .then(|| counted.try_enter(limit))
                .flatten()
        };
        if let Some(key) = preference.keep {
            let all = || plan.shares.iter().flat_map(|share| &share.members);
            let is_kept = |member: &&Member| endpoint_key(member.counted.endpoint.address) == key;
            if let Some(slot) = all().find(is_kept).and_then(enter) {
                return Pick::Slot(slot);
            }
        }
        let mut draw = Draw {
            hash: preference.hash,
            now,
            random,
        };
        let members = &share.members;
        let picked = share
            .picker
            .pick(members, &mut draw, |at| enter(&members[at]));
        let slot = picked.or_else(|| {
            let at = draw.random.below(members.len() as u64) as usize;
            let (before, from) = members.split_at(at);
            let near = from.iter().chain(before);
            let all = || plan.shares.iter().flat_map(|share| &share.members);
            let is_new =
                |member: &&Member| !preference.avoid.contains(&member.counted.endpoint.address);
            let last = all().filter(is_new).chain(all());
            let mut last = last.map(|member| member.counted.try_enter(limit));
            near.chain(all())
                .find_map(enter)
                .or_else(|| last.find_map(|slot| slot))
        });
        slot.map_or(Pick::Full, Pick::Slot)
    }

    fn is_well(&self, member: &Member) -> bool {
        member.counted.health().is_none_or(|health| {
            let is_ejected = self.policy.outliers.is_some() && health.is_ejected();
            let is_down = self.policy.health_check.is_some() && health.fails_checks();
            !is_ejected && !is_down
        })
    }

    fn healths(&self) -> impl Iterator<Item = &Health> + Clone {
        self.hosts
            .iter()
            .filter_map(|member| member.counted.health())
    }

    fn health_of(&self, address: SocketAddr) -> Option<&Health> {
        let found = self
            .hosts
            .iter()
            .find(|member| member.counted.endpoint.address == address);
        found.and_then(|member| member.counted.health())
    }
}

impl Plan {
    fn share(&self, hash: Option<u64>, random: &mut impl Random) -> &Share {
        if let [only] = &*self.shares {
            return only;
        }
        let point = hash.map_or_else(|| random.below(self.total), |hash| hash % self.total);
        let at = self.shares.partition_point(|share| share.end <= point);
        &self.shares[at]
    }
}

impl Member {
    fn set_used(&self, is_used: bool) {
        if let Some(health) = self.counted.health() {
            health.is_used.store(is_used, Relaxed);
        }
    }
}

impl Host for Member {
    fn weight(&self) -> u32 {
        self.weight
    }

    fn part(&self, now: u64) -> f64 {
        let rules = self.slow_start.as_deref().zip(self.counted.health());
        rules.map_or(1.0, |(rules, health)| {
            slow_start::part(rules, Duration::from_millis(health.age(now)))
        })
    }

    fn load(&self) -> u64 {
        // Who is suspect refuses by itself. As a weight, suspicion would outlast its time.
        self.counted.in_flight()
    }

    fn address(&self) -> String {
        self.counted.endpoint.address.to_string()
    }
}

fn rules(policy: &BackendPolicy, own: Option<&str>) -> Rules {
    // Istio writes its least share of healthy endpoints into the threshold of Envoy's panic.
    let least = policy
        .outliers
        .as_ref()
        .map_or(0, |rules| rules.min_health_percent);
    let Some(locality) = &policy.locality else {
        return Rules {
            overprovisioning: 140,
            panic_threshold: least,
            groups: Vec::new(),
        };
    };
    let shares = own.and_then(|own| locality::distribution(locality, own));
    Rules {
        overprovisioning: locality.overprovisioning,
        panic_threshold: locality.panic_threshold.max(least),
        groups: shares.map_or_else(Vec::new, |shares| {
            shares.iter().map(|(_, share)| *share).collect()
        }),
    }
}
