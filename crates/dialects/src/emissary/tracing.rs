//! The TracingService: who takes the spans of every Mapping's requests, and which have one.

use std::sync::Arc;

use routing::model::{Collector, SpanProtocol, Tag, TraceRule};

use super::{TRACING_SERVICE, instance, service, sole};
use crate::fields::{self, Fields};
use crate::foreign::{Object, Translation};
use crate::objects::{Objects, Reader};
use crate::shared::headers;

/// Where Zipkin takes spans.
const ZIPKIN: &str = "/api/v2/spans";

/// How routes are traced, if anybody takes spans.
pub(super) fn rule(reader: &Reader<'_>) -> Option<TraceRule> {
    let object = sole::first(&TRACING_SERVICE, reader)?;
    fields::quietly(object.spec(), |spec| read(spec, object, reader))
}

fn read(spec: &Fields<'_>, object: &Object, reader: &Reader<'_>) -> Option<TraceRule> {
    let protocol = match spec.text("driver").unwrap_or_default() {
        "opentelemetry" => Some(SpanProtocol::OtlpGrpc),
        "zipkin" => Some(SpanProtocol::Zipkin),
        other => {
            let remedy = match other {
                "datadog" => "Datadog's agent takes OTLP on port 4317: write driver opentelemetry",
                "lightstep" => "Lightstep takes OTLP: write driver opentelemetry",
                _ => "write opentelemetry or zipkin",
            };
            let message = format!("driver {other:?} is not served, no spans are sent; {remedy}");
            spec.refuse("driver", "DriverNotSupported", message);
            None
        }
    };
    let path = config(spec, protocol == Some(SpanProtocol::Zipkin));
    let address = service::url(spec, object, reader, "spans");
    let rule = TraceRule {
        is_reported: true,
        rate: Some(rate(spec)),
        by_request_id: true,
        collector: None,
        tags: tags(spec),
    };
    let collector = Collector {
        url: format!("{}{path}", address?).into(),
        protocol: protocol?,
    };
    Some(TraceRule {
        collector: Some(Arc::new(collector)),
        ..rule
    })
}

/// `config`: the path at the collector.
fn config(spec: &Fields<'_>, is_zipkin: bool) -> String {
    let Some(config) = spec.object("config") else {
        return if is_zipkin { ZIPKIN } else { "" }.to_owned();
    };
    config.unsupported("service_name", "spans name the gateway as their service");
    let remedy = "remove it: it is for another driver";
    config.unsupported("access_token_file", remedy);
    config.unsupported("collector_cluster", "the collector is that of service");
    config.unsupported("collector_hostname", "write the name into service");
    if config.bool("trace_id_128bit") == Some(false) {
        let message = "ids of traces have 128 bits";
        config.refuse("trace_id_128bit", "FieldDiffers", message);
    }
    if config.bool("shared_span_context") == Some(true) {
        let message = "a span of the gateway has an id of its own";
        config.refuse("shared_span_context", "FieldDiffers", message);
    }
    let version = config.text("collector_endpoint_version");
    if version.is_some_and(|version| version != "HTTP_JSON") {
        let message = "spans are sent as HTTP_JSON (Zipkin's v2)";
        config.refuse("collector_endpoint_version", "FieldDiffers", message);
    }
    let path = config.text("collector_endpoint");
    if !is_zipkin {
        if path.is_some() {
            config.refuse("collector_endpoint", "FieldNotSupported", remedy);
        }
        return String::new();
    }
    let is_path =
        |path: &&str| path.starts_with('/') && path.bytes().all(|it| it.is_ascii_graphic());
    if path.is_some_and(|path| !is_path(&path)) {
        let message = format!("it is no path that begins with /: {ZIPKIN} is used");
        config.refuse("collector_endpoint", "FieldInvalid", message);
    }
    path.filter(is_path).unwrap_or(ZIPKIN).to_owned()
}

/// The share of the requests without a decision of whoever came before.
fn rate(spec: &Fields<'_>) -> f64 {
    let Some(sampling) = spec.object("sampling") else {
        return 1.0;
    };
    let percent = |key: &str| {
        let written = sampling.float(key)?;
        let is_one = (0.0..=100.0).contains(&written);
        if !is_one {
            let message = format!("{written} is no percentage: write 0 to 100; 100 is used");
            sampling.refuse(key, "FieldInvalid", message);
        }
        is_one.then_some(written)
    };
    sampling.unsupported(
        "client",
        "the decision of a client holds that sends a trace of its own",
    );
    let (overall, random) = (percent("overall"), percent("random"));
    overall.unwrap_or(100.0).min(random.unwrap_or(100.0)) / 100.0
}

fn tags(spec: &Fields<'_>) -> Vec<(Arc<str>, Tag)> {
    let mut tags: Vec<(Arc<str>, Tag)> = Vec::new();
    for written in spec.strings("tag_headers") {
        match headers::name(written) {
            Ok(name) => tags.push((written.into(), Tag::Header(name, None))),
            Err(error) => spec.refuse("tag_headers", "HeaderInvalid", error),
        }
    }
    for one in spec.objects("custom_tags") {
        let value = tag(&one);
        match one.text("tag") {
            Some(key) => tags.extend(value.map(|value| (key.into(), value))),
            None => one.refuse("tag", "TagMissing", "write the name of the tag"),
        }
    }
    tags
}

fn tag(fields: &Fields<'_>) -> Option<Tag> {
    if let Some(literal) = fields.object("literal") {
        return Some(Tag::Literal(literal.text("value")?.into()));
    }
    if let Some(header) = fields.object("request_header") {
        let name = header.parse("name", headers::name)?;
        let default = header.text("default_value").map(Arc::from);
        return Some(Tag::Header(name, default));
    }
    let variable = fields.object("environment")?;
    variable.ignore("name");
    let default = variable.text("default_value");
    let message = "the environment of the gateway is not shown, it may hold secrets: the default \
                   value is used; write a literal";
    variable.refuse("name", "FieldNotSupported", message);
    default.map(|text| Tag::Literal(text.into()))
}

/// A TracingService by itself.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, reader, _| {
        spec.ignore("stats_name");
        let remedy = "a trace is passed on in the form that it came in, or as traceparent";
        spec.unsupported("propagation_modes", remedy);
        let so = "is in force; spans go to one, not to several";
        let first = sole::first(&TRACING_SERVICE, reader);
        sole::told(spec, object, first, ("TracingServiceTwice", so));
        read(spec, object, reader);
    })
}
