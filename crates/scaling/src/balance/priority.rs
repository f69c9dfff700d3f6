//! How much traffic each priority gets.
//!
//! Envoy's arithmetic in whole percents: a priority is as healthy as its share of healthy
//! endpoints times the overprovisioning, at most 100; each takes what it can of what is left.
//! Only when all together cannot take everything may a priority panic: then its endpoints are
//! used whatever their health.

/// The endpoints of one priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) healthy: u32,
    pub(crate) total: u32,
}

/// What a priority gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Of all traffic, in percent.
    pub(crate) percent: u32,
    /// All endpoints are used, healthy or not.
    pub(crate) panics: bool,
}

/// The loads of priorities, the first first; `overprovisioning` and `threshold` in percent. All
/// are 0 if nothing can be used.
pub(crate) fn loads(levels: &[Level], overprovisioning: u32, threshold: u32) -> Vec<Load> {
    let capacities: Vec<_> = levels
        .iter()
        .map(|level| capacity(*level, overprovisioning))
        .collect();
    let sum = capacities.iter().sum::<u32>().min(100);
    let panics: Vec<_> = levels
        .iter()
        .map(|level| sum < 100 && is_in_panic(*level, threshold))
        .collect();
    let in_use = || {
        levels
            .iter()
            .zip(&panics)
            .filter(|(level, _)| level.total > 0)
    };
    let percents = if in_use().all(|(_, panics)| *panics) {
        by_size(levels)
    } else {
        cascade(&capacities, sum)
    };
    let both = percents.into_iter().zip(panics);
    both.map(|(percent, panics)| Load { percent, panics })
        .collect()
}

fn capacity(level: Level, overprovisioning: u32) -> u32 {
    let healthy = u64::from(overprovisioning) * u64::from(level.healthy);
    let share = healthy.checked_div(u64::from(level.total)).unwrap_or(0);
    // One healthy endpoint of very many is still one.
    share.clamp(u64::from(level.healthy.min(1)), 100) as u32
}

fn is_in_panic(level: Level, threshold: u32) -> bool {
    let healthy = u64::from(level.healthy) * 100;
    level.total > 0 && healthy < u64::from(threshold) * u64::from(level.total)
}

/// Each priority takes what it can of what those before it left.
fn cascade(capacities: &[u32], sum: u32) -> Vec<u32> {
    let mut left = if sum == 0 { 0 } else { 100 };
    let mut percents: Vec<_> = capacities
        .iter()
        .map(|capacity| {
            let percent = (capacity * 100).checked_div(sum).unwrap_or(0).min(left);
            left -= percent;
            percent
        })
        .collect();
    // What rounding left over goes to the first that has anything.
    if let Some(first) = percents.iter_mut().find(|percent| **percent > 0) {
        *first += left;
    }
    percents
}

/// When all panic, traffic goes by the number of endpoints.
fn by_size(levels: &[Level]) -> Vec<u32> {
    let sizes: Vec<_> = levels.iter().map(|level| level.total).collect();
    let sum = sizes.iter().map(|size| u64::from(*size)).sum::<u64>();
    let percents = sizes.iter().map(|size| {
        let share = (u64::from(*size) * 100).checked_div(sum).unwrap_or(0);
        share as u32
    });
    let mut percents: Vec<_> = percents.collect();
    let left = 100_u32.saturating_sub(percents.iter().sum());
    if let Some(first) = percents.iter_mut().find(|percent| **percent > 0) {
        *first += left;
    }
    percents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percents(healthy: &[u32]) -> Vec<u32> {
        let level = |healthy: &u32| Level {
            healthy: *healthy,
            total: 100,
        };
        let levels: Vec<_> = healthy.iter().map(level).collect();
        let loads = loads(&levels, 140, 0);
        assert!(loads.iter().all(|load| !load.panics));
        loads.iter().map(|load| load.percent).collect()
    }

    /// The tables of Envoy's documentation of priority levels.
    #[test]
    fn traffic_spills_as_the_published_tables_say() {
        for (healthy, expected) in [
            (vec![100, 100], vec![100, 0]),
            (vec![72, 100], vec![100, 0]),
            (vec![71, 100], vec![99, 1]),
            (vec![50, 100], vec![70, 30]),
            (vec![25, 100], vec![35, 65]),
            (vec![0, 100], vec![0, 100]),
            (vec![25, 25], vec![50, 50]),
            (vec![100, 100, 100], vec![100, 0, 0]),
            (vec![72, 72, 100], vec![100, 0, 0]),
            (vec![71, 71, 100], vec![99, 1, 0]),
            (vec![50, 50, 100], vec![70, 30, 0]),
            (vec![25, 100, 100], vec![35, 65, 0]),
            (vec![25, 25, 100], vec![35, 35, 30]),
            (vec![25, 25, 20], vec![36, 36, 28]),
        ] {
            let got = percents(&healthy);
            // In the last row, rounding leaves a percent to whoever gets it.
            let is_near = |(got, expected): (&u32, &u32)| got.abs_diff(*expected) <= 1;
            assert!(
                got.iter().zip(&expected).all(is_near),
                "{healthy:?}: {got:?}"
            );
            assert_eq!(got.iter().sum::<u32>(), 100, "{healthy:?}");
        }
        assert_eq!(percents(&[0, 0]), [0, 0]);
    }

    #[test]
    fn a_priority_panics_only_if_all_together_are_too_few() {
        let level = |healthy, total| Level { healthy, total };
        let panics = |levels: &[Level], threshold| -> Vec<_> {
            let loads = loads(levels, 140, threshold);
            loads
                .iter()
                .map(|load| (load.percent, load.panics))
                .collect()
        };
        assert_eq!(
            panics(&[level(1, 4), level(4, 4)], 50),
            [(35, false), (65, false)]
        );
        assert_eq!(
            panics(&[level(1, 4), level(1, 4)], 50),
            [(50, true), (50, true)]
        );
        assert_eq!(panics(&[level(0, 4)], 50), [(100, true)]);
        assert_eq!(panics(&[level(0, 4)], 0), [(0, false)]);
        // All panic: by the number of endpoints.
        assert_eq!(
            panics(&[level(0, 3), level(0, 1)], 50),
            [(75, true), (25, true)]
        );
        assert_eq!(panics(&[], 50), []);
    }
}
