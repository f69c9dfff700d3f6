//! `config-kourier`: what Kourier's users set about its gateway. Suimon's own gateway stands for
//! Kourier's. Who is believed about clients' addresses is served; what else it is set to is said by
//! flags, so every value is judged as Kourier does, and what would change something is reported
//! with what to do instead. Authorization by another server is refused: without it requests would
//! pass that must be asked about.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::ConfigError;
use super::reader::{self, Reader};

/// What of it is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kourier {
    /// The client's address is so many places from the end of `X-Forwarded-For`; zero is the other
    /// end of the connection.
    pub client_hops: u32,
}

impl Kourier {
    /// # Errors
    /// Every mistake in it.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, Vec<ConfigError>> {
        // What is told of the flag does not matter here.
        reader::parse(data, |reader| read(reader, false))
    }
}

/// `has_preamble`: whether the gateway was started with `--proxy-protocol`.
pub(super) fn read(reader: &Reader<'_>, has_preamble: bool) -> Kourier {
    listeners(reader, has_preamble);
    let client_hops = clients(reader);
    authorization(reader);
    certificates(reader);
    telemetry(reader);
    Kourier { client_hops }
}

/// Warns if a truth value is not what the gateway does anyway.
fn flag(reader: &Reader<'_>, key: &'static str, as_served: bool, why: &str) {
    if reader.boolean(key, as_served) != as_served {
        reader.without_effect(key, why);
    }
}

fn named(reader: &Reader<'_>, key: &'static str, why: &str) {
    if !reader.string(key, "").is_empty() {
        reader.without_effect(key, why);
    }
}

fn listeners(reader: &Reader<'_>, has_preamble: bool) {
    let why = match has_preamble {
        true => "the gateway is started with --proxy-protocol, which is what holds",
        false => "start the gateway with --proxy-protocol",
    };
    flag(reader, "enable-proxy-protocol", has_preamble, why);
    let addresses = reader.string("listen-ip-addresses", "");
    for address in addresses.split(',').map(str::trim) {
        let is_valid = address.is_empty() || address.parse::<IpAddr>().is_ok();
        reader.ensure(is_valid, "listen-ip-addresses", || {
            format!("listen-ip-addresses: {address:?} is not an address")
        });
    }
    let why = "the gateway listens on the address of --listen";
    named(reader, "listen-ip-addresses", why);
    if reader.duration("stream-idle-timeout", Duration::ZERO) > Duration::ZERO {
        let why = "silence on a stream is limited by the Revision's idleTimeoutSeconds";
        reader.without_effect("stream-idle-timeout", why);
    }
    let why = "the gateway's cryptography is what it is on this machine";
    flag(reader, "enable-cryptomb", false, why);
    let why = "the gateway names no server by itself";
    flag(reader, "disable-envoy-server-header", true, why);
}

/// As Envoy counts: `use-remote-address` makes the connection's own end the last hop; without it
/// the last address of the field is believed besides, so that is one more. Where neither key is
/// set nobody is believed, as if `use-remote-address` were true.
fn clients(reader: &Reader<'_>) -> u32 {
    const MOST: i64 = 1000;
    let hops = reader.integer("trusted-hops-count", 0);
    reader.ensure((0..=MOST).contains(&hops), "trusted-hops-count", || {
        format!("trusted-hops-count = {hops}, must be between 0 and {MOST}")
    });
    let says_address = reader.text("use-remote-address").is_some();
    let is_remote = reader.boolean("use-remote-address", !says_address && hops == 0);
    let hops = u32::try_from(hops).unwrap_or_default();
    if is_remote { hops } else { hops + 1 }
}

fn authorization(reader: &Reader<'_>) {
    const BYTES: i64 = 8192;
    const MILLISECONDS: i64 = 2000;
    let host = reader.string("extauthz-host", "");
    reader.ensure(host.is_empty(), "extauthz-host", || {
        format!(
            "extauthz-host = {host:?}: authorization for the whole gateway is not supported, and \
             without it requests would pass; write an AuthorizationPolicy with action CUSTOM \
             (istio.io) for its hosts instead"
        )
    });
    let why = "extauthz-host is not set, so nobody is asked";
    let protocols = [("grpc", ()), ("http", ()), ("https", ())];
    reader.word("extauthz-protocol", (), &protocols);
    reader.boolean("extauthz-failure-mode-allow", false);
    reader.boolean("extauthz-pack-as-bytes", false);
    for (key, default) in [
        ("extauthz-max-request-body-bytes", BYTES),
        ("extauthz-timeout", MILLISECONDS),
    ] {
        let value = reader.integer(key, default);
        reader.ensure(value >= 0, key, || {
            format!("{key} = {value}, must not be below 0")
        });
    }
    for key in [
        "extauthz-protocol",
        "extauthz-failure-mode-allow",
        "extauthz-max-request-body-bytes",
        "extauthz-timeout",
        "extauthz-path-prefix",
        "extauthz-pack-as-bytes",
    ] {
        reader.without_effect(key, why);
    }
}

fn certificates(reader: &Reader<'_>) {
    let name = reader.string("certs-secret-name", "");
    let namespace = reader.string("certs-secret-namespace", "");
    reader.ensure(
        name.is_empty() == namespace.is_empty(),
        "certs-secret-name",
        || "certs-secret-name and certs-secret-namespace must both be set".to_owned(),
    );
    let why = "hosts without a certificate of their own get one of the gateway's authority";
    named(reader, "certs-secret-name", why);
    named(reader, "certs-secret-namespace", why);
    let why = "cluster-local hosts are served without TLS";
    named(reader, "cluster-cert-secret", why);
    let why = "the gateway offers its own cipher suites";
    named(reader, "cipher-suites", why);
}

fn telemetry(reader: &Reader<'_>) {
    // One log for the whole gateway, chosen where it is started; off unless it is there.
    let why = "the gateway's access log is access-log of the settings file";
    if reader.text("enable-service-access-logging").is_some() {
        flag(reader, "enable-service-access-logging", false, why);
    }
    let why = "the shape of a line is access-log.format and access-log.template of the settings \
               file, in Go's template language; Envoy's is not read";
    named(reader, "service-access-log-template", why);
    let why = "the gateway sends no traces";
    named(reader, "tracing-endpoint", why);
    named(reader, "tracing-service-name", why);
    let protocols = [("http", ()), ("grpc", ()), ("http/protobuf", ())];
    reader.word("tracing-protocol", (), &protocols);
    reader.without_effect("tracing-protocol", why);
    let rate = reader.float("tracing-sampling-rate", 0.0);
    reader.ensure((0.0..=1.0).contains(&rate), "tracing-sampling-rate", || {
        format!("tracing-sampling-rate = {rate}, must be between 0 and 1")
    });
    reader.without_effect("tracing-sampling-rate", why);
}
