//! Frames that cost us more than they cost the peer: counted against a budget that time and
//! useful work refill.
//!
//! Pings, settings, empty frames, tiny window updates and unknown frames share one budget;
//! streams that are opened and given up (rapid reset) have another. Who spends it all loses the
//! connection.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes of DATA sent that earn one more window update.
const EARN: usize = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Flood {
    frames: u32,
    most_frames: u32,
    resets: u32,
    most_resets: u32,
    earned: usize,
    since: Option<Instant>,
}

/// The budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flooded;

impl Flood {
    pub(crate) fn new(most_frames: u32, most_resets: u32) -> Self {
        Self {
            frames: most_frames,
            most_frames,
            resets: most_resets,
            most_resets,
            earned: 0,
            since: None,
        }
    }

    /// A frame that moves nothing forward.
    pub(crate) fn frame(&mut self) -> Result<(), Flooded> {
        if self.frames == 0 {
            self.refill();
        }
        self.frames = self.frames.checked_sub(1).ok_or(Flooded)?;
        Ok(())
    }

    /// A stream that the peer opened and gave up before its answer.
    pub(crate) fn reset(&mut self) -> Result<(), Flooded> {
        if self.resets == 0 {
            self.refill();
        }
        self.resets = self.resets.checked_sub(1).ok_or(Flooded)?;
        Ok(())
    }

    /// DATA went out, for which window updates come back: one of the stream and one of the
    /// connection, and more for a large frame.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.earned += bytes;
        let frames = 2 + (self.earned / EARN) as u32;
        self.earned %= EARN;
        self.frames = self
            .frames
            .saturating_add(frames)
            .min(self.most_frames.saturating_mul(64));
    }

    /// The clock is looked at only by who has spent everything.
    fn refill(&mut self) {
        let now = Instant::now();
        let is_due = self
            .since
            .is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1));
        if is_due {
            self.since = Some(now);
            self.frames = self.frames.max(self.most_frames);
            self.resets = self.most_resets;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_ends_the_budget_and_a_second_refills_it() {
        let mut flood = Flood::new(1_000, 10);
        // One refill is free: nobody looked at the clock before.
        let allowed = (0..10_000).take_while(|_| flood.frame().is_ok()).count();
        assert_eq!(allowed, 2_000);
        assert_eq!(flood.frame(), Err(Flooded));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(flood.frame(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn resets_have_their_own_budget() {
        let mut flood = Flood::new(1_000, 10);
        let allowed = (0..1_000).take_while(|_| flood.reset().is_ok()).count();
        assert_eq!(allowed, 20);
        assert_eq!(flood.frame(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_earns_window_updates() {
        let mut flood = Flood::new(1_000, 10);
        for size in [1, 512].repeat(50_000) {
            flood.sent(size);
            assert_eq!((flood.frame(), flood.frame()), (Ok(()), Ok(())));
        }
    }
}
