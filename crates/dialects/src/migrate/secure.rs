//! TLS: which listener each name gets, or why it gets none.
//!
//! A name that is left out is closed where a wider listener would take it: clients that had to show
//! a certificate must not get in without one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use routing::model::tls::{
    Alpn, CaBundle, Certificate, ClientCertificates, Termination, TlsAction, TlsHost, TlsId,
    TlsVersion,
};
use routing::model::{HostPattern, Origin};

use super::door::{self, Door, Kind, Spoken};
use super::{Verdict, Writer};
use crate::gateway_api;
use crate::objects::Name;

/// Certificates of one listener (schema).
const MOST_CERTIFICATES: usize = 64;

/// The records of a name, the one that decides first.
type Records<'i> = Vec<(&'i TlsId, &'i Arc<TlsHost>)>;
type Names<'i> = BTreeMap<HostPattern, Records<'i>>;

/// Why a name has no listener.
enum Gone {
    /// Clients are not to get anywhere else by it.
    LeftOut(String),
    Lost(String),
    /// Nobody is there, here and there.
    Refused,
}

impl<'i> Writer<'i> {
    /// Makes a listener of each name.
    pub(super) fn plan_tls(&mut self) {
        for (door, names) in self.tls_names() {
            if let Some(why) = self.conflict(door) {
                let origins = names.values().flatten().map(|(_, record)| &record.origin);
                for origin in origins {
                    self.note(origin, Verdict::LeftOut, "tls", &why);
                }
                continue;
            }
            let clients = demanded(&names);
            let mut closed = Vec::new();
            for (host, records) in &names {
                match self.listener(door, host, records, clients.as_ref()) {
                    Ok(kind) => self.listeners.add((door, host.clone()), kind),
                    Err(gone) => {
                        let (verdict, text) = match gone {
                            Gone::LeftOut(text) => {
                                closed.push(host);
                                (Verdict::LeftOut, text)
                            }
                            Gone::Lost(text) => (Verdict::Lost, text),
                            Gone::Refused => {
                                closed.push(host);
                                (Verdict::Kept, "nobody is there".to_owned())
                            }
                        };
                        for (_, record) in records {
                            self.note(&record.origin, verdict, "tls", &format!("{host}: {text}"));
                        }
                    }
                }
            }
            for host in closed {
                if self.listeners.is_covered(door, host) {
                    self.listeners.add((door, host.clone()), Kind::Closed);
                }
            }
            self.listeners
                .clients
                .extend(clients.map(|bundle| (door, bundle)));
        }
    }

    /// Names by port, with the records of each in the order in which they decide.
    fn tls_names(&mut self) -> BTreeMap<Door, Names<'i>> {
        let mut doors: BTreeMap<Door, Names<'i>> = BTreeMap::new();
        let input = self.input;
        for (id, record) in &input.tls {
            let door = match &record.bind {
                Some(bind) => Door::of(bind, input),
                None => Some(Door::shared(record.visibility, Spoken::Tls)),
            };
            let Some(door) = door else { continue };
            for name in &record.names {
                if matches!(name, HostPattern::Label(_)) {
                    let text = format!(
                        "{name} stands for one label here and for any number of them there"
                    );
                    self.note(&record.origin, Verdict::Changed, "tls.names", &text);
                }
                let names = doors.entry(door).or_default();
                names
                    .entry(door::wide(name))
                    .or_default()
                    .push((id, record));
            }
        }
        for records in doors.values_mut().flat_map(BTreeMap::values_mut) {
            records.sort_by(|a, b| (&a.1.sort_key, a.0).cmp(&(&b.1.sort_key, b.0)));
        }
        doors
    }

    /// Why nothing of TLS can be at a port.
    fn conflict(&self, door: Door) -> Option<String> {
        if door.is_local && !self.is_ours {
            return Some("it is served inside of the cluster alone".to_owned());
        }
        self.is_http(door)
            .then(|| format!("port {} is for plain HTTP in another object", door.port))
    }

    /// Whether rules are at a port without TLS.
    pub(super) fn is_http(&self, door: Door) -> bool {
        let mut routes = self.input.routes.values();
        routes.any(|route| {
            let own = match &route.bind {
                Some(bind) => Door::of(bind, self.input),
                None => Some(Door::shared(route.visibility, Spoken::Http)),
            };
            let plain = Door {
                spoken: Spoken::Http,
                ..door
            };
            own == Some(plain)
        })
    }

    fn listener(
        &mut self,
        door: Door,
        host: &HostPattern,
        records: &Records<'i>,
        clients: Option<&Arc<CaBundle>>,
    ) -> Result<Kind, Gone> {
        let Some((_, first)) = records.first() else {
            return Err(Gone::Lost(String::new()));
        };
        if !is_hostname(host) {
            let text = "Gateway API wants a name in lower case without a port";
            return Err(Gone::LeftOut(text.to_owned()));
        }
        let all: Vec<_> = records.iter().map(|(_, record)| &record.action).collect();
        let kind = match &first.action {
            TlsAction::Terminate(_) => {
                let termination = self.ended(&first.origin, &all)?;
                allowed(&termination.client, clients)?;
                if termination.client == ClientCertificates::Unverified {
                    let text = format!(
                        "{host}: clients are not asked for a certificate that nobody verifies"
                    );
                    self.note(&first.origin, Verdict::Lost, "tls.client", &text);
                }
                if termination.protocols != [Alpn::Http2, Alpn::Http1] {
                    let text = format!("{host}: h2 and http/1.1 are offered there");
                    self.note(&first.origin, Verdict::Changed, "tls.protocols", &text);
                }
                Kind::Https(termination)
            }
            TlsAction::Relay(..) => {
                let termination = self.ended(&first.origin, &all)?;
                if matches!(
                    termination.client,
                    ClientCertificates::Require(_) | ClientCertificates::Optional(_)
                ) {
                    let text = "listeners for TLS ask clients for no certificate";
                    return Err(Gone::LeftOut(text.to_owned()));
                }
                Kind::Ended(termination)
            }
            TlsAction::Passthrough(_) => Kind::Passthrough,
            TlsAction::Refuse => return Err(Gone::Refused),
        };
        if door.is_local && !matches!(kind, Kind::Https(_)) {
            let text = "connections inside of the cluster are passed on by no TLSRoute";
            return Err(Gone::LeftOut(text.to_owned()));
        }
        if let Kind::Https(termination) = &kind {
            let secrets = names(termination).into_iter();
            let secrets: Vec<_> = secrets.map(|name| name.to_string()).collect();
            let text = format!(
                "{host}: an HTTPS listener at port {} with Secret {}",
                door.port,
                secrets.join(", ")
            );
            for (_, record) in records {
                self.note(&record.origin, Verdict::Kept, "tls", &text);
            }
        }
        if !matches!(kind, Kind::Https(_)) {
            self.tell_later(host, records);
        }
        Ok(kind)
    }

    /// Of a name that is passed on: those that would end or close it are not asked.
    fn tell_later(&mut self, host: &HostPattern, records: &Records<'i>) {
        let text = format!("{host}: an object that comes first decides, here and there");
        for (_, record) in records.iter().skip(1) {
            if !matches!(
                record.action,
                TlsAction::Passthrough(_) | TlsAction::Relay(..)
            ) {
                self.note(&record.origin, Verdict::Kept, "tls", &text);
            }
        }
    }

    /// How TLS is ended, as far as a listener says it.
    fn ended(&mut self, origin: &Origin, all: &[&TlsAction]) -> Result<Termination, Gone> {
        let ended = routing::merged_termination(all);
        let ended = ended.ok_or_else(|| Gone::Lost("TLS is not ended".to_owned()))?;
        if names(&ended).is_empty() {
            let text = "the gateway's own authority issues a certificate for it here: make a Secret of type kubernetes.io/tls, or a Certificate, and add a listener for HTTPS";
            return Err(Gone::Lost(text.to_owned()));
        }
        if ended.certificates.len() > MOST_CERTIFICATES {
            let text = format!("a listener has {MOST_CERTIFICATES} certificates at most");
            return Err(Gone::LeftOut(text));
        }
        if ended.certificates.iter().any(is_stapled) {
            let text =
                "a certificate is shown without an OCSP response, too, or with one that has ended";
            self.note(origin, Verdict::Lost, "tls.staple", text);
        }
        if !self.is_ours && ended.versions != gateway_api::VERSIONS {
            if ended.versions.min > TlsVersion::V1_2 {
                let text =
                    "older versions of TLS are refused, and Gateway API has no word for that";
                return Err(Gone::LeftOut(text.to_owned()));
            }
            let text = "newer versions of TLS are spoken there";
            self.note(origin, Verdict::Changed, "tls.versions", text);
        }
        if !self.is_ours && !ended.crypto.is_any() {
            let text = "which cipher suites and curves are offered, Gateway API has no word for: \
                        say it in the options of the other gateway";
            return Err(Gone::LeftOut(text.to_owned()));
        }
        Ok(ended)
    }
}

fn is_stapled(certificate: &Arc<Certificate>) -> bool {
    certificate.staple.as_ref().is_some_and(|it| it.is_required)
}

/// What the clients of a port must show: what most of its names say, since it is said once for all.
fn demanded(names: &Names<'_>) -> Option<Arc<CaBundle>> {
    let mut votes: Vec<(Option<&Arc<CaBundle>>, usize)> = Vec::new();
    for records in names.values() {
        let Some(TlsAction::Terminate(first)) = records.first().map(|(_, it)| &it.action) else {
            continue;
        };
        let own = match &first.client {
            ClientCertificates::Require(bundle) => Some(bundle),
            ClientCertificates::None | ClientCertificates::Unverified => None,
            ClientCertificates::Optional(_) => continue,
        };
        match votes.iter_mut().find(|(other, _)| *other == own) {
            Some((_, count)) => *count += 1,
            None => votes.push((own, 1)),
        }
    }
    let most = votes.iter().map(|(_, count)| *count).max()?;
    let first = votes.into_iter().find(|(_, count)| *count == most)?;
    first.0.cloned()
}

fn allowed(client: &ClientCertificates, all: Option<&Arc<CaBundle>>) -> Result<(), Gone> {
    let own = match client {
        ClientCertificates::Optional(_) => {
            let text = "clients may show a certificate or none, and Gateway API lets in those who show a wrong one as well";
            return Err(Gone::LeftOut(text.to_owned()));
        }
        ClientCertificates::Require(bundle) => Some(bundle),
        ClientCertificates::None | ClientCertificates::Unverified => None,
    };
    if own == all {
        return Ok(());
    }
    let text = "what clients must show is said once for all hosts of a port, and most say otherwise: write a Gateway of its own for it";
    Err(Gone::LeftOut(text.to_owned()))
}

/// The Secrets of a listener's certificates.
pub(super) fn names(termination: &Termination) -> BTreeSet<Name> {
    let certificates = termination.certificates.iter();
    let names = certificates.filter_map(|it| it.name.split_once('/'));
    names.map(|(space, name)| Name::new(space, name)).collect()
}

/// The same of any listener.
pub(super) fn secrets(kind: &Kind) -> BTreeSet<Name> {
    match kind {
        Kind::Https(termination) | Kind::Ended(termination) => names(termination),
        Kind::Http | Kind::Passthrough | Kind::Closed | Kind::Stream => BTreeSet::new(),
    }
}

/// A Hostname of Gateway API.
fn is_hostname(host: &HostPattern) -> bool {
    match host {
        HostPattern::Any => true,
        HostPattern::Exact(name) | HostPattern::Suffix(name) | HostPattern::Label(name) => {
            super::filter::is_precise(name)
        }
    }
}
