//! What a request has to pass at its listener, before its route is looked for.
//!
//! Services are asked in order. What they change of the headers is what routes compare and what
//! the next service is told; the host stays what the client sent, or else another listener's
//! routes could be reached.

use std::rc::Rc;
use std::sync::Arc;

use routing::model::Gate;
use routing::{CompiledRoute, Snapshot};

use super::{Guarded, Held, Passage, answer, body, external, pass_on, plan, unless_gone};
use crate::connection::Client;
use crate::downstream::Downstream;
use crate::failure::Failure;
use crate::filter::{Pair, cors};
use crate::message::View;
use crate::plan::{Plan, client_source};
use crate::seen::Seen;
use crate::telemetry;
use crate::worker::{Scratch, Worker};

/// Names of the host.
const HOST: [&str; 2] = ["host", ":authority"];

/// A request whose listener asks others about it.
pub(crate) struct Gated {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) gate: Arc<Gate>,
}

/// Asks all, then looks for the route and plans the request.
///
/// A page's preflight is answered without asking, as by the guards of a route: browsers show no
/// credentials with it.
pub(crate) async fn enter<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    scratch: &mut Scratch,
    downstream: &mut D,
    gated: Gated,
) -> Result<Plan, Box<Failure>> {
    let mut passage = Passage {
        entered: true,
        ..Passage::default()
    };
    if let Some(route) = unasked(worker, client, downstream.view(), &gated)
        && let Some(filters) = route.filters()
        && let Some(reply) = cors::preflight(filters, downstream.view())
    {
        return Ok(Plan::Reply(Box::new(reply)));
    }
    if let Err(held) = ask(worker, client, downstream, (&gated, &mut passage)).await {
        let view = downstream.view();
        if let Some(route) = unasked(worker, client, view, &gated) {
            scratch.for_pages = Pair::drawn(route, None).for_pages(view);
        }
        return answer(worker, downstream, held);
    }
    let view = downstream.view();
    let seen = Seen {
        edits: passage.edits(),
        ..Seen::unrouted(worker, view, client)
    };
    let Some(route) = client.entry.select(&gated.snapshot, &seen) else {
        return Err(Failure::no_route(view).into());
    };
    if let Some(source) = client_source(worker, client, route) {
        scratch.is_trusted = !client.is_outside(Some(source));
        scratch.client = routing::client::address(source, &seen);
    }
    telemetry::steer(worker, client, scratch, view, route.filters());
    let guarded = Guarded {
        route: Arc::clone(route),
        snapshot: gated.snapshot,
    };
    if guarded.route.is_guarded() {
        scratch.series = worker.series.of_route(&guarded.route);
        return pass_on(worker, client, scratch, downstream, (guarded, passage)).await;
    }
    plan(worker, client, scratch, downstream, (&guarded, passage))
}

/// The route of a request from a page, as the client sent it: pages may read why they are refused.
fn unasked<'s>(
    worker: &Worker,
    client: &Client,
    view: View<'_>,
    gated: &'s Gated,
) -> Option<&'s Arc<CompiledRoute>> {
    view.field("origin")?;
    let seen = Seen::unrouted(worker, view, client);
    client.entry.select(&gated.snapshot, &seen)
}

async fn ask<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    downstream: &mut D,
    (gated, passage): (&Gated, &mut Passage),
) -> Result<(), Held> {
    for service in &gated.gate.asks {
        if let Some(asked) = &service.body {
            body::hold(asked, worker, downstream, passage).await?;
        }
        let seen = Seen {
            edits: passage.edits(),
            ..Seen::unrouted(worker, downstream.view(), client)
        };
        let question = external::question(service, &seen, downstream.held());
        let asking = external::check(worker, &gated.snapshot, service, question);
        unless_gone(downstream, asking).await??.apply(passage);
        let ops = &mut passage.extra.first;
        ops.remove.retain(|name| !HOST.contains(&&**name));
        ops.set.retain(|(name, _)| !HOST.contains(&&**name));
        ops.add.retain(|(name, _)| !HOST.contains(&&**name));
    }
    Ok(())
}
