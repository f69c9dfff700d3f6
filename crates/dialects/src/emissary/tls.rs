//! TLSContexts, and what Hosts and Mappings make of them: certificates shown, asked for, trusted.

use std::sync::Arc;

use routing::model::Crypto;
use routing::model::tls::{
    Alpn, CaBundle, Certificate, ClientCertificates, Termination, TlsAction, TlsVersion,
    TlsVersions, Trust, UpstreamTls,
};
use serde_json::Value;

use super::glob::Glob;
use super::{HOST, TLS_CONTEXT, door, host, instance, module};
use crate::diagnostic::Effect;
use crate::fields::{self, Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::objects::{Name, Objects, Reader};
use crate::shared::{authority, crypto};

/// A TLSContext is found by its name, in whatever namespace it is.
pub(super) fn keys(object: &Object) -> Vec<Arc<str>> {
    if instance::is_ours(object) {
        vec![Arc::clone(&object.name.name)]
    } else {
        Vec::new()
    }
}

/// What a context says.
struct Options {
    certificate: Option<Arc<Certificate>>,
    /// A Secret is named, whether or not it can be used.
    has_secret: bool,
    authorities: Option<Arc<CaBundle>>,
    is_required: bool,
    /// Clients were to be verified and cannot be.
    is_open: bool,
    versions: TlsVersions,
    /// `None` if handshakes have nothing left to settle on.
    crypto: Option<Crypto>,
    protocols: Vec<Alpn>,
    /// The protocols were written.
    has_protocols: bool,
    sni: Option<Arc<str>>,
}

fn options(fields: &Fields<'_>, namespace: &str, reader: &Reader<'_>) -> Options {
    let is_namespaced = fields.bool("secret_namespacing") != Some(false);
    let named = |key: &str| {
        let text = fields.text(key)?;
        Some(instance::secret_name(text, namespace, is_namespaced))
    };
    let secret = named("secret");
    let authorities = named("ca_secret").map(|name| {
        let bundle = authority::bundle(reader, &name);
        bundle.map_err(|(effect, reason, text)| {
            fields
                .findings()
                .say(effect, reason, &fields.at("ca_secret"), text);
        })
    });
    let from_secret = "put it into a Secret and name that in secret or ca_secret";
    for key in [
        "cert_chain_file",
        "private_key_file",
        "cacert_chain_file",
        "crl_file",
    ] {
        fields.unsupported(key, from_secret);
    }
    let remedy = "revoked certificates are not told apart: let client certificates be short-lived";
    fields.unsupported("crl_secret", remedy);
    let remedy = "write requestPolicy.insecure.action Redirect in the Host";
    fields.unsupported("redirect_cleartext_from", remedy);
    let versions = versions(fields);
    Options {
        has_secret: secret.is_some(),
        certificate: secret.and_then(|name| certificate(fields, "secret", &name, reader)),
        is_required: fields.bool("cert_required") == Some(true),
        is_open: matches!(authorities, Some(Err(()))),
        authorities: authorities.and_then(Result::ok),
        versions,
        crypto: crypto(fields, versions),
        protocols: protocols(fields),
        has_protocols: fields.has("alpn_protocols"),
        sni: fields.text("sni").map(Into::into),
    }
}

fn certificate(
    fields: &Fields<'_>,
    key: &str,
    name: &Name,
    reader: &Reader<'_>,
) -> Option<Arc<Certificate>> {
    let field = fields.at(key);
    match reader.certificate(name) {
        Some(Ok(certificate)) => Some(Arc::clone(certificate)),
        Some(Err(why)) => {
            let text = format!("Secret {name} cannot be used: {why}");
            fields.findings().refuse("SecretInvalid", &field, text);
            None
        }
        None => {
            let text =
                format!("Secret {name} does not exist; create it with type kubernetes.io/tls");
            let findings = fields.findings();
            findings.say(Effect::Waiting, "SecretMissing", &field, text);
            None
        }
    }
}

fn versions(fields: &Fields<'_>) -> TlsVersions {
    let version = |key: &str, otherwise: TlsVersion| match fields.text(key) {
        None => otherwise,
        Some("v1.2") => TlsVersion::V1_2,
        Some("v1.3") => TlsVersion::V1_3,
        Some(other) => {
            let message = format!("{key} {other:?} is not v1.2 or v1.3, older ones are not spoken");
            fields.refuse(key, "VersionNotSupported", message);
            TlsVersion::V1_2
        }
    };
    let min = version("min_tls_version", TlsVersion::V1_2);
    let max = version("max_tls_version", TlsVersion::V1_3);
    if max < min {
        let message = "max_tls_version is below min_tls_version, which decides";
        fields.refuse("max_tls_version", "VersionInvalid", message);
    }
    TlsVersions {
        min,
        max: max.max(min),
    }
}

fn crypto(fields: &Fields<'_>, versions: TlsVersions) -> Option<Crypto> {
    let read = crypto::read(fields, ("cipher_suites", "ecdh_curves"), versions);
    let told = read.map_err(|(key, text)| fields.refuse(key, "NothingOffered", text));
    told.ok()
}

fn protocols(fields: &Fields<'_>) -> Vec<Alpn> {
    let mut protocols = Vec::new();
    for name in super::headers::list(fields, "alpn_protocols") {
        match name.as_str() {
            "h2" => protocols.push(Alpn::Http2),
            "http/1.1" => protocols.push(Alpn::Http1),
            other => {
                let message = format!("{other:?} is not h2 or http/1.1, and is left out");
                fields.refuse("alpn_protocols", "ProtocolNotSupported", message);
            }
        }
    }
    if protocols.is_empty() {
        protocols = vec![Alpn::Http2, Alpn::Http1];
    }
    protocols
}

/// `None` if there is no certificate, clients would not be verified as they should be, or there is
/// nothing that handshakes could settle on.
fn terminate(options: Options) -> Option<TlsAction> {
    if options.is_open {
        return None;
    }
    Some(TlsAction::Terminate(Termination {
        certificates: vec![options.certificate?],
        versions: options.versions,
        crypto: options.crypto?,
        protocols: options.protocols,
        client: match (options.authorities, options.is_required) {
            (Some(bundle), true) => ClientCertificates::Require(bundle),
            (Some(bundle), false) => ClientCertificates::Optional(bundle),
            (None, _) => ClientCertificates::None,
        },
    }))
}

/// The context of this name: of this namespace, or the first there is.
fn context<'a>(reader: &Reader<'a>, namespace: &str, name: &str) -> Option<&'a Arc<Object>> {
    let found: Vec<_> = reader.foreign_by_key(&TLS_CONTEXT, name).collect();
    let near = found.iter().find(|it| &*it.name.namespace == namespace);
    near.or_else(|| found.first()).copied()
}

fn options_of(context: &Object, reader: &Reader<'_>) -> Options {
    let namespace = &context.name.namespace;
    fields::quietly(context.spec(), |spec| options(spec, namespace, reader))
}

/// How connections for a name are ended that are not HTTP: as the Host says that is nearest to it,
/// or else as the first TLSContext that names it. What no context says is not offered: whether
/// there is HTTP inside, and which, is for the Service to say. And when the object that says it was
/// made.
pub(super) fn of_name(name: &Glob, reader: &Reader<'_>) -> Option<(Termination, i64)> {
    let hosts = reader.foreign_all(&HOST);
    let mut hosts: Vec<_> = hosts
        .filter(|it| instance::is_ours(it))
        .filter_map(|object| {
            let text = object.spec()["hostname"].as_str().unwrap_or("*");
            let glob = Glob::parse(text).ok().filter(|glob| glob.contains(name))?;
            Some((std::cmp::Reverse(glob.key().len()), object))
        })
        .collect();
    hosts.sort_by_key(|(length, object)| (*length, &object.name));
    let by_host = hosts.into_iter().find_map(|(_, object)| {
        let read = |spec: &Fields<'_>| host_options(spec, object, reader);
        Some((fields::quietly(object.spec(), read)?, object.created))
    });
    let (options, created) = by_host.or_else(|| {
        let contexts = reader.foreign_all(&TLS_CONTEXT);
        let mut contexts = contexts.filter(|it| instance::is_ours(it));
        contexts.find_map(|object| {
            let hosts = object.spec()["hosts"].as_array()?;
            let mut hosts = hosts.iter().filter_map(Value::as_str);
            hosts.find(|it| Glob::parse(it).is_ok_and(|it| it.contains(name)))?;
            let options = options_of(object, reader);
            let has_one = options.certificate.is_some();
            has_one.then_some((options, object.created))
        })
    })?;
    let has_protocols = options.has_protocols;
    match terminate(options)? {
        TlsAction::Terminate(mut termination) => {
            if !has_protocols {
                termination.protocols.clear();
            }
            Some((termination, created))
        }
        _ => None,
    }
}

/// How the connections of a Host are ended: `tlsSecret` with the options of `tls` or of the
/// context that `tlsContext` names.
pub(super) fn of_host(
    spec: &Fields<'_>,
    object: &Object,
    reader: &Reader<'_>,
) -> Option<TlsAction> {
    terminate(host_options(spec, object, reader)?)
}

/// `None` without a certificate.
fn host_options(spec: &Fields<'_>, object: &Object, reader: &Reader<'_>) -> Option<Options> {
    let namespace = &object.name.namespace;
    let secret = spec.object("tlsSecret").and_then(|secret| {
        let namespace = secret.text("namespace").unwrap_or(namespace);
        let name = secret.text("name").map(|name| Name::new(namespace, name));
        if name.is_none() {
            secret.refuse("name", "SecretNameMissing", "the Secret has no name");
        }
        name
    });
    let inline = spec.object("tls");
    let named = spec.object("tlsContext");
    let mut found = None;
    if let Some(name) = named.as_ref().and_then(|named| named.text("name")) {
        if let Some(context) = context(reader, namespace, name) {
            found = Some(options_of(context, reader));
        } else {
            let text = format!("TLSContext {name} does not exist");
            let findings = spec.findings();
            findings.say(
                Effect::Waiting,
                "TLSContextMissing",
                "spec.tlsContext",
                text,
            );
            return None;
        }
    }
    if let Some(inline) = &inline {
        if found.is_some() {
            inline.pass_over();
            let message = "tlsContext is there too, and decides; remove tls";
            spec.refuse("tls", "ContextTwice", message);
        } else {
            let remedy =
                "it is for TLS to Services: write it into a TLSContext that a Mapping names";
            inline.unsupported("sni", remedy);
            found = Some(options(inline, namespace, reader));
        }
    }
    let null = Value::Null;
    let mut options = found.unwrap_or_else(|| {
        let findings = Findings::default();
        let empty = Fields::new(&null, String::new(), &findings);
        options(&empty, namespace, reader)
    });
    if let Some(name) = secret {
        let fields = spec.object("tlsSecret")?;
        fields.pass_over();
        options.certificate = certificate(&fields, "name", &name, reader);
    }
    options.certificate.is_some().then_some(options)
}

/// A context alone ends TLS for its own `hosts`.
pub(super) fn translate(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, reader, out| {
        let hosts = spec.strings("hosts");
        let options = options(spec, &object.name.namespace, reader);
        if options.is_required && options.authorities.is_none() {
            let message = "cert_required needs ca_secret: no certificate is asked for";
            spec.refuse("cert_required", "AuthorityMissing", message);
        }
        if !options.has_secret {
            return;
        }
        let Some(action) = terminate(options) else {
            return;
        };
        let doors = door::doors(reader, module::settings(reader).trusts_proxies);
        for text in hosts {
            let pattern = Glob::parse(text).ok().and_then(|glob| glob.pattern());
            let Some(pattern) = pattern else {
                let message =
                    format!("{text:?} is no name and no `*.` name: it has no certificate");
                spec.refuse("hosts", "HostInvalid", message);
                continue;
            };
            for door in doors.iter().filter(|door| door.is_tls != Some(false)) {
                let record = host::record(object, "spec.secret", door, pattern.clone(), &action);
                out.tls.push(record);
            }
        }
    })
}

/// How a backend is spoken to over TLS: `tls` is true or names a context. `Ok(None)`: not at all.
pub(super) fn upstream(
    fields: &Fields<'_>,
    namespace: &str,
    written: &super::service::Written,
    reader: &Reader<'_>,
) -> Result<Option<Arc<UpstreamTls>>, ()> {
    let mut tls = UpstreamTls {
        server_name: written.host.as_str().into(),
        accepted_names: Vec::new(),
        // Without a context Envoy is given nothing to verify with.
        trust: Trust::Unverified,
        client: None,
        versions: TlsVersions {
            min: TlsVersion::V1_2,
            max: TlsVersion::V1_3,
        },
        crypto: Crypto::ANY,
    };
    let name = match fields.raw("tls") {
        Some(Value::Bool(true)) => return Ok(Some(Arc::new(tls))),
        Some(Value::String(name)) if !name.is_empty() => name,
        None | Some(Value::Bool(false) | Value::String(_)) => {
            return Ok(written.is_https.then(|| Arc::new(tls)));
        }
        Some(_) => {
            let message = "tls must be true or the name of a TLSContext";
            fields.refuse("tls", "FieldInvalid", message);
            return Err(());
        }
    };
    let Some(context) = context(reader, namespace, name) else {
        let text = format!("TLSContext {name} does not exist");
        let findings = fields.findings();
        findings.say(
            Effect::Waiting,
            "TLSContextMissing",
            &fields.at("tls"),
            text,
        );
        return Err(());
    };
    let options = options_of(context, reader);
    let is_bare = options.has_secret && options.certificate.is_none();
    let Some(crypto) = options.crypto.filter(|_| !options.is_open && !is_bare) else {
        let message = format!("TLSContext {} cannot be used, see there", context.name);
        fields.refuse("tls", "TLSContextInvalid", message);
        return Err(());
    };
    if let Some(bundle) = options.authorities {
        tls.trust = Trust::Bundle(bundle);
    }
    if let Some(sni) = options.sni {
        tls.server_name = sni;
    }
    tls.client = options.certificate;
    tls.versions = options.versions;
    tls.crypto = crypto;
    Ok(Some(Arc::new(tls)))
}
