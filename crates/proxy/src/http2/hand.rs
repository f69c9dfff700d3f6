//! Tasks that serve one stream after another.
//!
//! The future of a request is large, and a task that is made for it is moved several times. So a
//! task that has served a stream waits for another one, whichever connection that is from.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::core::SharedCore;
use super::downstream::Http2Downstream;
use super::stream::Place;
use crate::connection::Client;
use crate::request;
use crate::spare::Spare;
use crate::timeout::Timer;
use crate::worker::{Worker, Workspace};

/// Idle tasks that a thread keeps, some 4 MiB, until it has not needed them for a while.
const KEEP: usize = 1024;

/// One stream to serve.
pub(super) struct Job {
    pub(super) client: Rc<Client>,
    pub(super) core: SharedCore,
    pub(super) id: u32,
    pub(super) workspace: Box<Workspace>,
}

/// The idle tasks of one thread.
pub(crate) struct Hands(Spare<Rc<Hand>>);

impl Default for Hands {
    fn default() -> Self {
        Self(Spare::new(KEEP))
    }
}

impl Hands {
    /// Ends the tasks that were not needed since the last call.
    pub(crate) fn shed(&self) {
        for hand in self.0.shed() {
            hand.is_over.set(true);
            hand.wake();
        }
    }
}

/// How a job reaches a task.
#[derive(Default)]
struct Hand {
    job: RefCell<Option<Job>>,
    /// No other job will come.
    is_over: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

/// Has a stream served by a task that is idle, or by a new one.
pub(super) fn start(worker: &Rc<Worker>, job: Job) {
    let idle = worker.hands.0.take();
    match idle {
        Some(hand) => hand.give(job),
        None => {
            tokio::task::spawn_local(serve(Rc::clone(worker), job));
        }
    }
}

async fn serve(worker: Rc<Worker>, first: Job) {
    let hand = Rc::new(Hand::default());
    let (mut job, mut timer) = (first, Timer::default());
    loop {
        one(&worker, job, &mut timer).await;
        if !worker.hands.0.has_room() {
            return;
        }
        worker.hands.0.put(Rc::clone(&hand));
        match poll_fn(|cx| hand.poll_job(cx)).await {
            Some(next) => job = next,
            None => return,
        }
    }
}

/// One request.
fn one(worker: &Rc<Worker>, job: Job, timer: &mut Timer) -> impl Future<Output = ()> {
    async move {
        let Job {
            client,
            core,
            id,
            mut workspace,
        } = job;
        let Workspace {
            request,
            bytes,
            known,
            downstream_out,
            scratch,
        } = &mut *workspace;
        let (request, bytes) = match known {
            Some(asked) => (&asked.head, &asked.bytes),
            None => (&*request, &*bytes),
        };
        let place = Place { core, id };
        let mut downstream = Http2Downstream::new(worker, &place, (request, bytes), downstream_out);
        #[cfg(feature = "http3")]
        {
            downstream.responder.alternative = crate::http3::alternative::of(&client);
        }
        request::handle(worker, &client, (scratch, timer), &mut downstream).await;
        drop(downstream);
        worker.recycle(workspace);
    }
}

impl Hand {
    fn give(&self, job: Job) {
        *self.job.borrow_mut() = Some(job);
        self.wake();
    }

    fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// The next job; `None` if there will be none.
    fn poll_job(&self, cx: &Context<'_>) -> Poll<Option<Job>> {
        let job = self.job.borrow_mut().take();
        if job.is_some() || self.is_over.get() {
            return Poll::Ready(job);
        }
        // Tasks do not change their wakers.
        self.task
            .borrow_mut()
            .get_or_insert_with(|| cx.waker().clone());
        Poll::Pending
    }
}
