//! Between a command's pipes and its client, until the command has ended.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

use super::channel::{Channel, Client, Received};
use super::session::Activity;
use super::{BoxRead, BoxWrite, PIECE, Running, Size};

/// How long the output may stay silent once the command has ended: a process that it left behind
/// may hold the pipe open for ever.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// Moves everything until the command has ended and its output is with the client. The outer
/// error is the client's connection.
pub(super) async fn run(
    running: Running,
    received: Received,
    client: &Client,
    activity: &Activity,
) -> io::Result<Result<i32, String>> {
    let Running {
        stdin,
        stdout,
        stderr,
        resize,
        ended,
    } = running;
    let (tell, exited) = watch::channel(false);
    let wait = async {
        let result = ended.await;
        tell.send_replace(true);
        Ok(result)
    };
    let work = async {
        let stdout = copy(stdout, Channel::Stdout, client, exited.clone(), activity);
        let stderr = copy(stderr, Channel::Stderr, client, exited.clone(), activity);
        tokio::try_join!(wait, stdout, stderr).map(|(result, (), ())| result)
    };
    let inputs = async {
        tokio::join!(feed(stdin, received.stdin), follow(resize, received.size));
        std::future::pending().await
    };
    tokio::select! {
        result = work => result,
        never = inputs => match never {},
    }
}

async fn copy(
    from: Option<BoxRead>,
    channel: Channel,
    client: &Client,
    mut exited: watch::Receiver<bool>,
    activity: &Activity,
) -> io::Result<()> {
    let Some(mut from) = from else {
        return Ok(());
    };
    let mut piece = vec![0; PIECE];
    loop {
        let silent = async {
            // An error means that the sender is gone: the command has ended.
            let _ = exited.wait_for(|exited| *exited).await;
            tokio::time::sleep(LAST_OUTPUT).await;
        };
        let read = tokio::select! {
            biased;
            read = from.read(&mut piece) => read,
            () = silent => return Ok(()),
        };
        match read {
            // A terminal whose other side is closed is an error to read (EIO).
            Ok(0) | Err(_) => return Ok(()),
            Ok(length) => {
                activity.touch();
                client.send(channel, &piece[..length]).await?;
            }
        }
    }
}

/// Writes the client's input; what a command does not want is dropped.
async fn feed(mut to: Option<BoxWrite>, mut from: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = from.recv().await {
        if let Some(open) = &mut to {
            let written = async {
                open.write_all(&bytes).await?;
                open.flush().await
            };
            if written.await.is_err() {
                to = None;
            }
        }
    }
    if let Some(mut to) = to {
        let _ = to.shutdown().await; // It may be closed already.
    }
}

async fn follow(
    resize: Option<Box<dyn Fn(Size) + Send>>,
    mut sizes: watch::Receiver<Option<Size>>,
) {
    let Some(resize) = resize else { return };
    loop {
        if let Some(size) = *sizes.borrow_and_update() {
            resize(size);
        }
        if sizes.changed().await.is_err() {
            return;
        }
    }
}
