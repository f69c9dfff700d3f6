//! Requests in flight are counted exactly, whichever threads serve them and however they end.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use h2::Reason;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use routing::Backend;
use testkit::http::{RawStream, eventually};
use tokio::task::JoinSet;

use super::http2::{client, get};
use super::{GET, Gateway, Limits, OK, revision};

/// Requests that a revision's pod takes at once.
const LIMIT: usize = 3;
const CLIENTS: u64 = 12;
const ROUNDS: usize = 25;

/// A server that answers `/` at once, `/held` once it may, and `/never` not at all.
///
/// It knows at each request how many others it has by asking the kernel which of them were given
/// up, not by what its threads have noticed so far.
#[derive(Debug, Default)]
struct Pod {
    unanswered: Mutex<Vec<Arc<TcpStream>>>,
    most: Mutex<usize>,
    may_answer: AtomicBool,
}

impl Pod {
    fn start() -> (SocketAddr, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let pod = Arc::new(Self::default());
        let this = Arc::clone(&pod);
        // Both end with the process, or with their connection.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let pod = Arc::clone(&this);
                std::thread::spawn(move || {
                    let stream = Arc::new(stream);
                    let _ = pod.serve(&stream);
                    pod.forget(&stream);
                });
            }
        });
        (address, pod)
    }

    fn serve(&self, stream: &Arc<TcpStream>) -> std::io::Result<()> {
        stream.set_nonblocking(true)?;
        loop {
            let mut head = Vec::new();
            while !head.windows(4).any(|four| four == b"\r\n\r\n") {
                let mut part = [0; 4096];
                match read(stream, &mut part)? {
                    0 => return Ok(()),
                    count => head.extend_from_slice(&part[..count]),
                }
            }
            self.begin(stream);
            if head.windows(6).any(|six| six == b"/never") {
                while read(stream, &mut [0; 4096])? > 0 {}
                return Ok(());
            }
            while head.windows(5).any(|five| five == b"/held")
                && !self.may_answer.load(Ordering::SeqCst)
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Before the answer: with its last byte the next request may come.
            self.forget(stream);
            (&**stream).write_all(OK.as_bytes())?;
        }
    }

    fn begin(&self, stream: &Arc<TcpStream>) {
        let mut all = self.unanswered.lock().expect("no panic");
        all.push(Arc::clone(stream));
        let now = all.iter().filter(|stream| is_open(stream)).count();
        let mut most = self.most.lock().expect("no panic");
        *most = now.max(*most);
    }

    fn forget(&self, stream: &Arc<TcpStream>) {
        let mut all = self.unanswered.lock().expect("no panic");
        all.retain(|known| !Arc::ptr_eq(known, stream));
    }

    fn held(&self) -> usize {
        self.unanswered.lock().expect("no panic").len()
    }

    fn most(&self) -> usize {
        *self.most.lock().expect("no panic")
    }
}

/// Waits for bytes of a socket that does not.
fn read(mut stream: &TcpStream, part: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.read(part) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            read => return read,
        }
    }
}

/// Whether the other end still waits for its answer. A body that goes on is one that it sends.
fn is_open(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(count) => count > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// Asks in all ways that a request can end.
async fn ask_anyhow(address: SocketAddr, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..ROUNDS {
        let wait = random.random_range(0..30);
        let never = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
        match random.random_range(0..7) {
            // Served.
            0 | 1 => assert_eq!(testkit::http::ask(address, GET).await.text(), "ok"),
            // Given up by a close, by a reset, in the middle of a body.
            2 => {
                let mut stream = RawStream::connect(address).await;
                stream.send(never).await;
                moments(wait).await;
            }
            3 => {
                let mut stream = RawStream::connect(address).await;
                stream.send(never).await;
                moments(wait).await;
                stream.reset();
            }
            4 => {
                let mut stream = RawStream::connect(address).await;
                let head = "POST /never HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab";
                stream.send(head).await;
                moments(wait).await;
                stream.reset();
            }
            // A stream that is reset beside one that is served.
            5 => {
                let mut client = client(address).await;
                let reset = client.send_request(get("http://a/never"), true);
                let (_answer, mut reset) = reset.expect("a stream");
                let served = client.send_request(get("http://a/"), true);
                let (served, _) = served.expect("a stream");
                moments(wait).await;
                reset.send_reset(Reason::CANCEL);
                assert_eq!(served.await.expect("an answer").status(), 200);
            }
            // A connection that ends with its streams.
            _ => {
                let mut client = client(address).await;
                for _ in 0..3 {
                    let request = client.send_request(get("http://a/never"), true);
                    drop(request.expect("a stream"));
                }
                moments(wait).await;
            }
        }
    }
}

/// Lets others run for so many turns.
async fn moments(count: u32) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn never_more_requests_than_a_pod_takes_and_no_place_is_lost() {
    for threads in [2, 4] {
        let (address, pod) = Pod::start();
        let mut gateway = Gateway::with(Limits::STANDARD, threads).await;
        gateway.serve(Backend {
            concurrency: u32::try_from(LIMIT).expect("small"),
            ..revision("r", &[address])
        });
        let mut clients = JoinSet::new();
        for seed in 0..CLIENTS {
            clients.spawn(ask_anyhow(gateway.address, seed));
        }
        while let Some(ended) = clients.join_next().await {
            ended.expect("no client fails");
        }
        eventually("all are over", || gateway.requests_open() == 0).await;
        assert!((1..=LIMIT).contains(&pod.most()), "{} at once", pod.most());
        eventually("the pod noticed", || pod.held() == 0).await;
        // Every place is there, and no more than those.
        let mut waiting = Vec::new();
        for _ in 0..=LIMIT {
            let mut stream = RawStream::connect(gateway.address).await;
            stream.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
            waiting.push(stream);
        }
        eventually("all have come", || {
            gateway.requests_open() == LIMIT as u64 + 1
        })
        .await;
        eventually("all places are taken", || pod.held() == LIMIT).await;
        pod.may_answer.store(true, Ordering::SeqCst);
        for stream in &mut waiting {
            assert_eq!(stream.answer().await.text(), "ok");
        }
        assert!(pod.most() <= LIMIT, "{} at once", pod.most());
    }
}
