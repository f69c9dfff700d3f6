//! Demands of Services, EndpointSlices and Ingresses.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;

use super::{Object, duplicate, list, name, one_of, port_number, port_reference, text};
use crate::schema::Path;
use crate::status::FieldError;

pub(super) fn spec(spec: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    one_of(
        spec,
        "type",
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        path,
        errors,
    );
    one_of(spec, "sessionAffinity", &["ClientIP", "None"], path, errors);
    let ports = list(spec, "ports");
    let external = text(spec, "type") == "ExternalName";
    if ports.is_empty() && !external && text(spec, "clusterIP") != "None" {
        errors.push(FieldError::required(path.field("ports").to_string(), ""));
    }
    if external && let Err(why) = name::dns_subdomain(&text(spec, "externalName").to_lowercase()) {
        let value = text(spec, "externalName").into();
        errors.push(FieldError::invalid(
            path.field("externalName").to_string(),
            &value,
            why,
        ));
    }
    let ip = text(spec, "clusterIP");
    if !ip.is_empty() && ip != "None" && ip.parse::<IpAddr>().is_err() {
        let detail = "must be empty, 'None', or a valid IP address";
        errors.push(FieldError::invalid(
            path.field("clusterIPs").index(0).to_string(),
            &ip.into(),
            detail,
        ));
    }
    unique_ports(ports, &path.field("ports"), errors);
}

fn unique_ports(ports: &[Value], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut names = HashSet::new();
    let mut numbers = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let here = path.index(index);
        let given = port.get("name").and_then(Value::as_str).unwrap_or_default();
        if given.is_empty() {
            if ports.len() > 1 {
                errors.push(FieldError::required(here.field("name").to_string(), ""));
            }
        } else if !names.insert(given) {
            errors.push(duplicate(here.field("name").to_string(), given));
        }
        let protocol = port
            .get("protocol")
            .and_then(Value::as_str)
            .unwrap_or("TCP");
        let number = port.get("port").and_then(Value::as_i64);
        if !numbers.insert((protocol, number)) {
            let shown = serde_json::json!({"port": port.get("port"), "protocol": protocol});
            let fault = crate::status::Fault::Duplicate;
            errors.push(FieldError::with_value(
                fault,
                here.to_string(),
                shown.to_string(),
                "",
            ));
        }
    }
}

pub(super) fn port(port: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(number) = port.get("port") {
        port_number(number, &path.field("port"), errors);
    }
    if let Some(target) = port.get("targetPort") {
        port_reference(target, &path.field("targetPort"), errors);
    }
    one_of(port, "protocol", &["SCTP", "TCP", "UDP"], path, errors);
    let given = text(port, "name");
    if !given.is_empty()
        && let Err(why) = name::dns_label(given)
    {
        errors.push(FieldError::invalid(
            path.field("name").to_string(),
            &given.into(),
            why,
        ));
    }
}

/// A cluster IP stays with its Service.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let read = |object: &Value, pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let before = read(old, "/spec/clusterIP");
    let after = read(new, "/spec/clusterIP");
    let was_external =
        read(old, "/spec/type") == "ExternalName" || read(new, "/spec/type") == "ExternalName";
    if !before.is_empty() && before != after && !was_external {
        let detail = if after.is_empty() {
            "may not change once set"
        } else {
            "field is immutable"
        };
        errors.push(FieldError::invalid("spec.clusterIP", &after.into(), detail));
    }
}

pub(super) fn endpoint_slice(slice: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    one_of(
        slice,
        "addressType",
        &["FQDN", "IPv4", "IPv6"],
        path,
        errors,
    );
    let endpoints = list(slice, "endpoints");
    if endpoints.len() > 1000 {
        let detail = "must have at most 1000 items";
        let fault = crate::status::Fault::TooMany;
        let field = path.field("endpoints").to_string();
        errors.push(FieldError::with_value(
            fault,
            field,
            endpoints.len().to_string(),
            detail,
        ));
    }
    let here = path.field("endpoints");
    for (index, endpoint) in endpoints.iter().enumerate() {
        if endpoint
            .get("addresses")
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty)
        {
            let field = here.index(index).field("addresses").to_string();
            errors.push(FieldError::required(
                field,
                "must contain at least 1 address",
            ));
        }
    }
}

pub(super) fn ingress(spec: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if list(spec, "rules").is_empty() && !spec.contains_key("defaultBackend") {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(
            path.to_string(),
            &Value::Object(spec.clone()),
            detail,
        ));
    }
}
