//! Many clients at once over both protocols, some of which leave in the middle: everyone has their
//! own bytes back, whatever memory they passed through.

use bytes::Bytes;
use futures::future::join_all;
use h2::client::SendRequest;
use http::Request;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use routing::model::Protocol;
use testkit::http::{Body, RawServer, RawStream};

use super::http2::{client, h2_server};
use super::{Gateway, backend};
use crate::Limits;

const CLIENTS: u64 = 24;
const TURNS: usize = 25;

/// What a request carries, and its answer must.
struct Token {
    name: String,
    body: Vec<u8>,
    /// Its body comes in chunks, and it leaves before the answer is complete, respectively.
    is_chunked: bool,
    leaves: bool,
}

impl Token {
    fn draw(random: &mut SmallRng) -> Self {
        // Every other one is likely to have a head that came before.
        let (name, len) = if random.random() {
            let few = random.random_range(0..3_u64);
            (few, 700 * few as usize)
        } else {
            let most = match random.random_range(0..20) {
                0 => 70_000,
                1..5 => 5_000,
                5..15 => 1_200,
                _ => 1,
            };
            (random.random(), random.random_range(0..most))
        };
        let name = format!("{name:016x}");
        Self {
            body: name.bytes().cycle().take(len).collect(),
            is_chunked: random.random_range(0..4) == 0,
            leaves: random.random_range(0..25) == 0,
            name,
        }
    }

    fn request(&self) -> Vec<u8> {
        let framing = match self.is_chunked {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {}", self.body.len()),
        };
        let name = &self.name;
        let head =
            format!("POST /{name} HTTP/1.1\r\nHost: a\r\nX-Token: {name}\r\n{framing}\r\n\r\n");
        let mut bytes = head.into_bytes();
        if !self.is_chunked {
            bytes.extend_from_slice(&self.body);
            return bytes;
        }
        for part in self.body.chunks(700) {
            bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            bytes.extend_from_slice(part);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }

    fn check(&self, status: u16, name: Option<&str>, body: &[u8]) {
        assert_eq!((status, name), (200, Some(&*self.name)));
        assert!(
            body == self.body,
            "{}: {} bytes that are not its own",
            self.name,
            body.len()
        );
    }
}

/// Says what it was told, as the server of the other tests does over HTTP/2.
async fn server() -> RawServer {
    RawServer::start(|mut stream| async move {
        while let Some(request) = stream.read_message(Body::Request).await {
            let name = request.header("x-token").unwrap_or_default();
            let uri = request.start.split(' ').nth(1).unwrap_or_default();
            let len = request.body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\nEcho-X-Token: {name}\r\nEcho-Uri: {uri}\r\nContent-Length: {len}\r\n\r\n"
            );
            stream.send([head.as_bytes(), &request.body].concat()).await;
        }
    })
    .await
}

/// Turns of pipelined requests over HTTP/1.1.
async fn over_http1(gateway: &Gateway, mut random: SmallRng) {
    let mut stream = RawStream::connect(gateway.address).await;
    for _ in 0..TURNS {
        let count = random.random_range(1..4);
        let tokens: Vec<_> = (0..count).map(|_| Token::draw(&mut random)).collect();
        for token in &tokens {
            stream.send(token.request()).await;
        }
        for token in &tokens {
            if token.leaves {
                stream = RawStream::connect(gateway.address).await;
                break;
            }
            let answer = stream.answer().await;
            token.check(answer.status(), answer.header("echo-x-token"), &answer.body);
            assert!(
                answer
                    .header("echo-uri")
                    .is_some_and(|uri| uri.ends_with(&token.name))
            );
        }
    }
}

/// Turns of requests at once over HTTP/2.
async fn over_http2(gateway: &Gateway, mut random: SmallRng) {
    let client = client(gateway.address).await;
    for _ in 0..TURNS {
        let count = random.random_range(1..12);
        let tokens: Vec<_> = (0..count).map(|_| Token::draw(&mut random)).collect();
        join_all(tokens.iter().map(|token| stream(client.clone(), token))).await;
    }
}

async fn stream(client: SendRequest<Bytes>, token: &Token) {
    let mut client = client.ready().await.expect("a connection");
    let request = Request::post(format!("http://a/{}", token.name))
        .header("x-token", &token.name)
        .body(())
        .expect("valid");
    let (response, mut send) = client.send_request(request, false).expect("a stream");
    send.send_data(Bytes::copy_from_slice(&token.body), true)
        .expect("a stream");
    let response = response.await.expect("an answer");
    if token.leaves {
        return;
    }
    let (head, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.expect("a complete body");
        let _ = body.flow_control().release_capacity(data.len());
        bytes.extend_from_slice(&data);
    }
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    token.check(head.status.as_u16(), text("echo-x-token"), &bytes);
    assert!(text("echo-uri").is_some_and(|uri| uri.ends_with(&token.name)));
}

async fn everybody(gateway: &Gateway) {
    // From the seed on, what is asked is the same in every run; what happens when is not.
    let seeds = (0..CLIENTS).map(SmallRng::seed_from_u64);
    let one = seeds.map(|random| over_http1(gateway, random));
    let seeds = (CLIENTS..2 * CLIENTS).map(SmallRng::seed_from_u64);
    let two = seeds.map(|random| over_http2(gateway, random));
    futures::join!(join_all(one), join_all(two));
}

#[tokio::test]
async fn everybody_has_their_own_bytes_from_a_server_of_http1() {
    let server = server().await;
    let mut gateway = Gateway::with(Limits::STANDARD, 2).await;
    gateway.serve(backend("b", &[server.address]));
    everybody(&gateway).await;
}

#[tokio::test]
async fn everybody_has_their_own_bytes_from_a_server_of_http2() {
    let server = h2_server().await;
    let mut gateway = Gateway::with(Limits::STANDARD, 2).await;
    let mut backend = backend("b", &[server]);
    backend.protocol = Protocol::H2c;
    gateway.serve(backend);
    everybody(&gateway).await;
}
