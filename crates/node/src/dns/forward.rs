//! Questions about names that are not the cluster's go to the machine's own name servers.
//!
//! Every question has a socket of its own, so a forged answer has to guess its port as well as
//! its number. The servers are those of /etc/resolv.conf at the time of the question.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use super::cache::Cache;
use super::{LONGEST_DATAGRAM, PORT, Transport};
use crate::resolv::Resolv;

/// How long one server may think.
const PATIENCE: Duration = Duration::from_secs(2);
/// Rounds over all servers.
const ROUNDS: u32 = 2;

pub(super) struct Forwarder {
    ours: IpAddr,
    cache: Mutex<Cache>,
}

impl Forwarder {
    /// `ours` is where we listen: we never ask ourselves.
    pub(super) fn new(ours: IpAddr) -> Self {
        Self {
            ours,
            cache: Mutex::default(),
        }
    }

    /// The answer to a client's message, from the cache or from upstream. `None` if no server
    /// answers.
    pub(super) async fn ask(
        &self,
        request: &Message,
        bytes: &[u8],
        transport: Transport,
    ) -> Option<Message> {
        let query = request.queries.first()?;
        let question = (query.name().to_lowercase(), query.query_type());
        // A client that asks for signatures gets its own answer.
        let cached = request
            .edns
            .as_ref()
            .is_none_or(|edns| !edns.flags().dnssec_ok);
        if let Some(mut answer) = self.kept(&question).filter(|_| cached) {
            answer.metadata.id = request.metadata.id;
            answer.queries.clone_from(&request.queries);
            return Some(answer);
        }
        let answer = self.upstream(bytes, query, transport).await?;
        if cached {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.put(question, &answer, Instant::now());
        }
        Some(answer)
    }

    /// As [`Self::ask`], for a question of ours.
    pub(super) async fn ask_name(&self, name: Name, kind: RecordType) -> Option<Message> {
        let mut request = Message::query();
        request.metadata.recursion_desired = true;
        request.add_query(Query::query(name, kind));
        let bytes = request.to_vec().ok()?;
        self.ask(&request, &bytes, Transport::Udp).await
    }

    fn kept(&self, question: &super::cache::Question) -> Option<Message> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(question, Instant::now())
    }

    async fn upstream(&self, bytes: &[u8], query: &Query, transport: Transport) -> Option<Message> {
        let servers = Resolv::of_machine().nameservers;
        for _ in 0..ROUNDS {
            for server in servers.iter().filter(|server| **server != self.ours) {
                let server = SocketAddr::new(*server, PORT);
                let asked = match transport {
                    Transport::Udp => timeout(PATIENCE, by_datagram(server, bytes, query)).await,
                    Transport::Tcp => timeout(PATIENCE, by_connection(server, bytes, query)).await,
                };
                match asked {
                    Ok(Ok(answer)) => return Some(answer),
                    Ok(Err(error)) => tracing::debug!(%server, %error, "a name server fails"),
                    Err(_) => tracing::debug!(%server, "a name server does not answer"),
                }
            }
        }
        None
    }
}

async fn by_datagram(server: SocketAddr, bytes: &[u8], query: &Query) -> io::Result<Message> {
    let any: IpAddr = match server.ip() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; LONGEST_DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What does not answer this question is somebody's guess: the right one may follow.
        if let Some(answer) = answer_to(bytes, query, &buffer[..length]) {
            return Ok(answer);
        }
    }
}

async fn by_connection(server: SocketAddr, bytes: &[u8], query: &Query) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&length.to_be_bytes()[..], bytes].concat())
        .await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    answer_to(bytes, query, &answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn answer_to(question: &[u8], query: &Query, answer: &[u8]) -> Option<Message> {
    let same_number = answer.get(..2)? == question.get(..2)?;
    let message = Message::from_vec(answer).ok().filter(|_| same_number)?;
    let asked = message.queries.first()?;
    let same = asked.name().to_lowercase() == query.name().to_lowercase()
        && asked.query_type() == query.query_type();
    same.then_some(message)
}
