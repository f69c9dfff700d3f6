//! Names of Services and pods, answered in this process; everything else is asked upstream.
//!
//! [`start`] listens on the pods' bridge only, by UDP and TCP. What a cluster name stands for is
//! decided in [`zone`] from the informers' caches, so an answer is as new as the API's last
//! event. What is not the cluster's goes to the machine's own name servers ([`forward`]).
//!
//! Rules: Kubernetes' DNS-based service discovery, version 1.1.0.

mod cache;
mod forward;
mod view;
pub(crate) mod zone;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::DNSClass;
use lifecycle::{Stage, Tasks};
use reconcile::Cluster;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::forward::Forwarder;
use self::view::Caches;
use self::zone::Outcome;

/// The cluster's domain.
pub(crate) const DOMAIN: &str = "cluster.local";
const PORT: u16 = 53;
/// Longest message over UDP that we read.
const LONGEST_DATAGRAM: usize = 4096;
/// What a client without EDNS takes (RFC 1035).
const PLAIN_DATAGRAM: u16 = 512;
/// Questions in work at a time; more are refused.
const MOST_QUESTIONS: usize = 512;
/// Connections at a time, and how long one may be silent.
const MOST_CONNECTIONS: usize = 128;
const IDLE: Duration = Duration::from_secs(10);

/// How a question came; it says how long the answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// Answers questions until the node stops. Returns once it listens.
pub(crate) async fn start(address: IpAddr, cluster: &Cluster, tasks: &Tasks) -> io::Result<()> {
    let address = SocketAddr::new(address, PORT);
    let udp = Arc::new(UdpSocket::bind(address).await?);
    let tcp = TcpListener::bind(address).await?;
    let caches = Caches::start(cluster, tasks);
    let resolver = Arc::new(Resolver {
        caches,
        forwarder: Forwarder::new(address.ip()),
        places: Arc::new(Semaphore::new(MOST_QUESTIONS)),
    });
    let (mut stop_udp, mut stop_tcp) = (
        tasks.shutdown(Stage::Controllers),
        tasks.shutdown(Stage::Controllers),
    );
    let by_udp = Arc::clone(&resolver);
    tasks.spawn("dns", Stage::Controllers, async move {
        tokio::select! {
            () = serve_datagrams(&udp, &by_udp) => {}
            () = stop_udp.requested() => {}
        }
        Ok::<(), Infallible>(())
    });
    tasks.spawn("dns over tcp", Stage::Controllers, async move {
        tokio::select! {
            () = serve_connections(&tcp, &resolver) => {}
            () = stop_tcp.requested() => {}
        }
        Ok::<(), Infallible>(())
    });
    Ok(())
}

async fn serve_datagrams(socket: &Arc<UdpSocket>, resolver: &Arc<Resolver>) {
    let mut working = JoinSet::new();
    let mut buffer = vec![0; LONGEST_DATAGRAM];
    loop {
        let (length, peer) = tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // An earlier answer could not be delivered; nothing to do with the next question.
                Err(error) => {
                    tracing::debug!(%error, "dns cannot receive");
                    continue;
                }
            },
            Some(_) = working.join_next() => continue,
        };
        let Ok(place) = Arc::clone(&resolver.places).try_acquire_owned() else {
            continue; // Too busy: the client asks again.
        };
        let question = buffer[..length].to_vec();
        let (socket, resolver) = (Arc::clone(socket), Arc::clone(resolver));
        working.spawn(async move {
            if let Some(answer) = resolver.answer(&question, Transport::Udp).await {
                let _ = socket.send_to(&answer, peer).await; // The pod may be gone.
            }
            drop(place);
        });
    }
}

async fn serve_connections(listener: &TcpListener, resolver: &Arc<Resolver>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => {
                let Ok((stream, _)) = accepted else { continue };
                let resolver = Arc::clone(resolver);
                connections.spawn(async move {
                    let _ = serve_connection(stream, &resolver).await; // The client hung up.
                });
            }
        }
    }
}

/// Questions one after another, each with its length in front (RFC 7766).
async fn serve_connection(mut stream: TcpStream, resolver: &Resolver) -> io::Result<()> {
    loop {
        let length = timeout(IDLE, stream.read_u16()).await??;
        let mut question = vec![0; usize::from(length)];
        timeout(IDLE, stream.read_exact(&mut question)).await??;
        let Some(answer) = resolver.answer(&question, Transport::Tcp).await else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

struct Resolver {
    caches: Caches,
    forwarder: Forwarder,
    places: Arc<Semaphore>,
}

impl Resolver {
    /// The answer to a message. `None` for what is not even a question.
    async fn answer(&self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        // A response here would be somebody's attempt to make two servers talk for ever.
        if bytes.len() < 12 || bytes[2] & 0x80 != 0 {
            return None;
        }
        let Ok(request) = Message::from_vec(bytes) else {
            let id = u16::from_be_bytes([bytes[0], bytes[1]]);
            return Message::error_msg(id, OpCode::Query, ResponseCode::FormErr)
                .to_vec()
                .ok();
        };
        let answer = self.respond(&request, bytes, transport).await;
        encode(answer, &request, transport)
    }

    async fn respond(&self, request: &Message, bytes: &[u8], transport: Transport) -> Message {
        let fail = |code| refuse(request, code);
        if request.metadata.op_code != OpCode::Query {
            return fail(ResponseCode::NotImp);
        }
        let [query] = request.queries.as_slice() else {
            return fail(ResponseCode::FormErr);
        };
        if query.query_class() != DNSClass::IN {
            return fail(ResponseCode::Refused);
        }
        let outcome = zone::lookup(query.name(), query.query_type(), &self.caches);
        match outcome {
            Outcome::NotOurs => {
                let forwarded = self.forwarder.ask(request, bytes, transport).await;
                forwarded.unwrap_or_else(|| fail(ResponseCode::ServFail))
            }
            Outcome::Unknown => {
                let mut answer = fail(ResponseCode::NXDomain);
                answer.metadata.authoritative = true;
                answer.add_authority(zone::authority());
                answer
            }
            Outcome::Found(records) => {
                let mut answer = fail(ResponseCode::NoError);
                answer.metadata.authoritative = true;
                self.add(&mut answer, records, request).await;
                answer
            }
        }
    }

    /// Adds the records; what an alias to a name outside stands for is asked upstream.
    async fn add(
        &self,
        answer: &mut Message,
        records: Vec<hickory_proto::rr::Record>,
        request: &Message,
    ) {
        if records.is_empty() {
            answer.add_authority(zone::authority());
            return;
        }
        let outside = zone::alias_outside(&records);
        answer.add_answers(records);
        let Some((target, query)) = outside.zip(request.queries.first()) else {
            return;
        };
        if let Some(found) = self.forwarder.ask_name(target, query.query_type()).await {
            answer.add_answers(found.answers);
        }
    }
}

/// An answer without records.
fn refuse(request: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::new(
        request.metadata.id,
        MessageType::Response,
        request.metadata.op_code,
    );
    answer.metadata.recursion_desired = request.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    answer.add_queries(request.queries.iter().cloned());
    answer
}

/// The bytes, cut to what the client takes.
fn encode(answer: Message, request: &Message, transport: Transport) -> Option<Vec<u8>> {
    let longest = match (transport, &request.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => PLAIN_DATAGRAM,
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_DATAGRAM, 1232),
    };
    let bytes = answer.to_vec().ok()?;
    if bytes.len() <= usize::from(longest) {
        return Some(bytes);
    }
    answer.truncate().to_vec().ok()
}

#[cfg(test)]
mod tests;
