//! The older form: channel `2n` of a WebSocket is the data and `2n + 1` the error of the n-th port.

use std::io;

use bytes::{Buf, Bytes};
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc};

use super::super::websocket::{self, Event};
use super::super::{BoxWrite, Duplex, PIECE, QUEUE};
use super::{Job, LINGER, refused};

type SocketWriter = Mutex<websocket::Writer<BoxWrite>>;

/// Forwards one connection per port.
pub(super) async fn serve(io: impl Duplex + 'static, ports: Vec<u16>, job: Job) {
    let (read, write) = tokio::io::split(io);
    let reader = websocket::Reader::new(read);
    let writer: SocketWriter = Mutex::new(websocket::Writer::new(Box::new(write) as _));
    let mut inputs = Vec::new();
    let mut connections = Vec::new();
    for (index, port) in (0_u8..).zip(ports) {
        let (sender, received) = mpsc::channel(QUEUE);
        inputs.push(sender);
        connections.push(channel(&job, &writer, (2 * index, port), received));
    }
    let work = async {
        join_all(connections).await;
        let _ = writer.lock().await.close().await; // The client may be gone.
        tokio::time::sleep(LINGER).await;
    };
    let alive = async {
        loop {
            tokio::time::sleep(job.limits.ping).await;
            if writer.lock().await.ping().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = alive => {}
        () = read_channels(reader, &writer, &inputs, &job) => {}
    }
}

async fn read_channels<R: tokio::io::AsyncRead + Unpin>(
    mut reader: websocket::Reader<R>,
    writer: &SocketWriter,
    inputs: &[mpsc::Sender<Bytes>],
    job: &Job,
) {
    let mut number = None;
    while let Ok(Some(event)) = reader.next().await {
        match event {
            Event::Data {
                first, mut bytes, ..
            } => {
                job.activity.touch();
                if first {
                    number = None;
                }
                if number.is_none() && !bytes.is_empty() {
                    number = Some(bytes.get_u8());
                }
                let input = number
                    .filter(|number| number % 2 == 0)
                    .and_then(|number| inputs.get(usize::from(number) / 2));
                if let Some(input) = input.filter(|_| !bytes.is_empty()) {
                    let _ = input.send(bytes).await; // The pod may have closed.
                }
            }
            Event::Ping(bytes) => {
                if writer.lock().await.pong(&bytes).await.is_err() {
                    return;
                }
            }
            Event::Close => return,
        }
    }
}

/// One port of the older form.
async fn channel(
    job: &Job,
    writer: &SocketWriter,
    (number, port): (u8, u16),
    mut received: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    let [low, high] = port.to_le_bytes();
    for channel in [number, number + 1] {
        let mut writer = writer.lock().await;
        writer.binary(&[channel, low, high], &[]).await?;
    }
    let connection = match job.containers.dial(&job.pod, port).await {
        Ok(connection) => connection,
        Err(problem) => {
            let text = refused(job, port, &problem);
            let mut writer = writer.lock().await;
            return writer.binary(&[number + 1], text.as_bytes()).await;
        }
    };
    let (mut read, mut write) = tokio::io::split(connection);
    let up = async {
        while let Some(bytes) = received.recv().await {
            if write.write_all(&bytes).await.is_err() {
                break;
            }
        }
        std::future::pending().await
    };
    let down = async {
        let mut piece = vec![0; PIECE];
        while let Ok(length @ 1..) = read.read(&mut piece).await {
            job.activity.touch();
            writer
                .lock()
                .await
                .binary(&[number], &piece[..length])
                .await?;
        }
        Ok(())
    };
    tokio::select! {
        result = down => result,
        never = up => match never {},
    }
}
