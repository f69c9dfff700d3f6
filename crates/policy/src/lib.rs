//! Algorithms of traffic policies, pure: the caller says what time it is (`now`, since some start
//! that it chose) and draws where chance decides, so tests decide both.
//!
//! Each type holds state only; what a policy says comes with every call, so a policy that changes
//! goes on with the state that it has.

#![forbid(unsafe_code)]

mod aimd;
pub mod backoff;
mod breaker;
mod bucket;
mod gradient;
mod keyed;
mod meter;
mod places;
mod ramp;
mod scheduler;

pub use aimd::{Aimd, AimdRule};
pub use breaker::{Breaker, BreakerRule};
pub use bucket::{Bucket, Rate};
pub use gradient::{Gradient, GradientRule};
pub use keyed::Keyed;
pub use places::Places;
pub use ramp::{DriverRule, Ramp, RampRule};
pub use scheduler::{Ask, Offer, Scheduler, Shares};
