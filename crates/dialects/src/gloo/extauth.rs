//! `extauth`: who else is asked whether a request may pass, and the Settings that say who that is.
//!
//! The server of the Settings `gloo-system/default` is asked for hosts and routes with
//! `customAuth`. Without a server that can be asked nothing is served: everybody would pass.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{AskedBody, AuthorizationProtocol, ExternalAuthorization};

use super::filter::duration;
use super::matcher::flag;
use super::status::{CLOSED, Judgement};
use super::upstream::{self, Backends};
use super::{SETTINGS, limit, policy, reference};
use crate::fields::{Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::objects::{Name, Objects, Reader};
use crate::shared::headers;

/// Gloo's, where nothing is said.
const TIMEOUT: Duration = Duration::from_millis(200);
const BODY: u32 = 4 * 1024;
const USER: &str = "x-user-id";

/// What options say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Choice {
    /// As the host says.
    #[default]
    Inherited,
    Off,
    Asked {
        /// One of `namedExtauth`; empty is the server for all.
        server: Arc<str>,
        context: Vec<(Arc<str>, Arc<str>)>,
    },
    /// As an AuthConfig says.
    Config(Name),
}

impl Choice {
    /// Reads `extauth` of options. What is not served closes.
    pub(super) fn read(options: &Fields<'_>) -> Self {
        let Some(fields) = options.object("extauth") else {
            return Self::Inherited;
        };
        if flag(&fields, "disable") == Some(true) {
            fields.pass_over();
            return Self::Off;
        }
        if let Some(config) = fields.object("configRef") {
            if fields.has("customAuth") {
                let text = "configRef is there, too: write one of the two";
                fields.refuse("customAuth", CLOSED, text);
            }
            return Self::Config(reference(&config, &settings().namespace));
        }
        let custom = fields.object("customAuth");
        for key in fields.keys() {
            if !["disable", "customAuth"].contains(&key) {
                fields.ignore(key);
                let text = format!(
                    "{} is not served, and without it everybody would pass; nothing \
                     is served until it is removed: write configRef, or customAuth with a server of your own",
                    fields.at(key)
                );
                fields.refuse(key, CLOSED, text);
            }
        }
        let Some(custom) = custom else {
            return Self::Inherited;
        };
        let context = custom.string_map("contextExtensions").into_iter();
        Self::Asked {
            server: custom.text("name").unwrap_or_default().into(),
            context: context
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        }
    }

    /// What holds for a route of this host; context that both name is the route's.
    pub(super) fn below(self, host: &Self) -> Self {
        match (self, host) {
            (Self::Inherited, host) => host.clone(),
            (
                Self::Asked {
                    server,
                    mut context,
                },
                Self::Asked {
                    server: of_host,
                    context: others,
                },
            ) => {
                let is_new = |key: &Arc<str>, context: &[(Arc<str>, Arc<str>)]| {
                    context.iter().all(|(own, _)| own != key)
                };
                for (key, value) in others {
                    if is_new(key, &context) {
                        context.push((Arc::clone(key), Arc::clone(value)));
                    }
                }
                let server = if server.is_empty() {
                    Arc::clone(of_host)
                } else {
                    server
                };
                Self::Asked { server, context }
            }
            (own, _) => own,
        }
    }
}

/// Of a destination with a weight: its requests cannot be asked about apart from their route's.
pub(super) fn refuse_of_destination(options: &Fields<'_>) {
    let Some(value) = options.raw("extauth") else {
        return;
    };
    let text = "extauth is not supported for one of several destinations: write it into the \
                options of the route";
    let reason = if value["disable"] == true {
        "FieldNotSupported"
    } else {
        CLOSED
    };
    options.refuse("extauth", reason, text);
}

/// The server that a choice asks, its backend put to the others.
pub(super) fn find(
    server: &str,
    context: &[(Arc<str>, Arc<str>)],
    backends: &mut Backends<'_, '_>,
) -> Result<ExternalAuthorization, String> {
    let name = settings();
    let settings = backends.reader.foreign(&SETTINGS, &name);
    let settings = settings.ok_or_else(|| {
        format!("customAuth needs Settings {name} with extauth.extauthzServerRef, which says who is asked")
    })?;
    let findings = Findings::default();
    let spec = Fields::new(settings.spec(), "spec".to_owned(), &findings);
    let fields = if server.is_empty() {
        spec.object("extauth")
    } else {
        let named = spec.object("namedExtauth");
        named.and_then(|named| named.object(server))
    };
    let missing = || match server {
        "" => format!("Settings {name} have no extauth, so nobody can be asked"),
        server => format!("Settings {name} have no namedExtauth {server:?}"),
    };
    let asked = read(&fields.ok_or_else(missing)?, &name.namespace);
    let is_grpc = asked.external.protocol == AuthorizationProtocol::Grpc;
    let upstream = asked
        .server
        .ok_or_else(|| format!("extauth of Settings {name} names no extauthzServerRef"))?;
    let mut external = asked.external;
    external.backend = upstream::asked(&upstream, is_grpc, backends)?;
    external.context.extend(context.iter().cloned());
    Ok(external)
}

/// The Settings that are read.
pub(super) fn settings() -> Name {
    Name::new("gloo-system", "default")
}

/// `extauth` of Settings.
struct Asked {
    server: Option<Name>,
    external: ExternalAuthorization,
}

fn read(fields: &Fields<'_>, namespace: &str) -> Asked {
    let server = fields.object("extauthzServerRef");
    let http = fields.object("httpService");
    let body = fields.object("requestBody");
    let time = fields.text("requestTimeout");
    let time = time.and_then(|text| duration(fields, "requestTimeout", text));
    let status: Option<u16> = policy::number(fields, "statusOnError");
    let known = status.filter(|status| (200..600).contains(status));
    if status.is_some_and(|status| status != 0) && known.is_none() {
        let text = "must be between 200 and 599; 403 is answered";
        fields.refuse("statusOnError", "StatusInvalid", text);
    }
    not_served(fields);
    let written = fields.text("userIdHeader");
    let user_header: Arc<str> = written
        .and_then(|_| fields.parse("userIdHeader", headers::name))
        .unwrap_or_else(|| USER.into());
    let mut external = ExternalAuthorization {
        backend: routing::model::BackendId("".into()),
        protocol: AuthorizationProtocol::Grpc,
        timeout: time.filter(|time| !time.is_zero()).unwrap_or(TIMEOUT),
        fail_open: flag(fields, "failureModeAllow").unwrap_or(false),
        status_on_error: known.unwrap_or(403),
        request_headers: Vec::new(),
        upstream_headers: Vec::new(),
        client_headers: Vec::new(),
        reserved_headers: vec![Arc::clone(&user_header)],
        when: Vec::new(),
        context: Vec::new(),
        body: body.map(|body| AskedBody {
            most: policy::number(&body, "maxRequestBytes").unwrap_or(BODY),
            partial: flag(&body, "allowPartialMessage").unwrap_or(false),
            as_bytes: flag(&body, "packAsBytes").unwrap_or(false),
        }),
    };
    if let Some(http) = http {
        over_http(&http, &mut external);
        if written.is_some() && !external.upstream_headers.contains(&user_header) {
            external.upstream_headers.push(Arc::clone(&user_header));
        }
    }
    Asked {
        server: server.map(|it| reference(&it, namespace)),
        external,
    }
}

fn not_served(fields: &Fields<'_>) {
    if flag(fields, "clearRouteCache") == Some(true) {
        let text = "clearRouteCache is not supported: routes are chosen before the server is asked";
        fields.refuse("clearRouteCache", "FieldNotSupported", text);
    }
    match fields.text("transportApiVersion") {
        None | Some("V3") => {}
        Some(other) => {
            let text = format!("{other} is not supported: servers are asked by Envoy's API v3");
            fields.refuse("transportApiVersion", "FieldNotSupported", text);
        }
    }
    fields.unsupported("statPrefix", "counters have the gateway's own names");
    if let Some(grpc) = fields.object("grpcService") {
        grpc.unsupported(
            "authority",
            "the server is asked by the name of its Upstream",
        );
    }
}

fn over_http(http: &Fields<'_>, external: &mut ExternalAuthorization) {
    external.protocol = AuthorizationProtocol::Http {
        path_prefix: http.text("pathPrefix").unwrap_or_default().into(),
    };
    // Envoy always sends this one.
    external.request_headers = vec!["authorization".into()];
    if let Some(request) = http.object("request") {
        external
            .request_headers
            .extend(names(&request, "allowedHeaders"));
        for (name, value) in request.string_map("headersToAdd") {
            match headers::settable(name, value) {
                Ok(pair) => external.context.push(pair),
                Err(text) => request.refuse("headersToAdd", "HeaderNotSupported", text),
            }
        }
        request.unsupported(
            "allowedHeadersRegex",
            "write whole names into allowedHeaders",
        );
    }
    let Some(response) = http.object("response") else {
        return;
    };
    external.upstream_headers = names(&response, "allowedUpstreamHeaders");
    external.client_headers = names(&response, "allowedClientHeaders");
    let remedy = "write them into allowedUpstreamHeaders, they replace what the client sent";
    response.unsupported("allowedUpstreamHeadersToAppend", remedy);
}

fn names(fields: &Fields<'_>, key: &str) -> Vec<Arc<str>> {
    let mut found = Vec::new();
    for text in fields.strings(key) {
        match headers::name(text) {
            Ok(name) => found.push(name),
            Err(text) => fields.refuse(key, "HeaderNotSupported", text),
        }
    }
    found
}

const SETTINGS_REMEDY: &str = "the gateway takes its settings from its flags and its settings file";

/// The status of Settings: those of the gateway's namespace say who is asked, and whether clients
/// may speak gRPC-Web.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    let findings = Findings::default();
    let root = Fields::new(&object.body, String::new(), &findings);
    let mut servers = Vec::new();
    if let Some(spec) = root.object("spec") {
        let own = spec.object("extauth");
        let named = spec.object("namedExtauth");
        let named = named.iter().flat_map(|named| {
            let all = named.keys().filter_map(|key| named.object(key));
            all.collect::<Vec<_>>()
        });
        for fields in own.into_iter().chain(named) {
            let asked = read(&fields, &object.name.namespace);
            servers.push((fields.at("extauthzServerRef"), asked.server));
        }
        if let Some(fields) = spec.object("ratelimitServer") {
            let (server, _) = limit::read(&fields, &object.name.namespace);
            servers.push((fields.at("ratelimitServerRef"), server));
        }
        if let Some(gloo) = spec.object("gloo") {
            flag(&gloo, "disableGrpcWeb");
            for key in gloo.keys().filter(|key| *key != "disableGrpcWeb") {
                gloo.unsupported(key, SETTINGS_REMEDY);
            }
        }
        for key in spec.keys() {
            if key == "gloo" {
                continue;
            }
            if !["extauth", "namedExtauth", "ratelimitServer"].contains(&key) {
                spec.unsupported(key, SETTINGS_REMEDY);
            }
        }
        if object.name != settings() {
            let text = format!(
                "Settings {} change nothing: those of {} are read",
                object.name,
                settings()
            );
            findings.refuse("SettingsNotRead", "spec", text);
        }
    }
    drop(root);
    let mut judgement = Judgement::default();
    judgement.absorb(&findings);
    for (field, server) in servers {
        let text = match server {
            None => Some("no server is named, so nobody can be asked".to_owned()),
            Some(name) => upstream::missing(&reader, &name),
        };
        if let Some(text) = text {
            judgement.warn("ServerMissing", &field, text);
        }
    }
    Translation {
        diagnostics: judgement.diagnostics(),
        status: Some(judgement.status("gloo")),
        reads: reader.into_read(),
        ..Translation::default()
    }
}
