//! `AuthConfig`: who may pass, by a password, by a key, by a token, or as a server says.
//!
//! All entries of `configs` must let a request pass; of credentials, tokens and servers there may be
//! one each. What is not served closes the routes that refer to it: everybody would pass.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    Authorization, AuthorizationProtocol, Credentials, ExternalAuthorization, Secret, TokenPlace,
    Tokens,
};

use super::extauth::{self, Choice};
use super::filter::duration;
use super::matcher::flag;
use super::options::Options;
use super::status::{CLOSED, Judgement};
use super::upstream::{self, Backends};
use super::{AUTH_CONFIG, oauth, reference};
use crate::fields::{Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::objects::{Name, Objects, Reader};
use crate::shared::headers;

/// Who passed, for the Service.
const USER: &str = "x-user-id";
/// Gloo's, where nothing is said.
const KEY_HEADER: &str = "api-key";
const TIMEOUT: Duration = Duration::from_secs(5);
/// The only key of Secrets with a key.
const SECRET_KEY: &str = "api-key";

/// What is asked of requests.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) credentials: Option<Arc<Credentials>>,
    pub(super) external: Option<Arc<ExternalAuthorization>>,
    pub(super) tokens: Option<Arc<Tokens>>,
    /// Of tokens.
    pub(super) authorization: Option<Arc<Authorization>>,
}

/// What an object asks, its server's backend put to the others.
fn find(name: &Name, backends: &mut Backends<'_, '_>) -> Result<Asked, String> {
    let object = backends.reader.foreign(&AUTH_CONFIG, name);
    let object = object.ok_or_else(|| format!("AuthConfig {name} does not exist"))?;
    let findings = Findings::default();
    let asked = read(object, &findings, backends);
    let mut judgement = Judgement::default();
    judgement.absorb(&findings);
    if judgement.is_rejected() {
        return Err(format!("AuthConfig {name} cannot be served, see there"));
    }
    Ok(asked)
}

/// Puts those who are asked to the guards of options that say who.
pub(super) fn ask(options: &mut Options, backends: &mut Backends<'_, '_>) -> Result<(), String> {
    let guards = &mut options.guards;
    match &options.external {
        Choice::Asked { server, context } => {
            let external = extauth::find(server, context, backends)?;
            guards.external = Some(Arc::new(external));
        }
        Choice::Config(name) => {
            let asked = find(name, backends)?;
            guards.external = asked.external;
            guards.credentials = asked.credentials;
            guards.tokens = asked.tokens;
            guards.authorization = asked.authorization;
        }
        Choice::Inherited | Choice::Off => {}
    }
    if let Some(tokens) = options.jwt.tokens(backends)?
        && guards.tokens.replace(Arc::new(tokens)).is_some()
    {
        let text = "tokens are verified once: the options say jwt, and the AuthConfig says oauth2";
        return Err(text.to_owned());
    }
    Ok(())
}

fn read(object: &Object, findings: &Findings, backends: &mut Backends<'_, '_>) -> Asked {
    let root = Fields::new(&object.body, String::new(), findings);
    let mut asked = Asked::default();
    let Some(spec) = root.object("spec") else {
        findings.refuse(CLOSED, "spec", "it asks for nothing: write configs");
        return asked;
    };
    if spec.has("booleanExpr") {
        let text = "booleanExpr is not supported: all of configs must let a request pass";
        spec.refuse("booleanExpr", CLOSED, text);
    }
    if spec.raw("failOnRedirect").is_some() {
        spec.unsupported("failOnRedirect", "remove it: no login is served");
    }
    let configs = spec.objects("configs");
    if configs.is_empty() {
        spec.refuse("configs", CLOSED, "it asks for nothing: write an entry");
    }
    for config in &configs {
        // A name for booleanExpr.
        config.ignore("name");
        let credentials = entry(config, object, backends, &mut asked);
        if let Some(credentials) = credentials
            && asked.credentials.replace(Arc::new(credentials)).is_some()
        {
            let text = "passwords and keys are asked for once: write one AuthConfig for each";
            findings.refuse(CLOSED, config.path(), text);
        }
    }
    asked
}

fn entry(
    config: &Fields<'_>,
    object: &Object,
    backends: &mut Backends<'_, '_>,
    asked: &mut Asked,
) -> Option<Credentials> {
    if let Some(basic) = config.object("basicAuth") {
        return Some(passwords(&basic));
    }
    if let Some(keys) = config.object("apiKeyAuth") {
        return Some(self::keys(&keys, object, backends.reader));
    }
    if let Some(server) = config.object("passThroughAuth") {
        if let Some(found) = self::server(&server, object, backends)
            && asked.external.replace(Arc::new(found)).is_some()
        {
            let text = "one server is asked, not several";
            config.refuse("passThroughAuth", CLOSED, text);
        }
        return None;
    }
    if let Some(oauth) = config.object("oauth2") {
        let found = oauth::read(&oauth, object)?;
        asked.authorization = found.scopes.map(Arc::new);
        if asked.tokens.replace(Arc::new(found.tokens)).is_some() {
            let text = "access tokens are verified once";
            config.refuse("oauth2", CLOSED, text);
        }
        return None;
    }
    let others = config.keys().filter(|key| *key != "name");
    let others: Vec<_> = others.collect();
    for key in &others {
        let remedy = match *key {
            "jwt" => "write jwtStaged into the options, or oauth2 with accessTokenValidation",
            _ => "write passThroughAuth with a server of your own that does it",
        };
        let text = format!("{key} is not supported, and without it everybody would pass; {remedy}");
        config.ignore(key);
        config.refuse(key, CLOSED, text);
    }
    if others.is_empty() {
        let text = "it asks for nothing: write basicAuth, apiKeyAuth, oauth2 or passThroughAuth";
        config.findings().refuse(CLOSED, config.path(), text);
    }
    None
}

fn passwords(basic: &Fields<'_>) -> Credentials {
    let mut users = Vec::new();
    if let Some(apr) = basic.object("apr")
        && let Some(all) = apr.object("users")
    {
        for name in all.keys() {
            let Some(user) = all.object(name) else {
                continue;
            };
            let (salt, hash) = (user.text("salt"), user.text("hashedPassword"));
            match (salt, hash) {
                (Some(salt), Some(hash)) => {
                    let hash = format!("$apr1${salt}${hash}");
                    users.push((Arc::from(name), Secret(hash.into())));
                }
                _ => user.refuse(
                    "hashedPassword",
                    CLOSED,
                    "salt and hashedPassword are needed",
                ),
            }
        }
    }
    if users.is_empty() && !basic.has("apr") {
        let text = "users of apr are served alone; nobody could pass";
        basic.refuse("apr", CLOSED, text);
    }
    Credentials::Basic {
        realm: basic.str("realm").unwrap_or_default().into(),
        users,
        user_header: Some(USER.into()),
        forward: true,
    }
}

fn keys(fields: &Fields<'_>, object: &Object, reader: &Reader<'_>) -> Credentials {
    let stored = fields.object("k8sSecretApikeyStorage");
    let mut keys = Vec::new();
    for place in [Some(fields), stored.as_ref()].into_iter().flatten() {
        if place.raw("labelSelector").is_some() {
            place.ignore("labelSelector");
            let text = "Secrets are not looked for by labels: name them in apiKeySecretRefs";
            place.refuse("labelSelector", CLOSED, text);
        }
        for one in place.objects("apiKeySecretRefs") {
            let name = reference(&one, &object.name.namespace);
            let data = reader.secret(&name);
            match data.and_then(|data| data.get(SECRET_KEY)) {
                Some(key) => {
                    let key = String::from_utf8_lossy(key).trim().into();
                    keys.push((name.name.clone(), Secret(key)));
                }
                None => {
                    let text = format!(
                        "Secret {name} does not exist or has no {SECRET_KEY}: its key is not known"
                    );
                    let findings = one.findings();
                    findings.refuse("SecretMissing", one.path(), text);
                }
            }
        }
    }
    if fields.has("aerospikeApikeyStorage") {
        fields.ignore("aerospikeApikeyStorage");
        let text = "keys are read from Secrets alone: write k8sSecretApikeyStorage";
        fields.refuse("aerospikeApikeyStorage", CLOSED, text);
    }
    for key in ["headersFromMetadata", "headersFromMetadataEntry"] {
        fields.unsupported(key, "the Service knows who passed by x-user-id");
    }
    let header = fields
        .text("headerName")
        .and_then(|_| fields.parse("headerName", headers::name));
    Credentials::Key {
        places: vec![TokenPlace::Header {
            name: header.unwrap_or_else(|| KEY_HEADER.into()),
            prefix: "".into(),
        }],
        keys,
        consumer_header: Some(USER.into()),
        forward: true,
    }
}

fn server(
    fields: &Fields<'_>,
    object: &Object,
    backends: &mut Backends<'_, '_>,
) -> Option<ExternalAuthorization> {
    if fields.has("http") {
        fields.ignore("http");
        let text = "servers are asked over gRPC here: write grpc, or customAuth and a httpService \
                    in the Settings";
        fields.refuse("http", CLOSED, text);
        return None;
    }
    fields.unsupported("config", "the server is told what contextExtensions say");
    let Some(grpc) = fields.object("grpc") else {
        fields.refuse("grpc", CLOSED, "no server is named, so nobody can be asked");
        return None;
    };
    grpc.unsupported("retryPolicy", "the server is asked once");
    grpc.unsupported("tlsConfig", "the server is spoken to without TLS");
    let time = grpc.text("connectionTimeout");
    let time = time.and_then(|text| duration(&grpc, "connectionTimeout", text));
    let address = grpc.text("address").unwrap_or_default();
    let backend = match upstream::at(address, &object.name.namespace, backends) {
        Ok(backend) => backend,
        Err(text) => {
            grpc.refuse("address", CLOSED, text);
            return None;
        }
    };
    Some(ExternalAuthorization {
        backend,
        protocol: AuthorizationProtocol::Grpc,
        timeout: time.filter(|time| !time.is_zero()).unwrap_or(TIMEOUT),
        fail_open: flag(fields, "failureModeAllow").unwrap_or(false),
        status_on_error: 403,
        request_headers: Vec::new(),
        upstream_headers: Vec::new(),
        client_headers: Vec::new(),
        reserved_headers: vec![USER.into()],
        when: Vec::new(),
        context: Vec::new(),
        body: None,
    })
}

/// The status of an object by itself.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    let findings = Findings::default();
    let mut judgement = Judgement::default();
    read(object, &findings, &mut Backends::new(&reader));
    judgement.absorb(&findings);
    upstream::told(&judgement, reader)
}
