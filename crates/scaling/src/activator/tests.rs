//! The activator's promises: exact counts, limits that hold, order, and no request left behind.

mod limits;
mod policies;
mod ways;

use super::*;
use crate::report::{Report, ReportReceiver, reports};
use lifecycle::{Publish, snapshot_channel};
use proptest::prelude::*;
use routing::model::{Activation, Protocol, Timeouts};
use routing::{Compiler, Endpoint, EndpointState};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use tokio::sync::Barrier;

/// A gateway's activator with a publisher that the test drives.
struct Gateway {
    compiler: Compiler,
    publish: Publish<Snapshot>,
    activator: Activator,
    reports: ReportReceiver,
}

impl Gateway {
    fn new(settings: Settings) -> Self {
        let (publish, snapshots) = snapshot_channel(Snapshot::default());
        let (sender, reports) = reports();
        let activator = Activator::new(settings, snapshots, sender);
        Self {
            compiler: Compiler::default(),
            publish,
            activator,
            reports,
        }
    }

    fn put(&mut self, backend: &Backend) -> Arc<Backend> {
        self.put_all(std::slice::from_ref(backend)).remove(0)
    }

    fn put_all(&mut self, backends: &[Backend]) -> Vec<Arc<Backend>> {
        let backends: Vec<_> = backends.iter().cloned().map(Arc::new).collect();
        for backend in &backends {
            self.compiler.put_backend(Arc::clone(backend));
        }
        self.publish();
        backends
    }

    fn remove(&mut self, backend: &Backend) {
        self.compiler.remove_backend(&backend.id);
        self.publish();
    }

    fn publish(&mut self) {
        self.publish.publish(Arc::new(self.compiler.compile().0));
        self.activator.shared.catch_up();
    }

    /// Reports about pods, read until there are no more.
    fn pods(&mut self) -> Vec<String> {
        let all = std::iter::from_fn(|| self.reports.try_recv());
        let text = |report| match report {
            Report::Open { pod } => Some(format!("open {pod}")),
            Report::Drained { pod } => Some(format!("drained {pod}")),
            Report::Stat { .. } | Report::Poke { .. } | Report::Busy { .. } => None,
        };
        all.filter_map(text).collect()
    }

    fn pokes(&mut self) -> usize {
        let all = std::iter::from_fn(|| self.reports.try_recv());
        all.filter(|report| matches!(report, Report::Poke { .. }))
            .count()
    }
}

fn pod(number: u16, state: EndpointState) -> Endpoint {
    Endpoint {
        address: ([127, 0, 0, 1], 1000 + number).into(),
        state,
        pod: Some(format!("default/p{number}").into()),
        weight: 1,
        locality: None,
    }
}

fn ready(number: u16) -> Endpoint {
    pod(number, EndpointState::Ready)
}

fn draining(number: u16) -> Endpoint {
    pod(number, EndpointState::Draining)
}

fn revision(concurrency: u32, endpoints: Vec<Endpoint>) -> Backend {
    let revision = RevisionId {
        namespace: "default".into(),
        name: "hello-00001".into(),
    };
    let activation = Activation {
        revision,
        service: "hello".into(),
        configuration: "hello".into(),
    };
    Backend {
        activation: Some(activation),
        ..plain(concurrency, endpoints)
    }
}

fn plain(concurrency: u32, endpoints: Vec<Endpoint>) -> Backend {
    Backend {
        id: BackendId("default/hello-00001:80".into()),
        protocol: Protocol::Http1,
        endpoints,
        concurrency,
        activation: None,
        timeouts: Timeouts::default(),
        tls: None,
        policy: None,
    }
}

/// Polls a future by hand: no runtime decides who runs first.
fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

type Acquire<'a> = Pin<Box<dyn Future<Output = Result<Slot, AcquireError>> + 'a>>;

fn acquire<'a>(activator: &'a Activator, backend: &'a Arc<Backend>) -> Acquire<'a> {
    Box::pin(activator.acquire(backend))
}

fn expect_slot(future: &mut Acquire<'_>) -> Slot {
    match poll(future) {
        Poll::Ready(Ok(slot)) => slot,
        other => panic!("expected a slot, got {other:?}"),
    }
}

#[test]
fn a_request_to_a_ready_endpoint_never_waits_and_is_spread_evenly() {
    with_time(|| {
        let mut gateway = Gateway::new(Settings::KNATIVE);
        for count in [3, 20] {
            let backend = gateway.put(&revision(0, (0..count).map(ready).collect()));
            let slots: Vec<_> = (0..count * 10)
                .map(|_| expect_slot(&mut acquire(&gateway.activator, &backend)))
                .collect();
            for number in 0..count {
                let port = 1000 + number;
                let got = slots
                    .iter()
                    .filter(|slot| slot.endpoint().address.port() == port)
                    .count();
                let fair = if count <= 8 { 10..=10 } else { 4..=16 };
                assert!(
                    fair.contains(&got),
                    "{got} of {} requests on one of {count}",
                    slots.len()
                );
            }
        }
    });
}

#[test]
fn cold_requests_poke_as_their_number_doubles_and_wait_for_the_first_endpoint() {
    with_time(|| {
        let mut gateway = Gateway::new(Settings::KNATIVE);
        let cold = gateway.put(&revision(1, vec![]));
        let mut first = acquire(&gateway.activator, &cold);
        let mut second = acquire(&gateway.activator, &cold);
        assert!(poll(&mut first).is_pending());
        assert!(poll(&mut second).is_pending());
        drop((first, second));
        let activator = gateway.activator.clone();
        let mut first = acquire(&activator, &cold);
        let mut second = acquire(&activator, &cold);
        assert!(poll(&mut first).is_pending());
        assert!(poll(&mut second).is_pending());
        assert_eq!(gateway.pokes(), 2, "one request, two requests");
        gateway.put(&revision(1, vec![ready(1)]));
        let slot = expect_slot(&mut first);
        assert!(poll(&mut second).is_pending());
        drop(slot);
        let slot = expect_slot(&mut second);
        assert_eq!(slot.endpoint().pod.as_deref(), Some("default/p1"));
    });
}

#[test]
fn a_burst_at_busy_endpoints_pokes_once_as_many_wait_as_they_hold() {
    with_time(|| {
        let mut gateway = Gateway::new(Settings::KNATIVE);
        let backend = gateway.put(&revision(2, vec![ready(1), ready(2)]));
        let activator = gateway.activator.clone();
        let slots: Vec<_> = (0..4)
            .map(|_| expect_slot(&mut acquire(&activator, &backend)))
            .collect();
        let mut waiting: Vec<_> = (0..4).map(|_| acquire(&activator, &backend)).collect();
        for future in &mut waiting[..3] {
            assert!(poll(future).is_pending());
        }
        assert_eq!(gateway.pokes(), 0, "three wait, four places");
        assert!(poll(&mut waiting[3]).is_pending());
        assert_eq!(gateway.pokes(), 1);
        drop(slots);
    });
}

#[test]
fn a_request_does_not_overtake_those_who_wait() {
    with_time(|| {
        let mut gateway = Gateway::new(Settings::KNATIVE);
        let backend = gateway.put(&revision(1, vec![ready(1)]));
        let activator = gateway.activator.clone();
        let slot = expect_slot(&mut acquire(&activator, &backend));
        let mut waiting: VecDeque<_> = (0..3).map(|_| acquire(&activator, &backend)).collect();
        assert!(waiting.iter_mut().all(|future| poll(future).is_pending()));
        drop(slot);
        let mut late = acquire(&activator, &backend);
        assert!(poll(&mut late).is_pending());
        while let Some(mut next) = waiting.pop_front() {
            let slot = expect_slot(&mut next);
            assert!(waiting.iter_mut().all(|future| poll(future).is_pending()));
            assert!(poll(&mut late).is_pending());
            drop(slot);
        }
        let _slot = expect_slot(&mut late);
    });
}

#[test]
fn the_queue_is_bounded_and_canceled_requests_give_their_place_back() {
    with_time(|| {
        let mut gateway = Gateway::new(Settings { queue_depth: 2 });
        let cold = gateway.put(&revision(0, vec![]));
        let activator = gateway.activator.clone();
        let mut first = acquire(&activator, &cold);
        let mut second = acquire(&activator, &cold);
        assert!(poll(&mut first).is_pending());
        assert!(poll(&mut second).is_pending());
        let mut third = acquire(&activator, &cold);
        let full = AcquireError::QueueFull {
            backend: cold.id.clone(),
            waiting: 2,
        };
        assert!(matches!(poll(&mut third), Poll::Ready(Err(error)) if error == full));
        drop(first);
        let mut fourth = acquire(&activator, &cold);
        assert!(poll(&mut fourth).is_pending());
        // Ten per place, where that is more than the fixed depth.
        gateway.put(&revision(1, vec![ready(1)]));
        let _slot = expect_slot(&mut second);
        let mut more: Vec<_> = (0..9).map(|_| acquire(&activator, &cold)).collect();
        assert!(poll(&mut more[0]).is_pending());
    });
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_no_request_wakes_answers_at_once_unless_it_is_new() {
    let mut gateway = Gateway::new(Settings::KNATIVE);
    let empty = gateway.put(&plain(1, vec![draining(1)]));
    let activator = gateway.activator.clone();
    let none = AcquireError::NoEndpoint {
        backend: empty.id.clone(),
    };
    // Its endpoints may come a moment after it.
    let mut early = acquire(&activator, &empty);
    assert!(poll(&mut early).is_pending());
    let backend = gateway.put(&plain(1, vec![ready(2)]));
    let _slot = early.await.expect("an endpoint");
    tokio::time::advance(std::time::Duration::from_millis(250)).await;
    // Requests that wait for a place are told when the last endpoint goes.
    let mut waiting = acquire(&activator, &backend);
    assert!(poll(&mut waiting).is_pending());
    let empty = gateway.put(&plain(1, vec![draining(2)]));
    assert!(matches!(poll(&mut waiting), Poll::Ready(Err(error)) if error == none));
    let result = poll(&mut acquire(&activator, &empty));
    assert!(matches!(result, Poll::Ready(Err(error)) if error == none));
    assert_eq!(gateway.pokes(), 0);
}

#[test]
fn requests_that_wait_for_a_removed_backend_are_told_and_running_ones_finish() {
    with_time(|| {
        let mut gateway = Gateway::new(Settings::KNATIVE);
        let backend = gateway.put(&revision(1, vec![ready(1)]));
        let activator = gateway.activator.clone();
        let slot = expect_slot(&mut acquire(&activator, &backend));
        let mut waiting = acquire(&activator, &backend);
        assert!(poll(&mut waiting).is_pending());
        gateway.remove(&backend);
        let gone = AcquireError::Gone {
            backend: backend.id.clone(),
        };
        assert!(matches!(poll(&mut waiting), Poll::Ready(Err(error)) if error == gone));
        assert!(
            matches!(poll(&mut acquire(&activator, &backend)), Poll::Ready(Err(error)) if error == gone)
        );
        assert_eq!(gateway.pods(), ["open default/p1"]);
        drop(slot);
        assert_eq!(gateway.pods(), ["drained default/p1"]);
    });
}

#[test]
fn a_pod_is_drained_once_when_its_last_request_ends() {
    with_time(|| {
        let mut gateway = Gateway::new(Settings::KNATIVE);
        let backend = gateway.put(&revision(0, vec![ready(1)]));
        let activator = gateway.activator.clone();
        let one = expect_slot(&mut acquire(&activator, &backend));
        let two = expect_slot(&mut acquire(&activator, &backend));
        let replaced = revision(0, vec![draining(1), ready(2), draining(3)]);
        gateway.put(&replaced);
        let new = expect_slot(&mut acquire(&activator, &backend));
        assert_eq!(new.endpoint().pod.as_deref(), Some("default/p2"));
        // The third never had a request.
        let reports = [
            "open default/p1",
            "open default/p2",
            "open default/p3",
            "drained default/p3",
        ];
        assert_eq!(gateway.pods(), reports);
        drop(one);
        assert!(gateway.pods().is_empty());
        drop(two);
        assert_eq!(gateway.pods(), ["drained default/p1"]);
        gateway.put(&Backend {
            concurrency: 9,
            ..replaced
        });
        gateway.put(&revision(0, vec![ready(2)]));
        assert!(gateway.pods().is_empty());
    });
}

#[test]
fn an_endpoint_that_leaves_and_returns_keeps_its_count() {
    with_time(|| {
        let mut gateway = Gateway::new(Settings::KNATIVE);
        let backend = gateway.put(&revision(1, vec![ready(1)]));
        let activator = gateway.activator.clone();
        let slot = expect_slot(&mut acquire(&activator, &backend));
        gateway.put(&revision(1, vec![]));
        gateway.put(&revision(1, vec![ready(1)]));
        let mut second = acquire(&activator, &backend);
        assert!(poll(&mut second).is_pending());
        drop(slot);
        drop(expect_slot(&mut second));
        assert_eq!(gateway.pods(), ["open default/p1"]);
        gateway.put(&revision(1, vec![]));
        gateway.put(&revision(1, vec![ready(1)]));
        assert_eq!(gateway.pods(), ["drained default/p1", "open default/p1"]);
    });
}

#[test]
fn a_tunnel_keeps_its_place_and_holds_no_pod_up() {
    with_time(|| {
        let mut gateway = Gateway::new(Settings::KNATIVE);
        let backend = gateway.put(&revision(2, vec![ready(1)]));
        let activator = gateway.activator.clone();
        let tunnel = expect_slot(&mut acquire(&activator, &backend));
        let request = expect_slot(&mut acquire(&activator, &backend));
        tunnel.tunnel();
        assert!(poll(&mut acquire(&activator, &backend)).is_pending());
        gateway.put(&revision(2, vec![draining(1), ready(2)]));
        assert_eq!(gateway.pods(), ["open default/p1", "open default/p2"]);
        drop(request);
        assert_eq!(gateway.pods(), ["drained default/p1"]);
        drop(tunnel);
        assert!(gateway.pods().is_empty());
        let last = expect_slot(&mut acquire(
            &activator,
            &gateway.put(&revision(2, vec![ready(2)])),
        ));
        gateway.put(&revision(2, vec![draining(2)]));
        assert!(gateway.pods().is_empty());
        last.tunnel();
        assert_eq!(gateway.pods(), ["drained default/p2"]);
    });
}

#[test]
fn a_pod_behind_two_backends_is_drained_when_both_are_done() {
    with_time(|| {
        let mut gateway = Gateway::new(Settings::KNATIVE);
        let mut both = [revision(0, vec![ready(1)]), plain(0, vec![ready(1)])];
        both[1].id = BackendId("default/alias:80".into());
        let backends = gateway.put_all(&both);
        let activator = gateway.activator.clone();
        let slot = expect_slot(&mut acquire(&activator, &backends[1]));
        for backend in &mut both {
            backend.endpoints = vec![draining(1), draining(2)];
        }
        gateway.put_all(&both);
        assert_eq!(
            gateway.pods(),
            ["open default/p1", "open default/p2", "drained default/p2"]
        );
        drop(slot);
        assert_eq!(gateway.pods(), ["drained default/p1"]);
    });
}

#[test]
fn a_raised_limit_serves_those_who_wait() {
    with_time(|| {
        let mut gateway = Gateway::new(Settings::KNATIVE);
        let backend = gateway.put(&revision(1, vec![ready(1)]));
        let activator = gateway.activator.clone();
        let _one = expect_slot(&mut acquire(&activator, &backend));
        let mut second = acquire(&activator, &backend);
        assert!(poll(&mut second).is_pending());
        gateway.put(&revision(2, vec![ready(1)]));
        let _two = expect_slot(&mut second);
    });
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_cannot_be_reached_is_avoided_for_longer_each_time() {
    let mut gateway = Gateway::new(Settings::KNATIVE);
    let activator = gateway.activator.clone();
    for count in [2, 20] {
        let backend = gateway.put(&revision(0, (0..count).map(ready).collect()));
        let port = |slot: &Slot| slot.endpoint().address.port();
        let mut draw = || expect_slot(&mut acquire(&activator, &backend));
        let is_drawn = |draw: &mut dyn FnMut() -> Slot| {
            // All are idle, so that a fair draw of this many would hit it.
            (0..500).any(|_| port(&draw()) == 1000)
        };
        for pause in [100, 200, 400] {
            let slot = std::iter::repeat_with(&mut draw).find(|slot| port(slot) == 1000);
            slot.expect("drawn at some time").unreachable();
            tokio::time::advance(std::time::Duration::from_millis(pause - 1)).await;
            assert!(!is_drawn(&mut draw), "within {pause} ms, one of {count}");
            tokio::time::advance(std::time::Duration::from_millis(2)).await;
            assert!(is_drawn(&mut draw), "after {pause} ms, one of {count}");
        }
        tokio::time::advance(std::time::Duration::from_secs(30)).await;
    }
    // Where there is no other, a bad endpoint is better than none.
    let backend = gateway.put(&revision(0, vec![ready(0)]));
    expect_slot(&mut acquire(&activator, &backend)).unreachable();
    drop(expect_slot(&mut acquire(&activator, &backend)));
}

#[tokio::test(start_paused = true)]
async fn a_started_activator_follows_snapshots_and_sends_stats() {
    let (publish, snapshots) = snapshot_channel(Snapshot::default());
    let (sender, mut receiver) = reports();
    let tasks = Tasks::new();
    let activator = start(Settings::KNATIVE, snapshots, sender, &tasks);
    let mut compiler = Compiler::default();
    let cold = Arc::new(revision(0, vec![]));
    compiler.put_backend(Arc::clone(&cold));
    publish.publish(Arc::new(compiler.compile().0));
    let mut requests = tokio::task::JoinSet::new();
    requests.spawn({
        let activator = activator.clone();
        async move {
            activator
                .acquire(&cold)
                .await
                .map(|slot| slot.endpoint().address.port())
        }
    });
    assert!(matches!(receiver.recv().await, Some(Report::Poke { .. })));
    assert!(
        matches!(receiver.recv().await, Some(Report::Stat { average_concurrency, .. }) if average_concurrency < 0.1),
        "the poke has told it"
    );
    compiler.put_backend(Arc::new(revision(0, vec![ready(7)])));
    publish.publish(Arc::new(compiler.compile().0));
    assert_eq!(requests.join_all().await, [Ok(1007)]);
    assert_eq!(
        tasks.drain(std::time::Duration::from_secs(1)).await,
        lifecycle::Outcome::Clean
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_at_once_never_exceed_one_request_per_endpoint() {
    let mut gateway = Gateway::new(Settings::KNATIVE);
    let backend = gateway.put(&revision(1, (0..3).map(ready).collect()));
    let now: Arc<Vec<AtomicUsize>> = Arc::new((0..3).map(|_| AtomicUsize::new(0)).collect());
    let barrier = Arc::new(Barrier::new(64));
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..64 {
        let (activator, backend) = (gateway.activator.clone(), Arc::clone(&backend));
        let (now, barrier) = (Arc::clone(&now), Arc::clone(&barrier));
        requests.spawn(async move {
            barrier.wait().await;
            for round in 0..200 {
                if (number + round) % 7 == 0 {
                    // Give up after one poll, wherever the request is then.
                    let canceled = activator.acquire(&backend);
                    tokio::select! { biased; _ = canceled => {}, () = std::future::ready(()) => {} }
                    continue;
                }
                let slot = activator.acquire(&backend).await.expect("a slot");
                let at = usize::from(slot.endpoint().address.port() - 1000);
                assert_eq!(
                    now[at].fetch_add(1, Ordering::SeqCst),
                    0,
                    "two requests at endpoint {at}"
                );
                tokio::task::yield_now().await;
                now[at].fetch_sub(1, Ordering::SeqCst);
                drop(slot);
            }
        });
    }
    requests.join_all().await;
    gateway.put(&revision(1, vec![]));
    let drained = gateway
        .pods()
        .iter()
        .filter(|report| report.starts_with("drained"))
        .count();
    assert_eq!(drained, 3);
}

/// One thing that may happen to a revision.
#[derive(Clone, Debug)]
enum Step {
    Acquire,
    Cancel(usize),
    Finish(usize),
    Endpoints(Vec<(u16, bool)>),
    Limit(u32),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Acquire),
        1 => any::<usize>().prop_map(Step::Cancel),
        3 => any::<usize>().prop_map(Step::Finish),
        2 => prop::collection::vec((0..5u16, any::<bool>()), 0..5).prop_map(Step::Endpoints),
        1 => (0..3u32).prop_map(Step::Limit),
    ]
}

fn endpoints_of(named: &[(u16, bool)]) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for (number, is_ready) in named {
        let state = if *is_ready {
            EndpointState::Ready
        } else {
            EndpointState::Draining
        };
        let endpoint = pod(*number, state);
        if endpoints
            .iter()
            .all(|known| known.address != endpoint.address)
        {
            endpoints.push(endpoint);
        }
    }
    endpoints
}

proptest! {
    #[test]
    fn any_order_of_requests_cancels_and_endpoints_keeps_the_counts_exact(
        steps in prop::collection::vec(any_step(), 1..120)
    ) {
        with_time(|| check_steps(&steps))?;
    }
}

fn check_steps(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut gateway = Gateway::new(Settings::KNATIVE);
    let mut current = revision(1, vec![]);
    let backend = gateway.put(&current);
    let activator = gateway.activator.clone();
    let mut waiting: VecDeque<Acquire<'_>> = VecDeque::new();
    let mut running: Vec<Slot> = Vec::new();
    let mut open = std::collections::BTreeSet::new();
    for step in steps {
        match step {
            Step::Acquire => waiting.push_back(acquire(&activator, &backend)),
            Step::Cancel(at) if !waiting.is_empty() => drop(waiting.remove(at % waiting.len())),
            Step::Finish(at) if !running.is_empty() => {
                drop(running.swap_remove(at % running.len()))
            }
            Step::Cancel(_) | Step::Finish(_) => {}
            Step::Endpoints(named) => {
                current.endpoints = endpoints_of(named);
                gateway.put(&current);
            }
            Step::Limit(limit) => {
                current.concurrency = *limit;
                gateway.put(&current);
            }
        }
        let mut still = VecDeque::new();
        for mut future in waiting {
            match poll(&mut future) {
                Poll::Ready(slot) => {
                    prop_assert!(still.is_empty(), "a later request overtook one that waits");
                    running.push(slot.expect("nothing removes the backend"));
                }
                Poll::Pending => still.push_back(future),
            }
        }
        waiting = still;
        check_counts(&current, &running, waiting.len(), step)?;
        for report in gateway.pods() {
            let (what, pod) = report.split_once(' ').expect("two words");
            let is_news = if what == "open" {
                open.insert(pod.to_owned())
            } else {
                open.remove(pod)
            };
            prop_assert!(is_news, "{report} was known");
        }
        let busy = running
            .iter()
            .filter_map(|slot| slot.endpoint().pod.clone());
        let ready = current
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.state == EndpointState::Ready);
        let mut expected: Vec<_> = busy
            .chain(ready.filter_map(|endpoint| endpoint.pod.clone()))
            .collect();
        expected.sort();
        expected.dedup();
        prop_assert_eq!(
            open.iter().cloned().collect::<Vec<_>>(),
            expected.iter().map(ToString::to_string).collect::<Vec<_>>()
        );
    }
    Ok(())
}

fn check_counts(
    current: &Backend,
    running: &[Slot],
    waiting: usize,
    step: &Step,
) -> Result<(), TestCaseError> {
    let limit = if current.concurrency == 0 {
        usize::MAX
    } else {
        current.concurrency as usize
    };
    for endpoint in current
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.state == EndpointState::Ready)
    {
        let count = running
            .iter()
            .filter(|slot| slot.endpoint().address == endpoint.address)
            .count();
        prop_assert!(
            waiting == 0 || count >= limit,
            "{waiting} wait beside a free place after {step:?}"
        );
    }
    Ok(())
}

/// Runs `test` where tokio's clock works.
fn with_time<T>(test: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _guard = runtime.enter();
    test()
}
