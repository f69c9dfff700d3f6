//! Maglev: a table of fixed size that endpoints fill in turn, each in an order of its own
//! (Eisenbud et al., NSDI 2016, §3.4; with weights as in Envoy).
//!
//! A look-up is one index. When an endpoint leaves, its places are filled again and a few others
//! change hands, about as many again.

use super::hash::seeded;

/// What is used if a policy says no size.
const USUAL: u64 = 65_537;
/// Envoy's upper bound.
const MOST: u64 = 5_000_011;

/// A table of endpoints, by their index.
#[derive(Debug)]
pub(crate) struct Maglev {
    table: Box<[u32]>,
}

struct Filler {
    offset: u64,
    skip: u64,
    next: u64,
    weight: f64,
    due: f64,
}

impl Maglev {
    /// The table of these addresses with their weights. A size that is not a prime is raised to
    /// the next one: the orders would leave out places otherwise.
    pub(crate) fn new(hosts: &[(String, u32)], size: u64) -> Self {
        if hosts.is_empty() {
            return Self {
                table: Box::default(),
            };
        }
        let size = prime(if size == 0 { USUAL } else { size.min(MOST) });
        let mut fillers: Vec<_> = hosts
            .iter()
            .map(|(address, weight)| Filler {
                offset: seeded(address.as_bytes(), 0) % size,
                skip: seeded(address.as_bytes(), 1) % (size - 1) + 1,
                next: 0,
                weight: f64::from(*weight),
                due: 0.0,
            })
            .collect();
        let heaviest = fillers
            .iter()
            .map(|filler| filler.weight)
            .fold(0.0, f64::max);
        let mut table = vec![u32::MAX; size as usize];
        let (mut filled, mut turn) = (0, 0.0);
        while filled < size {
            turn += 1.0;
            for (number, filler) in fillers.iter_mut().enumerate() {
                // The heaviest has a place in every turn, the others in their share of turns.
                if turn * filler.weight < filler.due {
                    continue;
                }
                filler.due += heaviest;
                *filler.free(&mut table, size) = number as u32;
                filled += 1;
                if filled == size {
                    break;
                }
            }
        }
        Self {
            table: table.into(),
        }
    }

    /// The endpoint of a key, then others.
    pub(crate) fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let at = (key % (self.table.len() as u64).max(1)) as usize;
        let (before, from) = self.table.split_at(at);
        from.iter().chain(before).map(|host| *host as usize)
    }
}

impl Filler {
    /// The next free place in its order. There is one, because the size is a prime.
    fn free<'t>(&mut self, table: &'t mut [u32], size: u64) -> &'t mut u32 {
        loop {
            let at = (self.offset + self.next * self.skip) % size;
            self.next += 1;
            if table[at as usize] == u32::MAX {
                return &mut table[at as usize];
            }
        }
    }
}

/// The least prime that is not below `number`.
fn prime(number: u64) -> u64 {
    let is_prime = |number: &u64| {
        let mut divisors = (2..).take_while(|divisor| divisor * divisor <= *number);
        divisors.all(|divisor| !number.is_multiple_of(divisor))
    };
    (number.max(2)..).find(is_prime).unwrap_or(USUAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::testing::{addresses, moved, shares};

    fn pick(maglev: &Maglev) -> impl Fn(u64) -> usize {
        |key| maglev.walk(key).next().expect("a place")
    }

    #[test]
    fn equal_endpoints_have_equally_many_places() {
        let maglev = Maglev::new(&addresses(&[1; 7]), USUAL);
        let mut places = [0; 7];
        for host in &maglev.table {
            places[*host as usize] += 1;
        }
        let (least, most) = (places.iter().min(), places.iter().max());
        assert_eq!((least, most), (Some(&9_362), Some(&9_363)));
    }

    #[test]
    fn shares_follow_the_weights() {
        let maglev = Maglev::new(&addresses(&[1, 2, 5]), USUAL);
        for (share, expected) in shares(3, pick(&maglev))
            .into_iter()
            .zip([0.125, 0.25, 0.625])
        {
            assert!((share - expected).abs() < 0.02, "{share} is not {expected}");
        }
    }

    #[test]
    fn few_keys_move_beside_those_of_the_endpoint_that_leaves() {
        let all = addresses(&[1; 10]);
        let (before, after) = (Maglev::new(&all, USUAL), Maglev::new(&all[..9], USUAL));
        let (own, others) = moved(9, pick(&before), pick(&after));
        assert!(
            (0.09..0.11).contains(&own),
            "{own} of the keys were its own"
        );
        assert!(others < 0.05, "{others} of the other keys moved");
    }

    #[test]
    fn a_size_that_is_no_prime_is_raised() {
        assert_eq!([0, 4, 65_536, 65_537].map(prime), [2, 5, 65_537, 65_537]);
        assert_eq!(Maglev::new(&addresses(&[1]), 100).table.len(), 101);
        assert_eq!(Maglev::new(&[], 101).walk(1).count(), 0);
    }
}
