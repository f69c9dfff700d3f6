//! What a route asks of a request before it is forwarded: a file per guard, in force in the order
//! of the fields of [`Guards`](routing::model::Guards).
//!
//! All of it runs before the request takes a place at its backend, so what is refused here neither
//! wakes nor scales anything. A route without guards never comes here.

mod ask;
mod authorization;
pub(crate) mod body;
mod concurrency;
mod credential;
pub(crate) mod external;
mod fault;
mod flight;
mod gate;
pub(crate) mod grpc;
mod limit;
mod limit_service;
mod protobuf;
mod quota;
mod ramp;
pub(crate) mod refusal;
mod state;
pub(crate) mod token;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use routing::model::{Guards, HeaderOps};
use routing::{CompiledAction, CompiledGuards, CompiledRoute, CompiledSplit, Snapshot};
use tokio::time::Instant;

use crate::connection::Client;
use crate::downstream::Downstream;
use crate::edits::Extra;
use crate::failure::Failure;
use crate::filter::{Pair, cors};
use crate::message::View;
use crate::plan::{self, Chosen, Plan, client_source};
use crate::rare::rare;
use crate::seen::Seen;
use crate::session;
use crate::worker::{Scratch, Worker};

pub(crate) use gate::{Gated, enter};
pub(crate) use limit::OwnLimits;
pub(crate) use refusal::{Held, Kind, Refusal};
pub(crate) use state::Registry;

use state::States;
use token::Verified;

/// A request whose route has guards.
pub(crate) struct Guarded {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) route: Arc<CompiledRoute>,
}

/// What guards leave behind for the rest of a request.
#[derive(Debug, Default)]
pub(crate) struct Passage {
    pub(crate) extra: Extra,
    /// A query parameter that is not passed on.
    pub(crate) hidden_query: Option<Arc<str>>,
    /// Where the split was cut, if there is one: the arm's guards were asked.
    pub(crate) point: Option<u64>,
    token: Option<Arc<Verified>>,
    /// Changes to the answer.
    answer: HeaderOps,
    /// Whether headers were changed before the route was looked for: then its guards see them so.
    entered: bool,
    pub(crate) after: After,
}

impl Passage {
    pub(crate) fn changes_answer(&self) -> bool {
        !self.answer.is_empty()
    }

    fn edits(&self) -> Option<&HeaderOps> {
        self.entered.then_some(&self.extra.first)
    }

    /// Sets a header of the request, whatever the client and earlier guards say.
    fn set(&mut self, name: Arc<str>, value: Arc<str>) {
        let ops = &mut self.extra.first;
        ops.set.retain(|(other, _)| *other != name);
        ops.set.push((name, value));
    }
}

/// What guards want to know of the answer.
#[derive(Debug, Default)]
pub(crate) struct After {
    breakers: Vec<Arc<state::BreakerState>>,
    ramps: Vec<ramp::Measured>,
    quotas: Vec<quota::Measured>,
    since: Option<Instant>,
    /// What the request has a place in until it ends.
    places: RefCell<Vec<concurrency::Place>>,
    taken: Vec<quota::Taken>,
    flights: Vec<flight::Flight>,
    /// The most bytes that the request's body may have.
    pub(crate) max_body: Option<u64>,
}

impl After {
    /// The request that passed has ended.
    pub(crate) fn ended(&self, worker: &Worker, status: u16) {
        for place in self.places.take() {
            // Whoever went away says nothing of the Service.
            if status != 101 && status != 499 {
                place.ended(&worker.guards, worker.fraction());
            }
        }
        // A tunnel lasts as long as both sides like.
        let Some(since) = self.since.filter(|_| status != 101) else {
            return;
        };
        // An error is quick for reasons of its own.
        for ramp in self.ramps.iter().filter(|_| status < 400) {
            ramp.ended(worker.guards.now(), since.elapsed());
        }
        for quota in self.quotas.iter().filter(|_| status < 400) {
            quota.ended(worker.guards.now(), since.elapsed());
        }
        for breaker in &self.breakers {
            if breaker.ended(worker.guards.now(), since.elapsed(), status >= 500) {
                tracing::info!(breaker = %breaker.rule.id, "opened");
                worker.counters.breakers_opened.add(1);
            }
        }
    }
}

/// Asks a request all that its route asks, then plans it.
pub(crate) async fn pass<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    scratch: &mut Scratch,
    downstream: &mut D,
    guarded: Guarded,
) -> Result<Plan, Box<Failure>> {
    pass_on(
        worker,
        client,
        scratch,
        downstream,
        (guarded, Passage::default()),
    )
    .await
}

/// The same for a request that was let in at its listener.
async fn pass_on<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    scratch: &mut Scratch,
    downstream: &mut D,
    (guarded, mut passage): (Guarded, Passage),
) -> Result<Plan, Box<Failure>> {
    let Guarded { snapshot, route } = &guarded;
    let asked = Asked {
        worker,
        client,
        snapshot,
        route,
        address: scratch.client,
        is_outside: client.is_outside(client_source(worker, client, route)),
    };
    if let Err(held) = asked.route_and_arm(downstream, &mut passage).await {
        let arm = asked.split().zip(passage.point);
        let arm = arm.map(|(split, point)| split.at(point));
        scratch.for_pages = Pair::drawn(route, arm).for_pages(downstream.view());
        return answer(worker, downstream, held);
    }
    plan(worker, client, scratch, downstream, (&guarded, passage))
}

/// What a client gets whose request does not pass.
fn answer(worker: &Worker, downstream: &impl Downstream, held: Held) -> Result<Plan, Box<Failure>> {
    match held {
        Held::Answered(reply) => Ok(Plan::Reply(reply)),
        Held::Refused(refusal) => {
            worker.counters.refused[refusal.kind as usize].add(1);
            Ok(Plan::Reply(Box::new(
                refusal.reply(downstream.view().is_grpc()),
            )))
        }
        Held::Failed(failure) => Err(failure.into()),
    }
}

/// Plans a request that passed.
fn plan<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    scratch: &mut Scratch,
    downstream: &mut D,
    (guarded, passage): (&Guarded, Passage),
) -> Result<Plan, Box<Failure>> {
    let chosen = Chosen {
        snapshot: &guarded.snapshot,
        route: &guarded.route,
        passage: Some(&passage),
    };
    let mut planned = plan::plan_route(worker, client, scratch, downstream, &chosen)?;
    if let Plan::Forward(forward) = &mut planned
        && let Some(effects) = &mut forward.effects
    {
        effects.answer.apply(&passage.answer);
        effects.after = passage.after;
        effects.after.since = Some(Instant::now());
    }
    Ok(planned)
}

/// A request whose route, or an arm of it, has guards.
struct Asked<'a> {
    worker: &'a Rc<Worker>,
    client: &'a Client,
    snapshot: &'a Snapshot,
    route: &'a CompiledRoute,
    /// The client's, if trusted proxies said it.
    address: Option<IpAddr>,
    /// See [`Seen::is_outside`].
    is_outside: bool,
}

impl Asked<'_> {
    /// The route's guards, then those of the arm that is drawn.
    async fn route_and_arm<D: Downstream>(
        &self,
        downstream: &mut D,
        passage: &mut Passage,
    ) -> Result<(), Held> {
        if let Some(guards) = self.route.guards() {
            self.all(guards, downstream, passage).await?;
        }
        let Some(split) = self.split() else {
            return Ok(());
        };
        let point = session::point(self.worker, self.snapshot, split, downstream.view());
        passage.point = Some(point);
        match split.at(point).guards() {
            Some(guards) => self.all(guards, downstream, passage).await,
            None => Ok(()),
        }
    }

    /// The arms of the route, if the request goes on to one.
    fn split(&self) -> Option<&CompiledSplit> {
        let client = self.client;
        match &self.route.action {
            CompiledAction::Forward(split) => Some(split),
            CompiledAction::ForwardSecure(split)
                if client.tls.is_some() || client.entry.is_cluster_local() =>
            {
                Some(split)
            }
            CompiledAction::ForwardSecure(_)
            | CompiledAction::Respond(_)
            | CompiledAction::Redirect(_) => None,
        }
    }

    async fn all<D: Downstream>(
        &self,
        guards: &CompiledGuards,
        downstream: &mut D,
        passage: &mut Passage,
    ) -> Result<(), Held> {
        let source: &Guards = &guards.source;
        if let Some(fault) = &source.fault {
            self.fail(fault, downstream).await?;
        }
        if let Some(filters) = self.route.filters()
            && let Some(reply) = cors::preflight(filters, downstream.view())
        {
            return Err(Held::Answered(Box::new(reply)));
        }
        // Filled the first time, with this very type.
        let Some(states) = self.states(guards) else {
            return Ok(());
        };
        if let Some(tokens) = &source.tokens {
            let found = token::find(tokens, &self.seen(downstream.view(), passage));
            let checking = token::check(self.worker, tokens, &states.keys, found);
            match unless_gone(downstream, checking).await? {
                Ok(checked) => checked.apply(passage),
                Err(denied) => {
                    let realm = refusal::realm(downstream.view(), self.client);
                    return Err(token::refused(denied, &realm));
                }
            }
        }
        self.authorize(guards, downstream.view(), passage)?;
        if let Some(credentials) = &source.credentials {
            let shown = credential::find(credentials, &self.seen(downstream.view(), passage));
            let checking = credential::check(self.worker, credentials, shown);
            unless_gone(downstream, checking).await??.apply(passage);
        }
        if let Some(external) = &source.external {
            let is_asked =
                external::is_asked(&guards.external, &self.seen(downstream.view(), passage));
            if is_asked {
                if let Some(asked) = &external.body {
                    let holding = body::hold(asked, self.worker, downstream, passage);
                    rare(holding).await?;
                }
                let seen = self.seen(downstream.view(), passage);
                let question = external::question(external, &seen, downstream.held());
                let asking = external::check(self.worker, self.snapshot, external, question);
                unless_gone(downstream, asking).await??.apply(passage);
            }
        }
        self.ramp(guards, downstream.view(), passage, states)?;
        self.limit(guards, downstream.view(), passage, states)?;
        self.ask_for_limits(guards, downstream, passage).await?;
        self.break_off(states, passage)?;
        self.queue(guards, downstream, passage, states).await?;
        self.fly(guards, downstream.view(), passage, states)?;
        if let (Some(limit), Some(state)) = (&source.concurrency, &states.concurrency) {
            match state.take(limit, self.worker.guards.now()) {
                Some(place) => passage.after.places.get_mut().push(place),
                None => return Err(Refusal::with(Kind::Concurrency, &limit.respond).into()),
            }
        }
        body::check(source, downstream, passage)
    }

    fn states<'g>(&self, guards: &'g CompiledGuards) -> Option<&'g States> {
        let fill = || Arc::new(self.worker.guards.states(&guards.source));
        guards.slot.get_or_fill(fill)
    }

    fn seen<'s>(&'s self, view: View<'s>, passage: &'s Passage) -> Seen<'s> {
        Seen {
            view,
            client: self.client,
            token: passage.token.as_deref(),
            path: None,
            edits: passage.edits(),
            address: self.address,
            is_outside: self.is_outside,
        }
    }
}

/// Waits for a guard, but not longer than the client does.
async fn unless_gone<D: Downstream, T>(
    downstream: &mut D,
    guard: impl Future<Output = T>,
) -> Result<T, Held> {
    tokio::select! {
        biased;
        done = guard => Ok(done),
        () = downstream.gone() => Err(Held::Failed(Failure::ClientGone)),
    }
}
