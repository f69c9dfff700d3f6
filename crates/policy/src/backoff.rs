//! Pauses between tries, as Envoy makes them: drawn from a range that grows with every try.

use std::time::Duration;

/// The pause before try `n`, counted from 1. With `most` above `base` it is `point` (in `0.0..1.0`,
/// drawn by the caller) of `(2^n - 1) * base`, at most `most`; otherwise it is `base`.
pub fn pause(base: Duration, most: Duration, n: u32, point: f64) -> Duration {
    if most <= base {
        return base;
    }
    let factor = 1u32
        .checked_shl(n.min(31))
        .map_or(u32::MAX, |power| power - 1);
    let range = base.saturating_mul(factor).min(most);
    range.mul_f64(point.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(25);

    #[test]
    fn the_range_doubles_and_ends_at_the_most() {
        // Envoy's: 25 ms, 75 ms, 175 ms, then 250 ms.
        let longest = |n| pause(BASE, BASE * 10, n, 1.0).as_millis();
        assert_eq!([1, 2, 3, 4, 40].map(longest), [25, 75, 175, 250, 250]);
        assert_eq!(pause(BASE, BASE * 10, 3, 0.5), BASE * 7 / 2);
        assert_eq!(pause(BASE, BASE * 10, 3, 0.0), Duration::ZERO);
    }

    #[test]
    fn without_a_range_every_pause_is_the_same() {
        assert_eq!(pause(BASE, BASE, 5, 0.3), BASE);
        assert_eq!(pause(BASE, Duration::ZERO, 1, 0.3), BASE);
    }
}
