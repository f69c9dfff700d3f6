//! Providers of the mesh configuration: who takes lines and spans.

use std::sync::Arc;

use accesslog::{ENVOY_JSON, Envoy};
use routing::model::{Collector, LogShape, SpanProtocol};
use serde_json::Value;

use super::super::{ROOT_NAMESPACE, mesh};
use crate::fields::{Fields, Findings};
use crate::objects::Reader;

/// The names that Istio itself gives to the log of the proxy and to its metrics.
pub(super) const ENVOY_LOG: &str = "envoy";
pub(super) const PROMETHEUS: &str = "prometheus";

/// `None` with the reason if nobody here can write for the provider.
pub(super) fn log(
    reader: &Reader<'_>,
    name: &str,
    findings: &Findings,
    field: &str,
) -> Option<LogShape> {
    let Some(written) = mesh::provider(reader, name) else {
        if name.eq_ignore_ascii_case(ENVOY_LOG) {
            return Some(default_shape(reader, findings, field));
        }
        unknown(name, findings, field, "no line is written for it");
        return None;
    };
    let place = format!("extensionProviders[{name}]");
    let fields = Fields::new(written, place, findings);
    fields.ignore("name");
    let Some(file) = fields.object("envoyFileAccessLog") else {
        fields.pass_over();
        let message = format!(
            "provider {name:?} is no envoyFileAccessLog: lines go to standard output alone, where \
             a collector can take them"
        );
        findings.refuse("ProviderNotSupported", field, message);
        return None;
    };
    let path = file.str("path").unwrap_or("/dev/stdout");
    if path != "/dev/stdout" {
        let message = format!(
            "{path:?}: lines of routes go to standard output; the gateway's own log may have a file"
        );
        file.refuse("path", "FieldNotSupported", message);
    }
    file.unsupported("omitEmptyValues", "values that are not there are - or null");
    let Some(format) = file.object("logFormat") else {
        return Some(LogShape::Own);
    };
    let shape = match format.str("text") {
        Some(text) => LogShape::Text(text.into()),
        None => {
            let labels = format.string_map("labels").into_iter();
            LogShape::Json(
                labels
                    .map(|(key, value)| (key.into(), value.into()))
                    .collect(),
            )
        }
    };
    Some(checked(shape, findings, field))
}

/// A shape that can be read; else the default, with the reason.
fn checked(shape: LogShape, findings: &Findings, field: &str) -> LogShape {
    let read = match &shape {
        LogShape::Own => return shape,
        LogShape::Text(text) => Envoy::text(text),
        LogShape::Json(labels) => Envoy::json(labels.iter().map(|(key, value)| (&**key, &**value))),
    };
    match read {
        Ok(envoy) if envoy.without_value.is_empty() => shape,
        Ok(envoy) => {
            let list = envoy.without_value.join("%, %");
            let message =
                format!("%{list}% of the provider's format always print -; leave them out");
            findings.refuse("OperatorWithoutValue", field, message);
            shape
        }
        Err(error) => {
            let message = format!("the provider's format: {error}; lines have the default format");
            findings.refuse("FormatInvalid", field, message);
            LogShape::Own
        }
    }
}

/// As `accessLogEncoding` and `accessLogFormat` of the mesh say.
fn default_shape(reader: &Reader<'_>, findings: &Findings, field: &str) -> LogShape {
    let is_json = mesh::text(reader, "accessLogEncoding") == Some("JSON");
    let format = mesh::text(reader, "accessLogFormat").filter(|format| !format.is_empty());
    match (is_json, format) {
        (false, None) => LogShape::Own,
        (false, Some(format)) => checked(LogShape::Text(format.into()), findings, field),
        (true, None) => {
            let labels = ENVOY_JSON.iter();
            LogShape::Json(
                labels
                    .map(|(key, value)| ((*key).into(), (*value).into()))
                    .collect(),
            )
        }
        (true, Some(format)) => {
            let read: Option<Value> = serde_json::from_str(format).ok();
            let Some(Value::Object(map)) = read else {
                let message = "accessLogFormat of the mesh configuration is no JSON object; lines \
                               have the default format";
                findings.refuse("FormatInvalid", field, message);
                return LogShape::Own;
            };
            let labels = map
                .iter()
                .map(|(key, value)| Some((key.as_str().into(), value.as_str()?.into())));
            let Some(labels) = labels.collect() else {
                let message = "accessLogFormat of the mesh configuration has values that are no \
                               texts; lines have the default format";
                findings.refuse("FormatInvalid", field, message);
                return LogShape::Own;
            };
            checked(LogShape::Json(labels), findings, field)
        }
    }
}

/// Who takes spans; `None` with the reason if nobody does.
pub(super) fn collector(
    reader: &Reader<'_>,
    name: &str,
    findings: &Findings,
    field: &str,
) -> Option<Arc<Collector>> {
    let Some(written) = mesh::provider(reader, name) else {
        unknown(name, findings, field, "no spans are reported");
        return None;
    };
    let place = format!("extensionProviders[{name}]");
    let fields = Fields::new(written, place, findings);
    fields.ignore("name");
    let Some(otlp) = fields.object("opentelemetry") else {
        fields.pass_over();
        let message = format!(
            "provider {name:?} does not take OTLP: no spans are reported; write a provider with \
             opentelemetry, most collectors have a port for it"
        );
        findings.refuse("ProviderNotSupported", field, message);
        return None;
    };
    let found = address(&otlp);
    if found.is_none() {
        let message =
            format!("provider {name:?} needs a service and a port: no spans are reported");
        findings.refuse("ProviderInvalid", field, message);
    }
    found.map(Arc::new)
}

fn address(otlp: &Fields<'_>) -> Option<Collector> {
    let service = otlp.text("service").unwrap_or_default();
    let host = service.split_once('/').map_or(service, |(_, host)| host);
    let port: Option<u16> = otlp.number("port");
    let http = otlp.object("http");
    let path = http.as_ref().map(|http| {
        http.unsupported("headers", "spans are sent without further headers");
        http.unsupported("timeout", "a batch may take 10 s");
        http.str("path").unwrap_or("/v1/traces")
    });
    if let Some(grpc) = otlp.object("grpc") {
        grpc.unsupported("timeout", "a batch may take 10 s");
        grpc.unsupported("initialMetadata", "spans are sent without further metadata");
    }
    for key in ["maxTagLength", "resourceDetectors", "dynatraceSampler"] {
        otlp.unsupported(key, "remove it from the provider");
    }
    otlp.unsupported(
        "serviceAttributeEnrichment",
        "spans name the gateway as their service",
    );
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if host.is_empty() || !host.chars().all(is_host) {
        return None;
    }
    let port = port?;
    let is_grpc = path.is_none();
    let path = path.unwrap_or_default();
    let slash = if path.is_empty() || path.starts_with('/') {
        ""
    } else {
        "/"
    };
    Some(Collector {
        url: format!("http://{host}:{port}{slash}{path}").into(),
        protocol: if is_grpc {
            SpanProtocol::OtlpGrpc
        } else {
            SpanProtocol::OtlpHttp
        },
    })
}

fn unknown(name: &str, findings: &Findings, field: &str, so: &str) {
    let message = format!(
        "extension provider {name:?} of the mesh configuration (ConfigMap {ROOT_NAMESPACE}/istio) \
         is not there: {so}"
    );
    findings.refuse("ProviderUnknown", field, message);
}
