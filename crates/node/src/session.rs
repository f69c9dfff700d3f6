//! Commands that users run in containers, streams that they attach to, ports that they connect to.
//!
//! A session never keeps its pod: it finds it through a weak reference, and a command that outlives
//! its container's program is killed. Dropping a session's `ended` kills the command.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::TcpStream;

use crate::pod::attach::{Door, Output};
use crate::pod::{Context, Run};
use crate::spawner::Process;
use crate::stdio::{self, BoxRead, BoxWrite, Resize, Wanted};

/// The streams of a command or of a container's own program.
pub struct Session {
    /// Its input. Dropping it ends the input.
    pub stdin: Option<BoxWrite>,
    pub stdout: Option<BoxRead>,
    pub stderr: Option<BoxRead>,
    /// Tells its terminal the size, if it has one.
    pub resize: Option<Resize>,
    /// The exit code of a command. For a container's own program 0, once it has ended.
    pub ended: BoxFuture<'static, i32>,
}

/// The pods that run, by uid. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Sessions {
    pods: Arc<Mutex<HashMap<String, Weak<Context>>>>,
}

impl Sessions {
    pub(crate) fn add(&self, uid: &str, pod: &Arc<Context>) {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.retain(|_, pod| pod.strong_count() > 0);
        pods.insert(uid.to_owned(), Arc::downgrade(pod));
    }

    pub(crate) fn pod(&self, uid: &str) -> Option<Arc<Context>> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.get(uid)?.upgrade()
    }

    /// Every pod that runs.
    pub(crate) fn all(&self) -> Vec<Arc<Context>> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.values().filter_map(Weak::upgrade).collect()
    }

    fn run(&self, uid: &str, container: &str) -> Result<(Arc<Context>, Arc<Run>), String> {
        let pod = self.pod(uid).ok_or("pod does not exist")?;
        let run = pod.running(container);
        let run = run.ok_or_else(|| format!("container not found ({container:?})"))?;
        Ok((pod, run))
    }

    /// Runs a command in a container.
    pub(crate) async fn exec(
        &self,
        (pod, container): (&str, &str),
        command: &[String],
        wanted: Wanted,
    ) -> Result<Session, String> {
        let (context, run) = self.run(pod, container)?;
        let runtime = context.runtime.as_ref().map_err(ToString::to_string)?;
        let sandbox = context.sandbox.get().ok_or("the pod has no sandbox")?;
        let (ours, theirs) = stdio::prepare(wanted).map_err(|error| error.to_string())?;
        let start = context.start(run.index, &run.prepared, sandbox);
        let process = runtime
            .exec(&start, &run.process, command, theirs)
            .await
            .map_err(|failure| failure.message)?;
        let guard = Guard(process.clone());
        let mut streams = ours.started().map_err(|error| error.to_string())?;
        let resize = streams.resize();
        let ended = async move {
            let _guard = guard;
            tokio::select! {
                exit = process.exited() => return exit.code,
                _ = run.process.exited() => {}
            }
            process.kill().await;
            process.exited().await.code
        };
        Ok(Session {
            stdin: streams.stdin.take().filter(|_| wanted.stdin),
            stdout: streams.stdout.take(),
            stderr: streams.stderr.take(),
            resize,
            ended: ended.boxed(),
        })
    }

    /// Attaches to a container's own program.
    pub(crate) fn attach(
        &self,
        (pod, container): (&str, &str),
        wanted: Wanted,
    ) -> Result<Session, String> {
        let (_, run) = self.run(pod, container)?;
        let attached = &run.attached;
        let output = |wanted: bool, which| wanted.then(|| attached.tap.attach(which));
        let door = attached.door.as_ref().filter(|_| wanted.stdin);
        Ok(Session {
            stdin: door.map(Door::attach).transpose()?,
            stdout: output(wanted.stdout, Output::Stdout),
            stderr: output(wanted.stderr, Output::Stderr),
            resize: attached.resize.clone(),
            ended: async move {
                run.process.exited().await;
                0
            }
            .boxed(),
        })
    }

    /// Connects to a port of a pod.
    pub(crate) async fn dial(&self, pod: &str, port: u16) -> Result<TcpStream, String> {
        let gone = "the pod is not running";
        let (runtime, sandbox) = {
            let context = self.pod(pod).ok_or(gone)?;
            let runtime = context.runtime.clone().map_err(|failure| failure.message)?;
            (runtime, context.sandbox.get().cloned().ok_or(gone)?)
        };
        runtime.dial(&sandbox, port).await
    }
}

/// Kills a command that nobody waits for any more.
struct Guard(Process);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.kill_now();
    }
}
