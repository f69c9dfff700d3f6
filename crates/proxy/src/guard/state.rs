//! What guards remember, by the identity that their policy gives: it outlives snapshots, and is
//! forgotten once no route names it and forgetting it changes nothing.
//!
//! Compiled routes hold what they use, so a request looks nothing up; the registry is asked once
//! per compiled route.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use policy::BreakerRule;
use routing::model::{self, Guards, KeySource};
use tokio::time::Instant;

use super::concurrency::ConcurrencyState;
use super::flight::FlightState;
use super::limit::LimitState;
use super::quota::QuotaState;
use super::ramp::{RampInForce, RampState};
use super::token::source::KeyState;
use super::{Asked, Held, Kind, Passage, Refusal};

/// What is kept for identities that nobody names now, per kind; beyond it the idle ones go.
const SWEEP_ABOVE: usize = 256;

/// All states of a gateway; its threads share it.
#[derive(Debug)]
pub(crate) struct Registry {
    start: Instant,
    maps: Mutex<Maps>,
    pub(super) logins: super::credential::Logins,
    /// Bodies that are read before their requests are forwarded.
    pub(super) bodies: Arc<crate::held::Account>,
}

#[derive(Debug, Default)]
struct Maps {
    limits: Map<Arc<str>, LimitState>,
    breakers: Map<Arc<str>, Circuit>,
    quotas: Map<Arc<str>, QuotaState>,
    flights: Map<Arc<str>, FlightState>,
    ramps: Map<Arc<str>, RampState>,
    concurrency: Map<Arc<str>, ConcurrencyState>,
    keys: Map<KeySource, KeyState>,
}

/// Entries by identity.
#[derive(Debug)]
struct Map<K, V> {
    entries: HashMap<K, Arc<V>>,
    /// The number of entries at which idle ones are looked for.
    sweep_at: usize,
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            sweep_at: SWEEP_ABOVE,
        }
    }
}

/// What the guards of one route use, parallel to their lists.
#[derive(Debug)]
pub(super) struct States {
    pub(super) limits: Vec<Arc<LimitState>>,
    pub(super) breakers: Vec<Arc<BreakerState>>,
    pub(super) quotas: Vec<Arc<QuotaState>>,
    pub(super) flights: Vec<Arc<FlightState>>,
    pub(super) ramps: Vec<Arc<RampInForce>>,
    pub(super) concurrency: Option<Arc<ConcurrencyState>>,
    pub(super) keys: Vec<Arc<KeyState>>,
}

/// A breaker with the rule of one route.
#[derive(Debug)]
pub(super) struct BreakerState {
    pub(super) rule: Arc<model::Breaker>,
    circuit: Arc<Circuit>,
}

/// A breaker, and the first rule that it had: who forgets it must not need another.
#[derive(Debug)]
struct Circuit {
    rule: BreakerRule,
    state: Mutex<policy::Breaker>,
}

impl Circuit {
    fn lock(&self) -> MutexGuard<'_, policy::Breaker> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            maps: Mutex::default(),
            logins: super::credential::Logins::default(),
            bodies: Arc::default(),
        }
    }
}

impl Registry {
    /// The time that states count in.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Seconds since 1970, which tokens count in.
    pub(crate) fn wall_clock(&self) -> f64 {
        // Tokens end by the clock on the wall, also when somebody sets it right.
        #[allow(clippy::disallowed_methods)]
        let now = SystemTime::now();
        now.duration_since(UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64())
    }

    /// The states for guards.
    pub(super) fn states(&self, guards: &Guards) -> States {
        let now = self.now();
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = guards.rate_limits.iter().map(|limit| {
            let idle = |state: &LimitState| state.is_idle(now);
            maps.limits.get(&limit.id, LimitState::default, idle)
        });
        let limits = limits.collect();
        let breakers = guards.breakers.iter().map(|breaker| {
            let make = || Circuit {
                rule: rule(breaker),
                state: Mutex::default(),
            };
            let idle = |circuit: &Circuit| circuit.lock().is_idle(&circuit.rule, now);
            Arc::new(BreakerState {
                circuit: maps.breakers.get(&breaker.id, make, idle),
                rule: Arc::clone(breaker),
            })
        });
        let breakers = breakers.collect();
        let quotas = guards.quotas.iter().map(|quota| {
            let idle = |state: &QuotaState| state.is_idle(now);
            maps.quotas.get(&quota.id, || QuotaState::new(quota), idle)
        });
        let quotas = quotas.collect();
        let flights = guards.flights.iter().map(|limit| {
            let make = FlightState::default;
            maps.flights.get(&limit.id, make, FlightState::is_idle)
        });
        let flights = flights.collect();
        let ramps = guards.ramps.iter().map(|ramp| {
            let idle = |state: &RampState| state.is_idle(now);
            let state = maps.ramps.get(&ramp.id, || RampState::new(now), idle);
            Arc::new(RampInForce::new(ramp, state))
        });
        let ramps = ramps.collect();
        let concurrency = guards.concurrency.as_ref().map(|limit| {
            let idle = |state: &ConcurrencyState| state.is_idle(now);
            let make = || ConcurrencyState::new(limit, now);
            maps.concurrency.get(&limit.id, make, idle)
        });
        let providers = guards.tokens.iter().flat_map(|tokens| &tokens.providers);
        let keys = providers.map(|provider| {
            // Keys are fetched again whenever somebody wants them.
            let make = || KeyState::new(&provider.keys);
            maps.keys.get(&provider.keys, make, |_| true)
        });
        States {
            keys: keys.collect(),
            limits,
            breakers,
            quotas,
            flights,
            ramps,
            concurrency,
        }
    }

    /// Identities that are remembered, over all kinds.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        let (limits, breakers) = (maps.limits.entries.len(), maps.breakers.entries.len());
        let (concurrency, ramps) = (maps.concurrency.entries.len(), maps.ramps.entries.len());
        limits
            + breakers
            + concurrency
            + ramps
            + maps.quotas.entries.len()
            + maps.flights.entries.len()
            + maps.keys.entries.len()
    }
}

impl<K: Clone + Eq + Hash, V> Map<K, V> {
    /// The state of an identity. `idle` says whether a state is as good as a new one.
    fn get(&mut self, key: &K, make: impl FnOnce() -> V, idle: impl Fn(&V) -> bool) -> Arc<V> {
        if let Some(state) = self.entries.get(key) {
            return Arc::clone(state);
        }
        if self.entries.len() >= self.sweep_at {
            self.entries
                .retain(|_, state| Arc::strong_count(state) > 1 || !idle(state));
            // So that looking costs a constant per new entry, however many stay.
            self.sweep_at = (self.entries.len() * 2).max(SWEEP_ABOVE);
        }
        let state = Arc::new(make());
        self.entries.insert(key.clone(), Arc::clone(&state));
        state
    }
}

impl BreakerState {
    /// Whether requests are refused now.
    pub(super) fn refuses(&self, now: Duration) -> bool {
        self.circuit.lock().refuses(now).is_some()
    }

    /// A request that was let through has ended. `true` if that opens it.
    pub(super) fn ended(&self, now: Duration, took: Duration, is_error: bool) -> bool {
        let rule = rule(&self.rule);
        self.circuit.lock().ended(&rule, now, took, is_error)
    }
}

impl Asked<'_> {
    /// Asks the breakers, which want to know of the end too.
    pub(super) fn break_off(&self, states: &States, passage: &mut Passage) -> Result<(), Held> {
        let now = self.worker.guards.now();
        for breaker in &states.breakers {
            if breaker.refuses(now) {
                return Err(Refusal::with(Kind::Breaker, &breaker.rule.respond).into());
            }
        }
        passage.after.breakers.extend_from_slice(&states.breakers);
        Ok(())
    }
}

fn rule(breaker: &model::Breaker) -> BreakerRule {
    BreakerRule {
        window: breaker.window,
        open_for: breaker.open_for,
        min_requests: breaker.min_requests,
        slow: breaker.slow,
        average: breaker.average,
        error_percent: breaker.error_percent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use routing::model::{RateLimit, Respond};

    fn guards(id: &str, interval: Duration) -> Guards {
        let limit = RateLimit {
            id: id.into(),
            when: Vec::new(),
            keys: Vec::new(),
            capacity: 1,
            fill: 1,
            interval,
            per_connection: false,
            respond: Respond {
                status: 429,
                headers: Vec::new(),
                body: "".into(),
            },
        };
        Guards {
            rate_limits: vec![Arc::new(limit)],
            ..Guards::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_names_any_more_is_forgotten_and_the_rest_is_not() {
        let registry = Registry::default();
        let hour = Duration::from_secs(3600);
        let named = registry.states(&guards("named", hour));
        for number in 0..10_000 {
            drop(registry.states(&guards(&number.to_string(), hour)));
        }
        assert!(registry.len() <= SWEEP_ABOVE + 1, "{}", registry.len());
        let again = registry.states(&guards("named", hour));
        assert!(Arc::ptr_eq(&named.limits[0], &again.limits[0]));
    }
}
