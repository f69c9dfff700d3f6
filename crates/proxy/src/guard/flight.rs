//! Limits on requests in flight, one for all or one per part of the request. Nobody waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::Places;
use routing::CompiledGuards;
use routing::model::Flights;

use super::limit::Hashers;
use super::state::States;
use super::{Asked, Held, Kind, Passage, Refusal};
use crate::message::View;
use crate::seen::Seen;

/// The requests of one limit.
#[derive(Debug, Default)]
pub(super) struct FlightState {
    /// Only those that have requests in flight, which the gateway's connections bound.
    keys: Mutex<HashMap<u128, Places>>,
    hashers: Hashers,
}

/// The place of one request; given back when dropped.
#[derive(Debug)]
pub(crate) struct Flight {
    state: Arc<FlightState>,
    key: u128,
    place: u64,
}

impl FlightState {
    fn lock(&self) -> MutexGuard<'_, HashMap<u128, Places>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, limit: &Flights, seen: &Seen<'_>, now: Duration) -> Option<Flight> {
        let key = self.hashers.key(&limit.keys, seen);
        let mut keys = self.lock();
        let places = keys.entry(key).or_default();
        let has_room = places.taken(limit.longest, now) + 1.0 <= f64::from(limit.most);
        let place = has_room.then(|| places.hold(now, 1.0));
        if places.is_empty() {
            keys.remove(&key);
        }
        place.map(|place| Flight {
            state: Arc::clone(self),
            key,
            place,
        })
    }

    /// Whether it is as good as a new one.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().is_empty()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut keys = self.state.lock();
        if let Some(places) = keys.get_mut(&self.key) {
            places.end(self.place);
            if places.is_empty() {
                keys.remove(&self.key);
            }
        }
    }
}

impl Asked<'_> {
    /// Takes the places of a request.
    pub(super) fn fly(
        &self,
        guards: &CompiledGuards,
        view: View<'_>,
        passage: &mut Passage,
        states: &States,
    ) -> Result<(), Held> {
        let limits = guards.source.flights.iter().zip(&guards.flights);
        for ((limit, when), state) in limits.zip(&states.flights) {
            let seen = self.seen(view, passage);
            if !when.hold(&seen) {
                continue;
            }
            match state.take(limit, &seen, self.worker.guards.now()) {
                Some(flight) => passage.after.flights.push(flight),
                None => return Err(Refusal::with(Kind::Concurrency, &limit.respond).into()),
            }
        }
        Ok(())
    }
}
