//! Tasks that serve one stream after another.
//!
//! The future of a request is large, and a task that is made for it is moved several times. So a
//! task that has served a stream waits for another one, whichever connection that is from.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::core::SharedCore;
use super::downstream::Http2Downstream;
use crate::connection::Client;
use crate::request;
use crate::worker::{Worker, Workspace};

/// Idle tasks that a thread keeps: less than 1 MiB.
const KEEP: usize = 256;

/// One stream to serve.
pub(super) struct Job {
    pub(super) client: Rc<Client>,
    pub(super) core: SharedCore,
    pub(super) id: u32,
    pub(super) workspace: Box<Workspace>,
}

/// The idle tasks of one thread.
#[derive(Default)]
pub(crate) struct Hands(RefCell<Vec<Rc<Hand>>>);

/// How a job reaches a task.
#[derive(Default)]
struct Hand {
    job: RefCell<Option<Job>>,
    task: RefCell<Option<Waker>>,
}

/// Has a stream served by a task that is idle, or by a new one.
pub(super) fn start(worker: &Rc<Worker>, job: Job) {
    let idle = worker.hands.0.borrow_mut().pop();
    match idle {
        Some(hand) => hand.give(job),
        None => {
            tokio::task::spawn_local(serve(Rc::clone(worker), job));
        }
    }
}

async fn serve(worker: Rc<Worker>, first: Job) {
    let hand = Rc::new(Hand::default());
    let mut job = first;
    loop {
        one(&worker, job).await;
        if worker.hands.0.borrow().len() >= KEEP {
            return;
        }
        worker.hands.0.borrow_mut().push(Rc::clone(&hand));
        job = poll_fn(|cx| hand.poll_job(cx)).await;
    }
}

/// One request.
async fn one(worker: &Rc<Worker>, job: Job) {
    let Job {
        client,
        core,
        id,
        mut workspace,
    } = job;
    let Workspace {
        request,
        bytes,
        downstream_out,
        scratch,
        timer,
    } = &mut *workspace;
    let place = (core, id);
    let mut downstream = Http2Downstream::new(worker, place, (request, bytes), downstream_out);
    request::handle(worker, &client, (scratch, timer), &mut downstream).await;
    drop(downstream);
    worker.recycle(workspace);
}

impl Hand {
    fn give(&self, job: Job) {
        *self.job.borrow_mut() = Some(job);
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    fn poll_job(&self, cx: &Context<'_>) -> Poll<Job> {
        if let Some(job) = self.job.borrow_mut().take() {
            return Poll::Ready(job);
        }
        // Tasks do not change their wakers.
        self.task
            .borrow_mut()
            .get_or_insert_with(|| cx.waker().clone());
        Poll::Pending
    }
}
