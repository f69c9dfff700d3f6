//! ContourConfiguration: the little of it that decides about objects. The rest is about Envoy and
//! Contour themselves, and is reported.

use std::sync::Arc;

use routing::model::tls::{TlsVersion, TlsVersions};
use routing::model::{ClientSource, Preamble, Suite};

use super::CONFIGURATION;
use super::extension::Asked;
use super::limit::Service;
use super::status::Judgement;
use super::tls::version;
use crate::fields::{Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::objects::{Objects, Reader};
use crate::shared::{client, crypto, preamble};

/// What HTTPProxies must know.
#[derive(Default)]
pub(super) struct Settings {
    /// Where roots may be; empty is everywhere.
    root_namespaces: Vec<String>,
    pub(super) forbids_insecure: bool,
    /// Who decides about hosts that do not say so themselves.
    pub(super) authorization: Option<Asked>,
    /// Who keeps limits for all.
    pub(super) limits: Option<Service>,
    /// Who may say the client's address.
    pub(super) client: Option<Arc<ClientSource>>,
    /// What all hosts are held within; `None` where nothing is said.
    pub(super) versions: Option<TlsVersions>,
    /// Of TLS 1.2, in groups; empty is every one.
    pub(super) suites: Vec<Vec<Suite>>,
    /// Those that are wanted are not there: no TLS is ended.
    pub(super) has_no_suites: bool,
}

impl Settings {
    /// Of the first configuration by name: Contour has one.
    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let first = reader.foreign_all(&CONFIGURATION).next();
        first.map_or_else(Self::default, |object| {
            Self::of(object, reader, &Findings::default())
        })
    }

    pub(super) fn is_root_namespace(&self, namespace: &str) -> bool {
        self.root_namespaces.is_empty() || self.root_namespaces.iter().any(|it| it == namespace)
    }

    fn of(object: &Object, reader: &Reader<'_>, findings: &Findings) -> Self {
        let root = Fields::new(&object.body, String::new(), findings);
        let Some(spec) = root.object("spec") else {
            return Self::default();
        };
        let mut out = Self::default();
        if let Some(proxy) = spec.object("httpproxy") {
            let names = proxy.strings("rootNamespaces").into_iter();
            out.root_namespaces = names.map(str::to_owned).collect();
            out.forbids_insecure = proxy.bool("disablePermitInsecure").unwrap_or(false);
            proxy.unsupported("fallbackCertificate", "give every host a certificate");
        }
        let namespace: &Arc<str> = &object.name.namespace;
        let asked = spec
            .object("globalExtAuth")
            .map(|it| Asked::read(&it, namespace));
        out.authorization = asked.filter(Asked::is_named);
        if spec.bool("enableExternalNameService").unwrap_or(false) {
            let text =
                "Services of type ExternalName are served only if they stand for this gateway";
            spec.refuse("enableExternalNameService", "FieldNotSupported", text);
        }
        let own = "the gateway has settings of its own";
        if let Some(envoy) = spec.object("envoy") {
            out.client = envoy.object("network").and_then(|it| network(&it));
            if let Some(listener) = envoy.object("listener") {
                out.listener(&listener, reader);
            }
            for key in envoy
                .keys()
                .filter(|key| !["network", "listener"].contains(key))
            {
                envoy.unsupported(key, own);
            }
        }
        for key in [
            "xdsServer",
            "ingress",
            "debug",
            "health",
            "gateway",
            "metrics",
        ] {
            spec.unsupported(key, own);
        }
        spec.unsupported("policy", "say headers in each HTTPProxy");
        let limits = spec.object("rateLimitService");
        out.limits = limits.map(|it| Service::read(&it, reader));
        spec.unsupported("tracing", own);
        spec.unsupported("featureFlags", own);
        out
    }
}

impl Settings {
    /// `envoy.listener`: what of TLS is said for all hosts, and whether a balancer is in front.
    fn listener(&mut self, fields: &Fields<'_>, reader: &Reader<'_>) {
        let own = "the gateway has settings of its own";
        for key in fields.keys() {
            match key {
                "tls" => {}
                "useProxyProtocol" => {
                    let place = (fields.findings(), &*fields.at(key));
                    if let Some(wanted) = fields.bool(key) {
                        let wanted = wanted.then_some(Preamble::Required);
                        preamble::at_shared(wanted, reader, place);
                    }
                }
                _ => fields.unsupported(key, own),
            }
        }
        let Some(tls) = fields.object("tls") else {
            return;
        };
        let versions = TlsVersions {
            min: version(&tls, "minimumProtocolVersion", TlsVersion::V1_2),
            max: version(&tls, "maximumProtocolVersion", TlsVersion::V1_3),
        };
        if versions.max < versions.min {
            let text = "the minimum protocol version is greater than the maximum protocol version; \
                        no TLS is ended";
            tls.refuse("minimumProtocolVersion", "NothingOffered", text);
        }
        self.versions = Some(versions);
        // It has no curves.
        match crypto::read(&tls, ("cipherSuites", ""), versions) {
            Ok(crypto) => self.suites = crypto.suites,
            Err((key, text)) => {
                self.has_no_suites = true;
                tls.refuse(key, "NothingOffered", format!("{text}; no TLS is ended"));
            }
        }
    }
}

/// `envoy.network`: how many proxies are in front.
fn network(fields: &Fields<'_>) -> Option<Arc<ClientSource>> {
    let own = "the gateway has settings of its own";
    for key in fields.keys().filter(|key| *key != "numTrustedHops") {
        fields.unsupported(key, own);
    }
    client::behind(fields.number("numTrustedHops").unwrap_or(0))
}

/// The status of a configuration.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    let findings = Findings::default();
    Settings::of(object, &reader, &findings);
    let first = reader.foreign_all(&CONFIGURATION).next();
    if first.is_some_and(|first| first.name < object.name) {
        let text = "another ContourConfiguration comes first by name; this one changes nothing";
        findings.refuse("ConfigurationIgnored", "spec", text);
    }
    told("ContourConfiguration", object, &findings, reader)
}

/// The status of a deployment: nothing of it is for us.
pub(super) fn judge_deployment(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    let findings = Findings::default();
    let root = Fields::new(&object.body, String::new(), &findings);
    if let Some(spec) = root.object("spec") {
        for key in spec.keys() {
            spec.unsupported(key, "no Envoy is deployed, the gateway is this process");
        }
    }
    drop(root);
    told("ContourDeployment", object, &findings, reader)
}

fn told(what: &str, object: &Object, findings: &Findings, reader: Reader<'_>) -> Translation {
    let mut judgement = Judgement::default();
    judgement.absorb(findings);
    Translation {
        diagnostics: judgement.diagnostics(),
        status: Some(judgement.conditions(what, object.generation)),
        reads: reader.into_read(),
        ..Translation::default()
    }
}
