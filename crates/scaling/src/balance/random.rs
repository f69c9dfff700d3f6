//! The source of chance, so that tests can say what is drawn.
//!
//! Balance needs speed, not secrecy: a xorshift generator per thread.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// Draws numbers.
pub(crate) trait Random {
    /// A number below `bound`, each as likely as the others; 0 for a bound of 0.
    fn below(&mut self, bound: u64) -> u64;
}

/// A generator that a seed determines.
#[derive(Clone, Debug)]
pub(crate) struct Xorshift(u64);

impl Xorshift {
    /// Any seed will do.
    pub(crate) fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
}

impl Random for Xorshift {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The high bits of the product: the low ones of a xorshift are the weaker ones.
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }
}

/// This thread's generator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerThread;

impl Random for PerThread {
    fn below(&mut self, bound: u64) -> u64 {
        thread_local! {
            static STATE: Cell<u64> = Cell::new(Xorshift::new(RandomState::new().hash_one(1)).0);
        }
        STATE.with(|state| {
            let mut generator = Xorshift(state.get());
            let drawn = generator.below(bound);
            state.set(generator.0);
            drawn
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_drawn_as_often_as_the_others() {
        let mut random = Xorshift::new(7);
        let mut counts = [0_u32; 5];
        for _ in 0..50_000 {
            counts[random.below(5) as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (9_600..10_400).contains(count)),
            "{counts:?}"
        );
        assert_eq!(random.below(0), 0);
        assert!((0..100).all(|_| PerThread.below(3) < 3));
    }
}
