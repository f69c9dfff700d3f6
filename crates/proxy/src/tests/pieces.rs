//! What comes in pieces means the same as what comes at once, wherever it is cut.

use futures::future::join_all;
use testkit::http::{Body, Message, RawServer, RawStream};

use super::{Gateway, SHORT};

/// Several requests on one connection; the last one ends it.
const CONVERSATIONS: [&str; 8] = [
    "\r\n\r\nPOST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n\
     2;e=\"1\"\r\nab\r\n0a\r\n0123456789\r\n0\r\nT: v\r\n\r\n\
     \r\nPUT /b?c HTTP/1.1\r\nhost: a\r\nContent-Length: 3\r\n\r\nabc\
     GET http://a/d HTTP/1.1\r\nHost: a\r\nX:\t y \r\nConnection: close\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\n\n",
    "GET / HTTP/3.0\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
];

const ANSWERS: [&str; 6] = [
    "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
     2;e=1\r\nok\r\n0\r\nT: v\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: \r\n\r\nok",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "HTTP/1.1 200\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
];

/// Everything that is not drawn or taken from a clock.
fn said(message: &Message) -> String {
    let text = format!("{}\n{:?}\n", message.dump(), message.trailers);
    let is_told = |line: &&str| {
        let line = line.to_ascii_lowercase();
        !line.starts_with("date:") && !line.starts_with("x-request-id:")
    };
    text.lines().filter(is_told).collect::<Vec<_>>().join("\n")
}

/// All answers until the gateway ends the connection.
async fn converse(gateway: &Gateway, parts: &[&str]) -> Vec<String> {
    let mut client = RawStream::connect(gateway.address).await;
    for part in parts {
        // One that is refused may be over before the rest of it has come.
        if client.try_send(part).await.is_err() {
            break;
        }
        tokio::time::sleep(SHORT).await;
    }
    let mut answers = Vec::new();
    while let Some(answer) = client.read_message(Body::Answer).await {
        answers.push(said(&answer));
    }
    answers
}

#[tokio::test]
async fn a_conversation_that_is_cut_anywhere_has_the_same_answers() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    for text in CONVERSATIONS {
        let whole = converse(&gateway, &[text]).await;
        assert!(!whole.is_empty(), "{text:?}");
        let cuts: Vec<_> = (1..text.len()).map(|at| text.split_at(at)).collect();
        let cut = cuts.iter().map(async |(first, rest)| {
            let answers = converse(&gateway, &[first, rest]).await;
            assert_eq!(answers, whole, "{first:?} | {rest:?}");
        });
        join_all(cut).await;
    }
}

/// A server that answers `/{at}` with these bytes cut there. Whether its connection stays is
/// the gateway's to say.
async fn cutting(answer: &'static str) -> RawServer {
    RawServer::start(move |mut stream| async move {
        while let Some(request) = stream.read_message(Body::Request).await {
            let path = request.start.split(' ').nth(1).unwrap_or_default();
            let at = path[1..].parse().expect("a place");
            let (first, rest) = answer.split_at(at);
            stream.send(first).await;
            tokio::time::sleep(SHORT).await;
            stream.send(rest).await;
        }
    })
    .await
}

#[tokio::test]
async fn an_answer_that_is_cut_anywhere_is_the_same() {
    for text in ANSWERS {
        let server = cutting(text).await;
        let gateway = Gateway::to(server.address).await;
        let ask = async |at: usize| {
            let request = format!("GET /{at} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            converse(&gateway, &[&request]).await
        };
        let whole = ask(0).await;
        assert!(!whole.is_empty(), "{text:?}");
        let cuts = (1..text.len()).map(async |at| {
            let (first, rest) = text.split_at(at);
            assert_eq!(ask(at).await, whole, "{first:?} | {rest:?}");
        });
        join_all(cuts).await;
    }
}
