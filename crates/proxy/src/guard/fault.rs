//! Faults on purpose: delays, and answers in place of the backend's.

use routing::model::{Abort, Fault, Share};

use super::{Asked, Held, Kind, Refusal, unless_gone};
use crate::downstream::Downstream;

impl Asked<'_> {
    /// Delays and fails as the fault says.
    pub(super) async fn fail<D: Downstream>(
        &self,
        fault: &Fault,
        downstream: &mut D,
    ) -> Result<(), Held> {
        let draw = |share: Share| share.holds(self.worker.draw(share.total()));
        if let Some((delay, share)) = fault.delay
            && draw(share)
        {
            unless_gone(downstream, tokio::time::sleep(delay)).await?;
        }
        match fault.abort {
            Some((abort, share)) if draw(share) => Err(match abort {
                Abort::Http(status) => Refusal::new(Kind::Fault, status, "fault filter abort"),
                Abort::Grpc(status) => Refusal::grpc(Kind::Fault, status, "fault filter abort"),
            }
            .into()),
            _ => Ok(()),
        }
    }
}
