//! One container: image, start, supervision, restart.

use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::attach::{self, Door, Tap};
use super::context::{Attached, Context, Prepared, Run, now};
use super::health::{self, Unhealthy};
use super::record::{Role, Terminated};
use super::{status, stop};
use crate::backoff::Backoff;
use crate::environment::{self, Sources};
use crate::log::{self, Writer};
use crate::runtime::{Failure, Sandbox};
use crate::spawner::Exit;
use crate::stdio::{self, BoxRead, BoxWrite, Streams, Wanted};
use crate::{event, pull, volume};

/// A container that ran this long starts its restart pauses over, as with the kubelet.
const LONG_RUN: Duration = Duration::from_secs(600);
/// Kubernetes' bounds of a termination message that is taken from the log.
const MESSAGE_LINES: usize = 80;
const MESSAGE_BYTES: usize = 2048;
/// Longest termination message read from its file.
const MESSAGE_FILE_BYTES: usize = 4096;

/// Why a container is over for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It ended with exit code 0 and is not started again.
    Succeeded,
    /// It ended otherwise and is not started again.
    Failed,
    /// The pod has to end.
    Stopped,
}

/// Runs a container, and again by the pod's restart policy. An init container is over once it
/// has succeeded.
pub(super) async fn run(context: &Context, index: usize, sandbox: &Sandbox) -> End {
    let mut backoff = Backoff::of_restarts();
    let role = context.role(index);
    let policy = match role {
        Role::Sidecar => Some("Always"),
        Role::Ephemeral => Some("Never"),
        Role::Init | Role::Main => context.restart_policy(),
    };
    loop {
        let started = Instant::now();
        let Some(end) = run_once(context, index, sandbox).await else {
            return End::Stopped;
        };
        let exit_code = end.exit_code;
        context.record(index, |record| record.end(end));
        if context.is_stopping() {
            return End::Stopped;
        }
        if role == Role::Init && exit_code == 0 {
            return End::Succeeded;
        }
        if !status::restarts(policy, exit_code) {
            return if exit_code == 0 {
                End::Succeeded
            } else {
                End::Failed
            };
        }
        if started.elapsed() > LONG_RUN {
            backoff.reset_restarts();
        }
        let pause = backoff.pause();
        if !pause.is_zero() && !wait_for_restart(context, index, pause).await {
            return End::Stopped;
        }
        context.record(index, |record| record.restarts += 1);
    }
}

async fn wait_for_restart(context: &Context, index: usize, pause: Duration) -> bool {
    let name = &context.container(index).name;
    let seconds = pause.as_secs();
    let message = format!(
        "back-off {seconds}s restarting failed container={name} pod={}",
        context.pod.name_any()
    );
    context.record(index, |record| record.wait("CrashLoopBackOff", &message));
    event::warn(context, "BackOff", &message).await;
    context.pause(pause).await
}

/// One run, from image to exit. `None` if the pod has to end before anything was started.
async fn run_once(context: &Context, index: usize, sandbox: &Sandbox) -> Option<Terminated> {
    // Boxed: what only the start needs should not stay in the task while the container runs.
    let prepared = Box::pin(prepare(context, index, sandbox)).await?;
    let run = context.observed.borrow().containers[index].restarts;
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    loop {
        if context.is_stopping() {
            return None;
        }
        match Box::pin(launch(context, index, sandbox, &prepared, run)).await {
            Ok((process, streams, writer)) => {
                let (attached, ends) = attachable(context, index, streams);
                let run = Arc::new(Run {
                    index,
                    process,
                    prepared,
                    attached,
                });
                return Some(supervise(context, run, ends, writer).await);
            }
            Err(failure) if failure.is_start() => return Some(not_started(failure)),
            Err(failure) => {
                if !wait_after(context, index, &failure, backoff.pause()).await {
                    return None;
                }
            }
        }
    }
}

async fn wait_after(context: &Context, index: usize, failure: &Failure, pause: Duration) -> bool {
    context.record(index, |record| {
        record.wait(failure.reason, &failure.message)
    });
    event::warn(context, failure.reason, &failure.message).await;
    context.pause(pause).await
}

/// A program that cannot be executed counts as a run, so that its failures back off.
fn not_started(failure: Failure) -> Terminated {
    Terminated {
        exit_code: 128,
        signal: None,
        reason: failure.reason.to_owned(),
        message: failure.message,
        started_at: None,
        finished_at: now(),
        container_id: None,
    }
}

/// Image, environment and mounts. Retried until they are there.
async fn prepare(context: &Context, index: usize, sandbox: &Sandbox) -> Option<Prepared> {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    loop {
        let image = image(context, index).await?;
        match resolve(context, index, sandbox, image).await {
            Ok(prepared) => return Some(prepared),
            Err(failure) if !wait_after(context, index, &failure, backoff.pause()).await => {
                return None;
            }
            Err(_) => {}
        }
    }
}

async fn resolve(
    context: &Context,
    index: usize,
    sandbox: &Sandbox,
    image: images::Image,
) -> Result<Prepared, Failure> {
    let container = context.container(index);
    let settings = &context.node.settings;
    let sources = Sources {
        pod: &context.pod,
        container,
        image_env: &image.config.env,
        sandbox,
        node_name: &settings.name,
        host_ip: settings.address,
        objects: &context.objects,
        api: settings.api,
    };
    let env = environment::resolve(&sources).await?;
    if context.role(index) == Role::Ephemeral {
        // A volume that no other container mounts is not there yet.
        let facts = context.facts(sandbox);
        volume::create_for(&facts, &context.objects, &[container], &sandbox.directory).await?;
    }
    let messages = sandbox.directory.join("messages");
    fs::create_dir_all(&messages).map_err(|error| {
        Failure::create(format!("cannot create {}: {error}", messages.display()))
    })?;
    Ok(Prepared {
        command: environment::expand_all(container.command.as_ref(), &env),
        args: environment::expand_all(container.args.as_ref(), &env),
        mounts: volume::mounts(&context.pod, container, &sandbox.directory, &env)?,
        termination_message: messages.join(&container.name),
        image,
        env,
    })
}

/// Waits for the image: a pull that failed is tried again with growing pauses, and at once when
/// the image appears in the store. `None` if the pod has to end before.
async fn image(context: &Context, index: usize) -> Option<images::Image> {
    let container = context.container(index);
    let mut backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));
    loop {
        let pulled = tokio::select! {
            pulled = pull::image(&context.node.images, &context.objects, &context.pod, container) => pulled,
            () = context.stopped() => return None,
        };
        let failure = match pulled {
            Ok(image) => {
                context.record(index, |record| {
                    record.image_id = image_id(container.image.as_deref(), &image)
                });
                return Some(image);
            }
            Err(failure) => failure,
        };
        if !wait_after(context, index, &failure, Duration::ZERO).await {
            return None;
        }
        let until = Instant::now() + backoff.pause();
        while Instant::now() < until && !is_stored(context, container.image.as_deref()) {
            if !context.pause(Duration::from_secs(1)).await {
                return None;
            }
            if failure.reason == "ErrImagePull" {
                let name = container.image.as_deref().unwrap_or_default();
                let message = format!("Back-off pulling image {name:?}: {}", failure.message);
                context.record(index, |record| record.wait("ImagePullBackOff", message));
            }
        }
    }
}

fn is_stored(context: &Context, image: Option<&str>) -> bool {
    image.is_some_and(|image| {
        context
            .node
            .images
            .resolve(image)
            .is_ok_and(|found| found.is_some())
    })
}

fn image_id(name: Option<&str>, image: &images::Image) -> String {
    match name.and_then(|name| images::Reference::parse(name).ok()) {
        Some(reference) => format!("{}@{}", reference.repository(), image.digest),
        None => image.digest.to_string(),
    }
}

type Launched = (crate::spawner::Process, Streams, Writer);

async fn launch(
    context: &Context,
    index: usize,
    sandbox: &Sandbox,
    prepared: &Prepared,
    run: i32,
) -> Result<Launched, Failure> {
    let failed =
        |what: &str, error: std::io::Error| Failure::create(format!("cannot {what}: {error}"));
    let runtime = context.runtime.as_ref().map_err(Clone::clone)?;
    fs::write(&prepared.termination_message, "")
        .map_err(|error| failed("make the termination message's file", error))?;
    let name = &context.container(index).name;
    let writer = context
        .node
        .logs
        .writer(&context.log_dir, name, run)
        .map_err(|error| failed("write the log", error))?;
    let container = context.container(index);
    let wanted = Wanted {
        stdin: container.stdin == Some(true),
        stdout: true,
        stderr: true,
        terminal: container.tty == Some(true),
    };
    let (ours, theirs) =
        stdio::prepare(wanted).map_err(|error| failed("make the standard streams", error))?;
    let target = context.target(index)?;
    let mut start = context.start(index, prepared, sandbox);
    start.target = target.as_ref().map(|run| &run.process);
    let process = runtime.start(&start, theirs).await?;
    let guard = process.kill_on_drop();
    let streams = ours
        .started()
        .map_err(|error| failed("use the standard streams", error))?;
    guard.disarm();
    Ok((process, streams, writer))
}

/// What a run reads and writes itself.
struct Ends {
    stdout: Option<BoxRead>,
    stderr: Option<BoxRead>,
    input: Option<(BoxWrite, mpsc::Receiver<DuplexStream>)>,
    once: bool,
}

fn attachable(context: &Context, index: usize, mut streams: Streams) -> (Attached, Ends) {
    let container = context.container(index);
    let (stdout, stderr) = (streams.stdout.take(), streams.stderr.take());
    // A terminal can always be written to; whether anybody may is the container's choice.
    let stdin = streams.stdin.take();
    let stdin = stdin.filter(|_| container.stdin == Some(true));
    let (door, input) = stdin
        .map(|stdin| {
            let (door, clients) = Door::new();
            (door, (stdin, clients))
        })
        .unzip();
    let attached = Attached {
        tap: Tap::new(),
        door,
        resize: streams.resize(),
    };
    let ends = Ends {
        stdout,
        stderr,
        input,
        once: container.stdin_once == Some(true),
    };
    (attached, ends)
}

/// Watches a program until it has ended: its output, its probes, its exit.
async fn supervise(context: &Context, run: Arc<Run>, ends: Ends, mut writer: Writer) -> Terminated {
    let index = run.index;
    let started_at = now();
    let container_id = format!(
        "{}://{}",
        runtime_name(context),
        container_id(context, &run)
    );
    context.set_running(index, Some(Arc::clone(&run)));
    context.record(index, |record| {
        record.run(started_at.clone(), container_id.clone())
    });
    let unhealthy = OnceLock::new();
    let exit = {
        let tap = &run.attached.tap;
        let mut pump = std::pin::pin!(writer.pump(ends.stdout, ends.stderr, tap));
        let mut feed = std::pin::pin!(feed(ends.input, ends.once));
        let mut health = std::pin::pin!(watch_health(context, &run, &unhealthy));
        let mut pumping = true;
        let exit = loop {
            tokio::select! {
                exit = run.process.exited() => break exit,
                result = &mut pump, if pumping => {
                    pumping = false;
                    if let Err(error) = result {
                        tracing::warn!(pod = context.pod.name_any(), %error, "cannot read a container's output");
                    }
                }
                never = &mut health => match never {},
                never = &mut feed => match never {},
            }
        };
        if pumping {
            tap.finish(pump).await;
        }
        exit
    };
    drop(writer);
    run.attached.tap.close();
    if let (Ok(runtime), Some(sandbox)) = (&context.runtime, context.sandbox.get()) {
        let name = &context.container(index).name;
        runtime.ended(sandbox, name).await;
    }
    context.set_running(index, None);
    terminated(
        context,
        &run,
        exit,
        unhealthy.into_inner(),
        (started_at, container_id),
    )
}

async fn feed(
    input: Option<(BoxWrite, mpsc::Receiver<DuplexStream>)>,
    once: bool,
) -> std::convert::Infallible {
    match input {
        Some((stdin, clients)) => attach::feed(stdin, clients, once).await,
        None => std::future::pending().await,
    }
}

fn runtime_name(context: &Context) -> &'static str {
    context
        .runtime
        .as_ref()
        .map_or("unknown", |runtime| runtime.name())
}

/// Unique per run: the pod, the container and the process.
fn container_id(context: &Context, run: &Run) -> String {
    let uid = context.pod.metadata.uid.as_deref().unwrap_or_default();
    format!(
        "{uid}-{}-{}",
        context.container(run.index).name,
        run.process.pid()
    )
}

/// Probes the container; if it is unhealthy, notes why and ends it. The caller sees the exit.
async fn watch_health(
    context: &Context,
    run: &Run,
    noted: &OnceLock<Unhealthy>,
) -> std::convert::Infallible {
    if context.is_stopping() {
        // The order to stop came between the start and our noting of it.
        stop::container(context, run, Instant::now() + stop::grace(&context.pod)).await;
    } else {
        let unhealthy = health::watch(context, run).await;
        let grace = unhealthy.grace.unwrap_or_else(|| stop::grace(&context.pod));
        event::warn(context, "Killing", &unhealthy.message).await;
        // Only this future sets it.
        let _ = noted.set(unhealthy);
        stop::container(context, run, Instant::now() + grace).await;
    }
    std::future::pending().await
}

fn terminated(
    context: &Context,
    run: &Run,
    exit: Exit,
    unhealthy: Option<Unhealthy>,
    (started_at, container_id): (Time, String),
) -> Terminated {
    let mut message = termination_message(context, run, exit);
    if let Some(unhealthy) = unhealthy.filter(|_| message.is_empty()) {
        message = unhealthy.message;
    }
    Terminated {
        exit_code: exit.code,
        signal: exit.signal,
        reason: reason(context, run, exit).to_owned(),
        message,
        started_at: Some(started_at),
        finished_at: now(),
        container_id: Some(container_id),
    }
}

/// One word for how a run ended, the kubelet's.
fn reason(context: &Context, run: &Run, exit: Exit) -> &'static str {
    if exit.code == 0 {
        return "Completed";
    }
    let container = &context.container(run.index).name;
    let runtime = context.runtime.as_ref().ok().zip(context.sandbox.get());
    runtime
        .and_then(|(runtime, sandbox)| runtime.cause(sandbox, container))
        .unwrap_or("Error")
}

/// The file that the container wrote; for failures the end of its log, if the policy says so.
fn termination_message(context: &Context, run: &Run, exit: Exit) -> String {
    let mut content = fs::read(&run.prepared.termination_message).unwrap_or_default();
    content.truncate(MESSAGE_FILE_BYTES);
    let container = context.container(run.index);
    let from_log = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if content.is_empty() && from_log && exit.code != 0 {
        let restarts = context.observed.borrow().containers[run.index].restarts;
        let file = log::file(&context.log_dir, &container.name, restarts);
        return log::last_lines(&file, MESSAGE_LINES, MESSAGE_BYTES);
    }
    String::from_utf8_lossy(&content).into_owned()
}
