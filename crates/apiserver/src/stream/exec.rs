//! `exec` and `attach`: Kubernetes' remote command protocols over WebSocket and SPDY.
//!
//! Versions: without a number and 1 to 3 tell a failure as a sentence, 4 and 5 tell the end as a
//! Status with the exit code; 5 lets a WebSocket client end its input alone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::channel::{self, Channel, Client, Form, Received};
use super::session::Activity;
use super::upgrade::{self, Offer};
use super::{
    BoxRead, BoxWrite, Containers, Duplex, Limits, Order, Streams, Wanted, pump, spdy, websocket,
};
use crate::connect::{Body, ConnectRequest};
use crate::status::Status;

/// How long a client may take to close after we did.
const LINGER: Duration = Duration::from_secs(5);
/// How long a WebSocket client is given to register its streams. kubectl 1.30 to 1.33 reads before
/// it has (kubernetes/kubernetes#131203) and throws away what comes sooner: a fast command's output
/// would be lost.
const HEAD_START: Duration = Duration::from_millis(20);
/// More streams than a command can have.
const MOST_STREAMS: usize = 8;

const fn form(base64: bool, close_signal: bool, status: bool) -> Form {
    Form {
        base64,
        close_signal,
        status,
    }
}

/// WebSocket's protocols.
const CHANNELS: &[(&str, Form)] = &[
    ("v5.channel.k8s.io", form(false, true, true)),
    ("v4.channel.k8s.io", form(false, false, true)),
    ("v4.base64.channel.k8s.io", form(true, false, true)),
    ("channel.k8s.io", form(false, false, false)),
    ("base64.channel.k8s.io", form(true, false, false)),
];

/// A protocol over SPDY.
#[derive(Clone, Copy, Debug)]
struct Version {
    status: bool,
    /// A terminal has a stream for its size.
    resize: bool,
}

const fn version(resize: bool, status: bool) -> Version {
    Version { status, resize }
}

const VERSIONS: &[(&str, Version)] = &[
    ("v5.channel.k8s.io", version(true, true)),
    ("v4.channel.k8s.io", version(true, true)),
    ("v3.channel.k8s.io", version(true, false)),
    ("v2.channel.k8s.io", version(false, false)),
    ("channel.k8s.io", version(false, false)),
];

/// One command for one client.
struct Job {
    containers: Arc<dyn Containers>,
    order: Order,
    pod: String,
    limits: Limits,
}

/// Answers a request for `exec` or `attach`.
pub(super) fn answer(
    streams: &Streams,
    mut request: ConnectRequest,
    attach: bool,
) -> Result<Response<Body>, Status> {
    let asked = request
        .parameter("container")
        .filter(|name| !name.is_empty());
    let wanted = wanted(&request)?;
    let command = match attach {
        true => None,
        false => Some(command(&request)?),
    };
    let uid = request.object["metadata"]["uid"].as_str();
    let job = Job {
        order: Order {
            container: streams.containers.choose(&request.object, asked)?,
            command,
            wanted,
            pod: uid.unwrap_or_default().to_owned(),
        },
        pod: request.name.clone(),
        containers: Arc::clone(&streams.containers),
        limits: streams.limits,
    };
    let offer = upgrade::offer(&request.headers)?;
    let upgraded = request.upgrade()?;
    let patience = job.limits.patience;
    match offer {
        Offer::WebSocket(offered) => {
            let unnamed = form(false, false, false);
            let (protocol, form) = upgrade::choose(&offered, CHANNELS, Some(unnamed))?;
            let response = upgrade::to_websocket(&request.headers, protocol)?;
            streams.sessions.run(async move {
                if let Ok(Ok(io)) = tokio::time::timeout(patience, upgraded).await {
                    over_websocket(io, form, job).await;
                }
            })?;
            Ok(response)
        }
        Offer::Spdy(offered) => {
            let unnamed = version(false, false);
            let (protocol, version) = upgrade::choose(&offered, VERSIONS, Some(unnamed))?;
            let response = upgrade::to_spdy(protocol)?;
            streams.sessions.run(async move {
                if let Ok(Ok(io)) = tokio::time::timeout(patience, upgraded).await {
                    over_spdy(io, version, job).await;
                }
            })?;
            Ok(response)
        }
    }
}

fn command(request: &ConnectRequest) -> Result<Vec<String>, Status> {
    let words = request.query.iter().filter(|(key, _)| key == "command");
    let command: Vec<_> = words.map(|(_, word)| word.clone()).collect();
    if command.is_empty() {
        return Err(Status::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    Ok(command)
}

fn wanted(request: &ConnectRequest) -> Result<Wanted, Status> {
    let flag = |name: &str| request.flag(name);
    let terminal = flag("tty");
    let wanted = Wanted {
        stdin: flag("stdin"),
        stdout: flag("stdout"),
        // A terminal has one output.
        stderr: flag("stderr") && !terminal,
        terminal,
    };
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err(Status::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    Ok(wanted)
}

async fn over_websocket(io: impl Duplex + 'static, form: Form, job: Job) {
    let (read, write) = tokio::io::split(io);
    let client = Client::WebSocket {
        writer: Mutex::new(websocket::Writer::new(Box::new(write) as BoxWrite)),
        base64: form.base64,
    };
    let wanted = job.order.wanted;
    tokio::time::sleep(HEAD_START).await;
    // An empty message tells the client that the connection works.
    let first = match (wanted.stdout, wanted.stderr) {
        (true, _) => Channel::Stdout,
        (false, true) => Channel::Stderr,
        (false, false) => Channel::Error,
    };
    if client.send(first, &[]).await.is_err() {
        return;
    }
    let (inputs, received) = channel::inputs();
    let activity = Activity::new();
    let reader = websocket::Reader::new(Box::new(read) as BoxRead);
    let reading = channel::read_websocket(reader, inputs, &client, form, &activity);
    serve(&job, &client, received, form.status, (reading, &activity)).await;
}

async fn over_spdy(io: impl Duplex + 'static, version: Version, job: Job) {
    let (read, write) = tokio::io::split(io);
    let mut reader = spdy::Reader::new(Box::new(read) as BoxRead, MOST_STREAMS);
    let writer = Mutex::new(spdy::Writer::new(Box::new(write) as BoxWrite));
    let (mut inputs, received) = channel::inputs();
    let expected = expected(job.order.wanted, version);
    let opening = open(&mut reader, &writer, &expected, &mut inputs);
    let Ok(Ok(ids)) = tokio::time::timeout(job.limits.patience, opening).await else {
        tracing::debug!(pod = job.pod, "a client did not open its streams");
        let _ = writer.lock().await.close().await; // It may be gone.
        return;
    };
    let client = Client::Spdy { writer, ids };
    let activity = Activity::new();
    let reading = channel::read_spdy(reader, inputs, &client, &activity);
    serve(
        &job,
        &client,
        received,
        version.status,
        (reading, &activity),
    )
    .await;
}

fn expected(wanted: Wanted, version: Version) -> Vec<Channel> {
    let all = [
        (true, Channel::Error),
        (wanted.stdin, Channel::Stdin),
        (wanted.stdout, Channel::Stdout),
        (wanted.stderr, Channel::Stderr),
        (wanted.terminal && version.resize, Channel::Resize),
    ];
    all.into_iter()
        .filter_map(|(wanted, channel)| wanted.then_some(channel))
        .collect()
}

/// Waits until the client has opened every stream.
async fn open(
    reader: &mut spdy::Reader<BoxRead>,
    writer: &Mutex<spdy::Writer<BoxWrite>>,
    expected: &[Channel],
    inputs: &mut channel::Inputs,
) -> io::Result<[u32; 5]> {
    let mut ids = [0; 5];
    while expected.iter().any(|channel| ids[*channel as usize] == 0) {
        match reader.next(writer).await? {
            Some(spdy::Event::Open { id, headers, ended }) => {
                let kind = headers.iter().find(|(name, _)| name == "streamtype");
                let channel = kind.and_then(|(_, kind)| Channel::named(kind));
                match channel.filter(|channel| expected.contains(channel)) {
                    Some(channel) => {
                        ids[channel as usize] = id;
                        if ended && channel == Channel::Stdin {
                            inputs.end_stdin();
                        }
                    }
                    None => writer.lock().await.refuse(id).await?,
                }
            }
            Some(spdy::Event::Data { id, bytes, ended }) if id == ids[0] => {
                inputs.stdin(bytes).await;
                if ended {
                    inputs.end_stdin();
                }
            }
            Some(spdy::Event::Data { id, bytes, .. }) if id == ids[4] => inputs.resize(&bytes),
            Some(spdy::Event::Data { .. } | spdy::Event::Reset { .. }) => {}
            Some(spdy::Event::GoAway) | None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    Ok(ids)
}

/// Runs the command until it has ended or the client has left, whichever comes first.
async fn serve(
    job: &Job,
    client: &Client,
    received: Received,
    status: bool,
    (reading, activity): (impl Future<Output = ()>, &Activity),
) {
    let work = async {
        let result = match job.containers.run(job.order.clone()).await {
            Ok(running) => pump::run(running, received, client, activity).await?,
            Err(problem) => Err(problem),
        };
        report(client, &result, status).await?;
        client.close().await
    };
    let alive = async {
        loop {
            tokio::time::sleep(job.limits.ping).await;
            if client.ping().await.is_err() {
                return;
            }
        }
    };
    let mut reading = std::pin::pin!(reading);
    let pod = &job.pod;
    tokio::select! {
        done = work => match done {
            // Closing with unread input would reset the connection and lose what we sent.
            Ok(()) => drop(tokio::time::timeout(LINGER, reading).await),
            Err(error) => tracing::debug!(pod, %error, "the client of a command is gone"),
        },
        () = &mut reading => tracing::debug!(pod, "the client of a command has left"),
        () = alive => tracing::debug!(pod, "the client of a command gives no sign of life"),
        () = activity.idle(job.limits.idle) => {
            tracing::debug!(pod, "the stream of a command was idle for too long");
            let _ = client.close().await; // It is gone, most likely.
        }
    }
}

async fn report(client: &Client, result: &Result<i32, String>, status: bool) -> io::Result<()> {
    let text = match (status, result) {
        (true, result) => ending(result).to_string(),
        (false, Ok(0)) => return Ok(()),
        (false, Ok(code)) => {
            format!("error executing remote command: command terminated with exit code {code}")
        }
        (false, Err(problem)) => format!("error executing remote command: {problem}"),
    };
    client.send(Channel::Error, text.as_bytes()).await
}

/// The Status that tells how a command ended.
fn ending(result: &Result<i32, String>) -> Value {
    match result {
        Ok(0) => json!({ "metadata": {}, "status": "Success" }),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit code {code}"),
            "reason": "NonZeroExitCode",
            "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
        }),
        Err(problem) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("Internal error occurred: {problem}"),
            "reason": "InternalError",
            "details": { "causes": [{ "message": problem }] },
            "code": 500,
        }),
    }
}
