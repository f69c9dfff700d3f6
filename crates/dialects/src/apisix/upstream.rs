//! ApisixUpstream: how the Service of the same name is used, or hosts outside of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use routing::model::tls::{TlsVersion, TlsVersions, Trust, UpstreamTls};
use routing::model::{
    BackendPolicy, Balancer, Crypto, HashKey, HealthCheck, OutlierDetection, Protocol, Retry,
    RetryWhen, Subject, Timeouts,
};

use super::instance::Outcome;
use super::{health, instance, vars};
use crate::fields::{Fields, quietly};
use crate::foreign::{BackendSpec, Object, Translation};
use crate::objects::{Name, Objects, Reader};
use crate::shared::text;
use crate::shared::upstream::judge_hosts;

/// Each of connecting and reading.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Further tries if nobody says how many.
const TRIES: u32 = 3;

/// Limits of time; `None` is the next one's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Times {
    connect: Option<Duration>,
    read: Option<Duration>,
}

impl Times {
    /// `timeout` of a rule or an upstream.
    pub(super) fn read(owner: &Fields<'_>) -> Self {
        let Some(fields) = owner.object("timeout") else {
            return Self::default();
        };
        if fields.parse("send", text::go_duration).is_some() {
            let message = "sending has no limit of its own; connect and read are in force";
            fields.refuse("send", "FieldDiffers", message);
        }
        Self {
            connect: fields.parse("connect", text::go_duration),
            read: fields.parse("read", text::go_duration),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            connect: self.connect.or(other.connect),
            read: self.read.or(other.read),
        }
    }
}

/// What the Host header says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Host {
    #[default]
    Pass,
    Node,
    Rewrite(Arc<str>),
}

/// How an upstream is used.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    times: Times,
    balancer: Option<(Balancer, Vec<HashKey>)>,
    retries: Option<u32>,
    /// It says how its nodes are spoken to.
    pub(super) is_scheme_written: bool,
    pub(super) http2: bool,
    is_tls: bool,
    client: Option<Name>,
    health: Option<HealthCheck>,
    outliers: Option<OutlierDetection>,
    pub(super) host: Host,
    /// Cannot be spoken to.
    pub(super) unusable: bool,
}

impl Settings {
    /// Puts what is said on a backend, over what is known of it; the rule's times come first. TLS
    /// is put by who knows the certificates.
    pub(super) fn apply(&self, of_rule: Times, spec: &mut BackendSpec) {
        let times = of_rule.or(self.times);
        let policy = Arc::make_mut(spec.policy.get_or_insert_default());
        if let Some((balancer, hash)) = &self.balancer {
            policy.balancer = balancer.clone();
            policy.hash.clone_from(hash);
        }
        policy.connect_timeout = times.connect.or(policy.connect_timeout);
        policy.health_check.clone_from(&self.health);
        if self.outliers.is_some() {
            policy.outliers.clone_from(&self.outliers);
        }
        if times.read.is_some() {
            let timeouts = spec.timeouts.get_or_insert_default();
            (timeouts.response_start, timeouts.idle) = (times.read, times.read);
        }
        if self.is_scheme_written {
            spec.protocol = Some(if self.http2 {
                Protocol::H2c
            } else {
                Protocol::Http1
            });
        }
    }

    /// As NGINX's `error timeout` without `non_idempotent`.
    pub(super) fn retry(&self) -> Option<Arc<Retry>> {
        let attempts = self.retries.unwrap_or(TRIES);
        (attempts > 0).then(|| {
            Arc::new(Retry {
                attempts,
                statuses: Vec::new(),
                on_failure: true,
                when: RetryWhen::default(),
                pause: Duration::ZERO,
                max_pause: Duration::ZERO,
                avoid_tried: true,
            })
        })
    }

    /// Nobody's certificate is verified, as in APISIX. `Err`: the client certificate is missing.
    pub(super) fn tls(
        &self,
        host: &str,
        reader: &Reader<'_>,
    ) -> Result<Option<Arc<UpstreamTls>>, String> {
        if !self.is_tls {
            return Ok(None);
        }
        let client = match &self.client {
            None => None,
            Some(name) => match reader.certificate(name) {
                Some(Ok(certificate)) => Some(Arc::clone(certificate)),
                Some(Err(why)) => return Err(format!("Secret {name} cannot be used: {why}")),
                None => return Err(format!("Secret {name} does not exist")),
            },
        };
        Ok(Some(Arc::new(UpstreamTls {
            server_name: match &self.host {
                Host::Rewrite(host) => Arc::clone(host),
                Host::Pass | Host::Node => host.into(),
            },
            accepted_names: Vec::new(),
            trust: Trust::Unverified,
            client,
            versions: TlsVersions {
                min: TlsVersion::V1_2,
                max: TlsVersion::V1_3,
            },
            crypto: Crypto::ANY,
        })))
    }
}

/// What a backend is like where nobody says anything.
pub(super) fn usual() -> BackendSpec {
    let policy = BackendPolicy {
        balancer: Balancer::RoundRobin,
        connect_timeout: Some(TIMEOUT),
        // NGINX keeps idle connections for a minute.
        idle_timeout: Some(TIMEOUT),
        ..BackendPolicy::default()
    };
    BackendSpec {
        policy: Some(Arc::new(policy)),
        timeouts: Some(Timeouts {
            request: None,
            response_start: Some(TIMEOUT),
            idle: Some(TIMEOUT),
            ends_answer: false,
        }),
        protocol: Some(Protocol::Http1),
        ..BackendSpec::default()
    }
}

/// Settings of an object for one of its ports: `portLevelSettings` come over the others.
pub(super) fn settings(object: &Object, port: Option<u16>) -> Settings {
    let namespace = &object.name.namespace;
    let mut settings = Settings::default();
    quietly(object.spec(), |spec| {
        read(spec, namespace, &mut settings);
        for level in spec.objects("portLevelSettings") {
            if port.is_some() && level.number::<u16>("port") == port {
                read(&level, namespace, &mut settings);
            }
        }
    });
    settings
}

/// The labels of a subset. `None` if there is no such one.
pub(super) fn subset(object: &Object, name: &str) -> Option<BTreeMap<String, String>> {
    let labels = |subset: &Fields<'_>| {
        let labels = subset.string_map("labels").into_iter();
        labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    quietly(object.spec(), |spec| {
        let subsets = spec.objects("subsets");
        let found = subsets.iter().find(|it| it.text("name") == Some(name));
        found.map(labels)
    })
}

/// Reads what there is over what was.
fn read(fields: &Fields<'_>, namespace: &str, settings: &mut Settings) {
    settings.times = Times::read(fields).or(settings.times);
    if let Some(retries) = fields.number("retries") {
        settings.retries = Some(retries);
    }
    settings.is_scheme_written |= fields.has("scheme");
    match fields.text("scheme") {
        None => {}
        Some("http") => (settings.http2, settings.is_tls) = (false, false),
        Some("https") => (settings.http2, settings.is_tls) = (false, true),
        Some("grpc") => (settings.http2, settings.is_tls) = (true, false),
        Some("grpcs") => (settings.http2, settings.is_tls) = (true, true),
        Some(other) => {
            settings.unusable = true;
            let message = format!(
                "scheme {other:?} is not http, https, grpc or grpcs: requests are answered 503"
            );
            fields.refuse("scheme", "SchemeNotSupported", message);
        }
    }
    if let Some(secret) = fields.object("tlsSecret") {
        let namespace = secret.text("namespace").unwrap_or(namespace);
        settings.client = secret.text("name").map(|name| Name::new(namespace, name));
    }
    let upstream_host = fields.text("upstreamHost");
    settings.host = match (fields.text("passHost"), upstream_host) {
        (None, None) => settings.host.clone(),
        (Some("pass"), _) => Host::Pass,
        (Some("node"), _) => Host::Node,
        (Some("rewrite") | None, Some(host)) => Host::Rewrite(host.into()),
        (Some(other), _) => {
            let message =
                format!("passHost {other:?} is not pass, node, or rewrite with upstreamHost");
            fields.refuse("passHost", "FieldInvalid", message);
            settings.host.clone()
        }
    };
    if let Some(balancer) = fields.object("loadbalancer") {
        settings.balancer = Some(balance(&balancer));
    }
    if let Some(checks) = fields.object("healthCheck") {
        settings.health = checks
            .object("active")
            .map(|active| health::active(&active));
        settings.outliers = checks
            .object("passive")
            .map(|passive| health::passive(&passive));
    }
    let remedy = "give the upstream a Service, or externalNodes";
    fields.unsupported("discovery", remedy);
}

fn balance(fields: &Fields<'_>) -> (Balancer, Vec<HashKey>) {
    let (hash_on, key) = (fields.text("hashOn"), fields.text("key"));
    let kind = fields.text("type").unwrap_or("roundrobin");
    if kind != "chash" {
        for key in ["hashOn", "key"] {
            fields.unsupported(
                key,
                "it counts with type chash alone, remove it or set the type",
            );
        }
    }
    let balancer = match kind {
        "roundrobin" => Balancer::RoundRobin,
        "least_conn" => Balancer::LeastRequest,
        "ewma" => {
            let message = "ewma is served as least_conn: latencies are not weighed";
            fields.refuse("type", "FieldDiffers", message);
            Balancer::LeastRequest
        }
        "chash" => match hash_key(hash_on.unwrap_or("vars"), key.unwrap_or("remote_addr")) {
            Ok(key) => {
                let ring = Balancer::RingHash {
                    min: 1024,
                    max: 8 * 1024 * 1024,
                };
                return (ring, vec![key]);
            }
            Err(error) => {
                let message = format!("{error}: roundrobin is used");
                fields.refuse("hashOn", "FieldNotSupported", message);
                Balancer::RoundRobin
            }
        },
        other => {
            let message = format!(
                "type {other:?} is not roundrobin, chash, ewma or least_conn: roundrobin is used"
            );
            fields.refuse("type", "FieldInvalid", message);
            Balancer::RoundRobin
        }
    };
    (balancer, Vec::new())
}

fn hash_key(on: &str, key: &str) -> Result<HashKey, String> {
    let cookie = |name: Arc<str>| HashKey::Cookie {
        name,
        path: None,
        set_for: None,
        attributes: Vec::new(),
    };
    match on {
        "header" => crate::shared::headers::name(key).map(HashKey::Header),
        "cookie" => Ok(cookie(key.into())),
        "vars" => match vars::variable(key)? {
            Subject::Client | Subject::Peer => Ok(HashKey::Client),
            Subject::Header(name) => Ok(HashKey::Header(name)),
            Subject::Query(name) => Ok(HashKey::Query(name)),
            Subject::Cookie(name) => Ok(cookie(name)),
            _ => Err(format!("variable {key:?} does not decide about endpoints")),
        },
        other => Err(format!("hashOn {other:?} is not supported")),
    }
}

/// Whether the certificate that is shown to endpoints is there, and is shown.
fn check_secret(fields: &Fields<'_>, settings: &Settings, reader: &Reader<'_>) {
    if fields.has("tlsSecret") && !settings.is_tls {
        let message = "it counts with scheme https or grpcs alone";
        fields.refuse("tlsSecret", "FieldDiffers", message);
    }
    if let Err(error) = settings.tls("", reader) {
        let message = format!("{error}: requests are answered 503");
        fields.refuse("tlsSecret", "SecretInvalid", message);
    }
}

pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, reader, _| {
        let namespace = &object.name.namespace;
        let mut settings = Settings::default();
        read(spec, namespace, &mut settings);
        for level in spec.objects("portLevelSettings") {
            if level.number::<u16>("port").is_none() {
                let message = "port is missing: it is for no port";
                level.refuse("port", "FieldMissing", message);
            }
            let mut settings = settings.clone();
            read(&level, namespace, &mut settings);
            check_secret(&level, &settings, reader);
        }
        for subset in spec.objects("subsets") {
            subset.text("name");
            subset.string_map("labels");
        }
        let (hosts, _) = super::backend::external(spec);
        let hosts = hosts.iter().map(|host| &*host.host);
        judge_hosts(reader, spec.findings(), &spec.at("externalNodes"), hosts);
        check_secret(spec, &settings, reader);
        if settings.unusable {
            Outcome::Refused
        } else {
            Outcome::Served
        }
    })
}
