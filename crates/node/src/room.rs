//! What the node's pods hold of its processors and memory, for those that want more while they run.
//!
//! The scheduler decides who comes; this decides who grows (`pods/resize`), by the pods that really
//! are here and what they were given.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use api::requests::Amounts;

/// The resources that a running pod can get more of.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Who holds how much.
pub(crate) struct Room {
    capacity: Amounts,
    /// By the pod's uid.
    held: Mutex<HashMap<String, Amounts>>,
}

/// Why a pod does not get more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// Others hold it now.
    Now(String),
    /// The node has less altogether.
    Ever(String),
}

impl Room {
    pub(crate) fn new(capacity: Amounts) -> Self {
        Self {
            capacity,
            held: Mutex::default(),
        }
    }

    /// A pod begins with what it asked for.
    pub(crate) fn hold(&self, uid: &str, asked: Amounts) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(uid.to_owned(), asked);
    }

    /// The pod has ended.
    pub(crate) fn release(&self, uid: &str) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(uid);
    }

    /// From now on a pod holds this instead. What does not grow always fits.
    pub(crate) fn change(&self, uid: &str, asked: Amounts) -> Result<(), NoRoom> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for name in RESIZABLE {
            let of = |amounts: &Amounts| amounts.get(name).copied().unwrap_or(0);
            let wanted = of(&asked);
            if wanted <= held.get(uid).map_or(0, of) {
                continue;
            }
            let Some(capacity) = self.capacity.get(name).copied() else {
                continue;
            };
            if wanted > capacity {
                return Err(NoRoom::Ever(format!(
                    "Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {capacity}"
                )));
            }
            let others = held.iter().filter(|(other, _)| *other != uid);
            let used: i64 = others.map(|(_, amounts)| of(amounts)).sum();
            if wanted > capacity - used {
                return Err(NoRoom::Now(format!(
                    "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
                )));
            }
        }
        held.insert(uid.to_owned(), asked);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(cpu: i64, memory: i64) -> Amounts {
        [("cpu".to_owned(), cpu), ("memory".to_owned(), memory)].into()
    }

    #[test]
    fn a_pod_grows_into_what_is_free_and_no_further() {
        let room = Room::new(amounts(2000, 100));
        room.hold("a", amounts(500, 10));
        room.hold("b", amounts(1000, 50));
        assert_eq!(room.change("a", amounts(1000, 50)), Ok(()));
        let full = room.change("a", amounts(1001, 50));
        let text =
            "Node didn't have enough resource: cpu, requested: 1001, used: 1000, capacity: 2000";
        assert_eq!(full, Err(NoRoom::Now(text.to_owned())));
        let never = room.change("a", amounts(1000, 101));
        let text = "Node didn't have enough capacity: memory, requested: 101, capacity: 100";
        assert_eq!(never, Err(NoRoom::Ever(text.to_owned())));
        room.release("b");
        assert_eq!(room.change("a", amounts(2000, 100)), Ok(()));
    }

    #[test]
    fn what_was_given_too_much_may_always_be_given_back() {
        let room = Room::new(amounts(1000, 100));
        room.hold("a", amounts(3000, 10));
        room.hold("b", amounts(1000, 10));
        assert_eq!(room.change("a", amounts(2500, 10)), Ok(()));
        assert!(room.change("a", amounts(2501, 10)).is_err());
    }

    #[test]
    fn a_refused_change_leaves_what_was_held() {
        let room = Room::new(amounts(1000, 100));
        room.hold("a", amounts(500, 10));
        room.hold("b", amounts(400, 10));
        assert!(room.change("a", amounts(700, 10)).is_err());
        assert_eq!(room.change("b", amounts(500, 10)), Ok(()));
    }
}
