//! `externalAuthorization`: another Service decides.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{AskedBody, AuthorizationProtocol, BackendId, ExternalAuthorization};

use super::read::time;
use crate::fields::Fields;
use crate::shared::headers;

/// Who is asked, and how; the backend is found where the policy is in force.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct External {
    /// In the policy's own namespace.
    pub(super) service: Option<(Arc<str>, u16)>,
    pub(super) is_grpc: bool,
    /// Without a backend.
    pub(super) settings: ExternalAuthorization,
}

impl External {
    /// With the backend; without one nobody can be asked.
    pub(super) fn with(&self, backend: Option<BackendId>) -> ExternalAuthorization {
        let mut settings = self.settings.clone();
        match backend {
            Some(backend) => settings.backend = backend,
            None => settings.status_on_error = 500,
        }
        settings
    }
}

pub(super) fn read(fields: &Fields<'_>) -> External {
    let is_grpc = match fields.text("protocol").unwrap_or("HTTP") {
        "GRPC" => true,
        "HTTP" => false,
        other => {
            let message = format!("{other:?} is neither HTTP nor GRPC: it is asked over HTTP");
            fields.refuse("protocol", "FieldInvalid", message);
            false
        }
    };
    let service = fields.object("service").and_then(|service| {
        let port = service.number::<u16>("port").filter(|port| *port > 0);
        Some((Arc::from(service.text("name")?), port?))
    });
    if service.is_none() {
        let message = "a Service of the policy's namespace with name and port is needed: nobody \
                       can be asked, so nobody passes unless failOpen says so";
        fields.refuse("service", "ServiceInvalid", message);
    }
    let names = |key: &str| -> Vec<Arc<str>> {
        let mut names = Vec::new();
        for text in fields.strings(key) {
            match headers::name(text) {
                Ok(name) => names.push(name),
                Err(_) if text == "*" && key != "requestHeaders" => names.push("*".into()),
                Err(error) => fields.refuse(key, "HeaderInvalid", error),
            }
        }
        names
    };
    let path = fields.text("pathPrefix").unwrap_or_default();
    if is_grpc && !path.is_empty() {
        fields.refuse(
            "pathPrefix",
            "FieldWithoutEffect",
            "it counts with HTTP alone",
        );
    }
    let status = fields.number::<u16>("statusOnError");
    let is_one = |status: &u16| (200..600).contains(status);
    if status.is_some_and(|status| !is_one(&status)) {
        let message = "it is not the status of an answer";
        fields.refuse("statusOnError", "FieldInvalid", message);
    }
    let mut request_headers = names("requestHeaders");
    if !is_grpc {
        request_headers.push("authorization".into());
    }
    External {
        service,
        is_grpc,
        settings: ExternalAuthorization {
            backend: BackendId("suimon/none".into()),
            protocol: if is_grpc {
                AuthorizationProtocol::Grpc
            } else {
                AuthorizationProtocol::Http {
                    path_prefix: path.trim_end_matches('/').into(),
                }
            },
            timeout: time(fields, "timeout").unwrap_or(Duration::from_secs(5)),
            fail_open: fields.bool("failOpen").unwrap_or(false),
            status_on_error: status.filter(is_one).unwrap_or(403),
            request_headers,
            upstream_headers: names("upstreamHeaders"),
            client_headers: names("clientHeaders"),
            reserved_headers: Vec::new(),
            when: Vec::new(),
            context: Vec::new(),
            body: fields.object("body").map(|body| AskedBody {
                most: body.number("maxBytes").unwrap_or(8192),
                partial: body.bool("partial").unwrap_or(false),
                as_bytes: body.bool("asBytes").unwrap_or(true),
            }),
        },
    }
}
