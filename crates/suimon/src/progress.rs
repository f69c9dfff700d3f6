//! Progress while something takes time: one line per step, on standard error, with the time
//! since the start.

use std::time::Duration;

use tokio::time::Instant;

use crate::output;

/// Tells steps as they happen; says the same thing only once in a row.
pub struct Progress {
    start: Instant,
    last: String,
}

impl Progress {
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            last: String::new(),
        }
    }

    /// One step, for example a condition's message.
    pub fn step(&mut self, text: &str) {
        if text.is_empty() || text == self.last {
            return;
        }
        output::note(&format!("{:>9}  {text}", elapsed(self.start.elapsed())));
        text.clone_into(&mut self.last);
    }

    /// The time since the start, for a final line.
    pub fn elapsed(&self) -> String {
        elapsed(self.start.elapsed())
    }
}

/// `12 ms` below a second, else `3.4 s`.
pub fn elapsed(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        return format!("{} ms", time.as_millis());
    }
    format!("{:.1} s", time.as_secs_f64())
}
