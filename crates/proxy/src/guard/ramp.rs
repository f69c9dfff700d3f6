//! Load ramps: of the requests of a route a share is accepted, and how long those take says
//! whether it grows.

use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::{DriverRule, Ramp, RampRule};
use routing::{CompiledGuards, CompiledRamp, model};

use super::state::States;
use super::{Asked, Held, Kind, Passage, Refusal, limit};
use crate::message::View;
use crate::seen::Seen;

/// A ramp that nobody names is kept for so long, as a route that comes back goes on with it.
const KEPT: Duration = Duration::from_secs(3600);

/// The state of one ramp.
#[derive(Debug)]
pub(super) struct RampState(Mutex<Ramp>);

/// A ramp with the rule of one route.
#[derive(Debug)]
pub(super) struct RampInForce {
    pub(super) source: Arc<model::Ramp>,
    rule: RampRule,
    state: Arc<RampState>,
}

/// What the end of an accepted request is told to.
#[derive(Debug)]
pub(super) struct Measured {
    ramp: Arc<RampInForce>,
    drivers: Box<[usize]>,
}

impl RampState {
    pub(super) fn new(now: Duration) -> Self {
        Self(Mutex::new(Ramp::new(now)))
    }

    fn lock(&self) -> MutexGuard<'_, Ramp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may be forgotten.
    pub(super) fn is_idle(&self, now: Duration) -> bool {
        now.saturating_sub(self.lock().last_asked()) > KEPT
    }
}

impl RampInForce {
    pub(super) fn new(source: &Arc<model::Ramp>, state: Arc<RampState>) -> Self {
        let steps = source.steps.iter();
        let drivers = source.drivers.iter().map(|driver| DriverRule {
            forward: driver.forward,
            reset: driver.reset,
        });
        Self {
            rule: RampRule {
                steps: steps
                    .map(|step| (step.duration, step.accept_percent))
                    .collect(),
                is_started: source.is_started,
                is_reset: source.is_reset,
                drivers: drivers.collect(),
            },
            source: Arc::clone(source),
            state,
        }
    }

    /// Whether a request is among those that are accepted. `draw` gives `0.0..1.0`.
    pub(super) fn accepts(
        &self,
        seen: &Seen<'_>,
        now: Duration,
        draw: impl FnOnce() -> f64,
    ) -> bool {
        let percent = self.state.lock().percent(&self.rule, now);
        place(&self.source, seen).unwrap_or_else(draw) * 100.0 < percent
    }

    /// What the end of a request is told to, if a driver measures it.
    pub(super) fn measured(
        self: &Arc<Self>,
        compiled: &CompiledRamp,
        seen: &Seen<'_>,
    ) -> Option<Measured> {
        let drivers = compiled.drivers.iter().enumerate();
        let holding = drivers.filter(|(_, when)| when.as_ref().is_some_and(|it| it.hold(seen)));
        let drivers: Box<[usize]> = holding.map(|(at, _)| at).collect();
        (!drivers.is_empty()).then(|| Measured {
            ramp: Arc::clone(self),
            drivers,
        })
    }
}

/// Where a request stands among all by its parts, `0.0..1.0`, alike in every process; `None` if it
/// has none of them.
fn place(ramp: &model::Ramp, seen: &Seen<'_>) -> Option<f64> {
    let mut hasher = DefaultHasher::new();
    // Or else the same clients would be the first of every ramp.
    hasher.write(ramp.id.as_bytes());
    let mut is_known = false;
    for key in &ramp.keys {
        is_known |= limit::write(&mut hasher, key, seen);
    }
    // The bits that a number of this kind holds.
    is_known.then(|| (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64)
}

impl Measured {
    /// The request has its answer.
    pub(super) fn ended(&self, now: Duration, took: Duration) {
        let mut state = self.ramp.state.lock();
        for driver in &self.drivers {
            state.ended(&self.ramp.rule, now, *driver, took);
        }
    }
}

impl Asked<'_> {
    /// Asks the ramps, and remembers which want to know of the end.
    pub(super) fn ramp(
        &self,
        guards: &CompiledGuards,
        view: View<'_>,
        passage: &mut Passage,
        states: &States,
    ) -> Result<(), Held> {
        let mut measured = Vec::new();
        let seen = self.seen(view, passage);
        for (ramp, compiled) in states.ramps.iter().zip(&guards.ramps) {
            let draw = || self.worker.fraction();
            if compiled.when.hold(&seen) && !ramp.accepts(&seen, self.worker.guards.now(), draw) {
                return Err(Refusal::with(Kind::Ramp, &ramp.source.respond).into());
            }
            measured.extend(ramp.measured(compiled, &seen));
        }
        passage.after.ramps.append(&mut measured);
        Ok(())
    }
}
