//! Weighted fair queueing in front of a token bucket, after Aperture's scheduler: workloads share
//! the tokens by priority, the flows of a workload share its part evenly.
//!
//! Self-clocked: a request's finish time is its flow's plus its cost, the least finish time goes
//! first, and the time of the request that went is the clock. Only the first request of a flow
//! competes, the others wait behind it.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// What there is to share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    pub capacity: f64,
    /// So many come back over each `interval`.
    pub fill: f64,
    pub interval: Duration,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Ask {
    pub workload: Arc<str>,
    /// Tokens are shared between workloads in proportion to this.
    pub priority: f64,
    /// What it costs.
    pub tokens: f64,
    /// Whose it is within its workload, by a hash.
    pub flow: u8,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    Admitted,
    /// Until [`Scheduler::admit`] names this ticket.
    Waiting(u64),
    /// Too many wait.
    Full,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Scheduler {
    /// `None` before the first request: full.
    tokens: Option<f64>,
    /// When `tokens` was right.
    at: Duration,
    clock: f64,
    flows: HashMap<Key, Flow>,
    /// First requests of flows by finish time.
    heads: BTreeSet<Head>,
    /// Flows with requests per workload.
    busy: HashMap<Arc<str>, u32>,
    tickets: HashMap<u64, Key>,
    issued: u64,
}

type Key = (Arc<str>, u8);

#[derive(Debug, Default)]
struct Flow {
    /// Finish time of the last request that went.
    time: f64,
    waiting: VecDeque<Request>,
}

#[derive(Debug)]
struct Request {
    ticket: u64,
    tokens: f64,
    cost: f64,
}

#[derive(Clone, Debug)]
struct Head {
    finish: f64,
    ticket: u64,
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_time = self.finish.total_cmp(&other.finish);
        by_time.then(self.ticket.cmp(&other.ticket))
    }
}

impl Scheduler {
    /// A request arrives.
    pub fn offer(&mut self, shares: &Shares, now: Duration, ask: &Ask, most: usize) -> Offer {
        self.refill(shares, now);
        let tokens = finite(ask.tokens, 1.0);
        if self.heads.is_empty() && self.take(shares, tokens) {
            return Offer::Admitted;
        }
        if self.tickets.len() >= most {
            return Offer::Full;
        }
        self.issued += 1;
        let ticket = self.issued;
        let key = (Arc::clone(&ask.workload), ask.flow);
        let clock = self.clock;
        let flow = self.flows.entry(key.clone()).or_insert_with(|| Flow {
            time: clock,
            waiting: VecDeque::new(),
        });
        let is_first = flow.waiting.is_empty();
        let busy = self.busy.entry(Arc::clone(&ask.workload)).or_default();
        *busy += u32::from(is_first);
        let priority = finite(ask.priority, 1.0).max(f64::MIN_POSITIVE);
        let cost = finite(tokens / priority * f64::from(*busy), f64::MAX);
        flow.waiting.push_back(Request {
            ticket,
            tokens,
            cost,
        });
        if is_first {
            // A flow that comes back does not get what it did not ask for in the meantime.
            flow.time = flow.time.max(clock);
            let finish = flow.time + cost;
            self.heads.insert(Head { finish, ticket });
        }
        self.tickets.insert(ticket, key);
        Offer::Waiting(ticket)
    }

    /// The next request that may go now, if there is one. Call it until there is none.
    pub fn admit(&mut self, shares: &Shares, now: Duration) -> Option<u64> {
        self.refill(shares, now);
        let head = self.heads.first()?.clone();
        let key = self.tickets.get(&head.ticket)?.clone();
        let tokens = self.flows.get(&key)?.waiting.front()?.tokens;
        if !self.take(shares, tokens) {
            return None;
        }
        self.clock = head.finish;
        self.remove(&key, head.ticket, Some(head.finish));
        Some(head.ticket)
    }

    /// How long until [`Self::admit`] has something; `None` if nobody waits.
    pub fn next(&mut self, shares: &Shares, now: Duration) -> Option<Duration> {
        self.refill(shares, now);
        let head = self.heads.first()?;
        let key = self.tickets.get(&head.ticket)?;
        let tokens = self.flows.get(key)?.waiting.front()?.tokens;
        let missing = need(shares, tokens) - self.tokens.unwrap_or(shares.capacity);
        let rate = rate(shares);
        let seconds = if missing <= 0.0 { 0.0 } else { missing / rate };
        // A nanosecond more than the fraction says, so that it is not asked again too early.
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST);
        Some(wait.saturating_add(Duration::from_nanos(1)).min(LONGEST))
    }

    /// How many tokens there are, where the caller counts them.
    pub fn set(&mut self, now: Duration, tokens: f64) {
        self.at = self.at.max(now);
        self.tokens = Some(tokens);
    }

    /// A waiting request gives up. `false` if it does not wait any more.
    pub fn cancel(&mut self, ticket: u64) -> bool {
        let Some(key) = self.tickets.get(&ticket).cloned() else {
            return false;
        };
        self.remove(&key, ticket, None);
        true
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.tickets.len()
    }

    /// Whether it is as good as a new one.
    pub fn is_idle(&mut self, shares: &Shares, now: Duration) -> bool {
        self.refill(shares, now);
        self.tickets.is_empty() && self.tokens.is_none_or(|tokens| tokens >= shares.capacity)
    }

    /// Takes a request out of its flow, which goes on with its next; `finish` if it went.
    fn remove(&mut self, key: &Key, ticket: u64, finish: Option<f64>) {
        self.tickets.remove(&ticket);
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        let Some(at) = flow.waiting.iter().position(|one| one.ticket == ticket) else {
            return;
        };
        if let Some(removed) = flow.waiting.remove(at)
            && at == 0
        {
            self.heads.remove(&Head {
                finish: flow.time + removed.cost,
                ticket,
            });
            flow.time = finish.unwrap_or(flow.time);
            if let Some(next) = flow.waiting.front() {
                self.heads.insert(Head {
                    finish: flow.time + next.cost,
                    ticket: next.ticket,
                });
            }
        }
        if flow.waiting.is_empty()
            && let Some(busy) = self.busy.get_mut(&key.0)
        {
            *busy = busy.saturating_sub(1);
        }
        if self.tickets.is_empty() {
            // Nobody waits: nothing is remembered of who had what.
            self.clock = 0.0;
            self.flows.clear();
            self.busy.clear();
        }
    }

    fn refill(&mut self, shares: &Shares, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let tokens = self.tokens.unwrap_or(shares.capacity);
        let more = if passed > 0.0 {
            passed * rate(shares)
        } else {
            0.0
        };
        self.tokens = Some((tokens + more).min(shares.capacity));
    }

    fn take(&mut self, shares: &Shares, tokens: f64) -> bool {
        let available = self.tokens.unwrap_or(shares.capacity);
        // Refilled by parts, a whole token may be a rounding short of one.
        let is_enough = available + 1e-9 >= need(shares, tokens);
        if is_enough {
            self.tokens = Some(available - tokens);
        }
        is_enough
    }
}

/// Longest time until somebody looks again.
const LONGEST: Duration = Duration::from_secs(3600);

/// What must be there for a request. One that costs more than the bucket holds goes when it is
/// full, and leaves a debt.
fn need(shares: &Shares, tokens: f64) -> f64 {
    if shares.capacity > 0.0 {
        tokens.min(shares.capacity)
    } else {
        tokens.max(1.0)
    }
}

/// Tokens per second.
fn rate(shares: &Shares) -> f64 {
    shares.fill.max(0.0) / shares.interval.as_secs_f64().max(1e-9)
}

fn finite(value: f64, otherwise: f64) -> f64 {
    if value.is_finite() && value >= 0.0 {
        value
    } else {
        otherwise
    }
}

#[cfg(test)]
mod tests;
