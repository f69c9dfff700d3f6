//! Ketama: every endpoint has points on a ring in proportion to its weight, and a key belongs to
//! the next point.
//!
//! The number of points is the least, between the bounds, at which the lightest endpoint still
//! has a whole one, as Envoy computes it; a point is the hash of `ADDRESS_NUMBER`.

use super::hash::hash;

/// Envoy's upper bound, whatever a policy says.
const MOST: u64 = 8 * 1024 * 1024;

/// A ring of endpoints, by their index.
#[derive(Debug)]
pub(crate) struct Ring {
    /// In the order of the hashes.
    points: Box<[(u64, u32)]>,
}

impl Ring {
    /// The ring of these addresses with their weights.
    pub(crate) fn new(hosts: &[(String, u32)], min: u64, max: u64) -> Self {
        let max = max.clamp(1, MOST);
        let min = min.clamp(1, max);
        let total: f64 = hosts.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let shares = hosts.iter().map(|(_, weight)| f64::from(*weight) / total);
        let lightest = shares.clone().fold(1.0, f64::min);
        let scale = ((lightest * min as f64).ceil() / lightest).min(max as f64);
        let mut points = Vec::with_capacity(scale.ceil() as usize);
        let (mut target, mut key) = (0.0, Vec::new());
        for (number, (share, (address, _))) in shares.zip(hosts).enumerate() {
            target += scale * share;
            for copy in 0.. {
                if points.len() as f64 >= target {
                    break;
                }
                key.clear();
                key.extend_from_slice(format!("{address}_{copy}").as_bytes());
                points.push((hash(&key), number as u32));
            }
        }
        points.sort_unstable();
        Self {
            points: points.into(),
        }
    }

    /// The endpoint of a key, then those that would have it if that one were not there.
    pub(crate) fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let at = self.points.partition_point(|(hash, _)| *hash < key);
        let (before, from) = self.points.split_at(at);
        from.iter().chain(before).map(|(_, host)| *host as usize)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.points.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::testing::{addresses, moved, shares};

    fn pick(ring: &Ring) -> impl Fn(u64) -> usize {
        |key| ring.walk(key).next().expect("a point")
    }

    #[test]
    fn the_size_follows_from_the_lightest_endpoint() {
        // 1024 / 3 points are 341.3 each; 342 each make 1026.
        assert_eq!(Ring::new(&addresses(&[1, 1, 1]), 1024, MOST).len(), 1026);
        assert_eq!(Ring::new(&addresses(&[1, 1]), 1024, MOST).len(), 1024);
        // The lightest of 1 : 9999 would have a tenth of a point.
        assert_eq!(Ring::new(&addresses(&[1, 9_999]), 1024, MOST).len(), 10_000);
        assert_eq!(Ring::new(&addresses(&[1, 9_999]), 1024, 5_000).len(), 5_000);
    }

    #[test]
    fn shares_follow_the_weights() {
        let ring = Ring::new(&addresses(&[1, 2, 5]), 65_536, MOST);
        for (share, expected) in shares(3, pick(&ring)).into_iter().zip([0.125, 0.25, 0.625]) {
            assert!((share - expected).abs() < 0.02, "{share} is not {expected}");
        }
    }

    #[test]
    fn only_the_keys_of_the_endpoint_that_leaves_move() {
        let all = addresses(&[1; 10]);
        let before = Ring::new(&all, 10_240, MOST);
        let after = Ring::new(&all[..9], 9_216, MOST);
        let (own, others) = moved(9, pick(&before), pick(&after));
        assert!(
            (0.07..0.13).contains(&own),
            "{own} of the keys were its own"
        );
        assert_eq!(others, 0.0);
    }

    #[test]
    fn a_walk_names_the_endpoint_that_takes_over() {
        let all = addresses(&[1, 1, 1]);
        let (ring, rest) = (Ring::new(&all, 999, MOST), Ring::new(&all[..2], 666, MOST));
        for key in (0..1_000).map(|key: u64| hash(&key.to_le_bytes())) {
            let next = ring.walk(key).find(|host| *host != 2);
            assert_eq!(next, rest.walk(key).next());
        }
        assert_eq!(ring.walk(u64::MAX).count(), ring.len());
    }
}
