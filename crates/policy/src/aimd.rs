//! A rate that follows how long requests take: additive increase, multiplicative decrease.
//!
//! As Aperture's AIMD load scheduler with its average latency baseline (its reference,
//! "AIMDLoadScheduler" and "LoadScheduler", and the blueprint "load-scheduling/average-latency").
//! Every ten seconds the mean of the last 30 seconds' durations is compared with the mean of a long
//! time before times a tolerance. Above it the rate is that of the last 30 seconds' requests times
//! a multiplier, which shrinks with the ratio of both; below it the multiplier grows by a constant
//! until it is so large that nothing is held back any more.

use std::collections::VecDeque;
use std::time::Duration;

use crate::meter::Meter;

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AimdRule {
    /// Requests may take longer than usual by this factor.
    pub tolerance: f64,
    /// How far back what is usual is measured.
    pub long_term: Duration,
    /// The multiplier shrinks by `(mean / allowed) ^ slope`, within these bounds.
    pub slope: f64,
    pub min_gradient: f64,
    pub max_gradient: f64,
    /// What the multiplier grows by every ten seconds.
    pub increment: f64,
    /// Above it nothing is held back.
    pub max: f64,
}

const TICK: Duration = Duration::from_secs(1);
/// Seconds whose requests count.
const WINDOW: usize = 30;
/// Seconds between two decisions.
const DECIDE: u64 = 10;
/// Parts of the long time.
const PARTS: u32 = 60;

/// The state of one rate.
#[derive(Clone, Debug)]
pub struct Aimd {
    /// `None`: nothing is held back.
    multiplier: Option<f64>,
    /// The last second that has passed, and how many have.
    at: Duration,
    seconds: u64,
    /// When the current part of the long time began.
    part: Duration,
    /// Tokens that requests of the last seconds wanted; the newest is the last.
    wanted: VecDeque<f64>,
    short: Meter,
    long: Meter,
}

impl Aimd {
    /// Knows nothing, and holds nothing back.
    pub fn new(now: Duration) -> Self {
        Self {
            multiplier: None,
            at: now,
            seconds: 0,
            part: now,
            wanted: vec![0.0].into(),
            short: Meter::new(WINDOW),
            long: Meter::new(PARTS as usize),
        }
    }

    /// A request wants so many tokens.
    pub fn wants(&mut self, rule: &AimdRule, now: Duration, tokens: f64) {
        self.advance(rule, now);
        if let Some(last) = self.wanted.back_mut() {
            *last += tokens;
        }
    }

    /// A request that went well has ended.
    pub fn ended(&mut self, rule: &AimdRule, now: Duration, took: Duration) {
        self.advance(rule, now);
        self.short.add(took);
        self.long.add(took);
    }

    /// Tokens per second that may go; `None` is all.
    pub fn rate(&mut self, rule: &AimdRule, now: Duration) -> Option<f64> {
        self.advance(rule, now);
        let multiplier = self.multiplier?;
        let wanted: f64 = self.wanted.iter().sum();
        Some(multiplier * wanted / self.wanted.len() as f64)
    }

    /// How long until the rate may be another one.
    pub fn next(&self, now: Duration) -> Duration {
        self.at.saturating_add(TICK).saturating_sub(now)
    }

    /// Whether it knows nothing that a new one would not.
    pub fn is_idle(&mut self, rule: &AimdRule, now: Duration) -> bool {
        self.advance(rule, now);
        self.multiplier.is_none() && self.long.mean().is_none()
    }

    /// Decides for the time that has passed.
    fn advance(&mut self, rule: &AimdRule, now: Duration) {
        let passed = now.saturating_sub(self.at);
        if passed > rule.long_term.saturating_add(TICK * WINDOW as u32) {
            // Nobody came for so long that all is forgotten.
            *self = Self::new(now);
            return;
        }
        while now >= self.at.saturating_add(TICK) {
            self.at += TICK;
            self.seconds += 1;
            if self.seconds.is_multiple_of(DECIDE) {
                self.decide(rule);
            }
            self.short.forget();
            self.wanted.push_back(0.0);
            if self.wanted.len() > WINDOW {
                self.wanted.pop_front();
            }
            let part = (rule.long_term / PARTS).max(TICK);
            if self.at.saturating_sub(self.part) >= part {
                self.part = self.at;
                self.long.forget();
            }
        }
    }

    fn decide(&mut self, rule: &AimdRule) {
        let allowed = |mean: Duration| mean.as_secs_f64() * rule.tolerance;
        let allowed = self.long.mean().map(allowed);
        let mean = self.short.mean().map(|mean| mean.as_secs_f64());
        if let (Some(mean), Some(allowed)) = (mean, allowed)
            && mean > allowed
        {
            let gradient = (mean / allowed.max(f64::MIN_POSITIVE)).powf(rule.slope);
            let bounded = gradient.max(rule.min_gradient).min(rule.max_gradient);
            let least = f64::MIN_POSITIVE;
            self.multiplier = Some((self.multiplier.unwrap_or(1.0) * bounded).max(least));
            return;
        }
        // Nobody came, or all is well.
        let grown = self
            .multiplier
            .map(|multiplier| multiplier + rule.increment);
        self.multiplier = grown.filter(|multiplier| *multiplier <= rule.max);
    }
}

#[cfg(test)]
mod tests;
