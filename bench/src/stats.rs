//! Medians and percentiles of samples.

/// The value at `percentile` (0 to 100) of the samples; NaN without samples.
pub fn percentile(samples: &[f64], percentile: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1) as f64;
    sorted
        .get((last * percentile / 100.0).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

/// The median.
pub fn median(samples: &[f64]) -> f64 {
    percentile(samples, 50.0)
}
