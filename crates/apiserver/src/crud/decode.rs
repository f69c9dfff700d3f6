//! Request bodies: JSON or YAML to an object of the right kind.

use serde_json::Value;

use super::{Call, metadata, shape};
use crate::http::options::FieldValidation;
use crate::protobuf;
use crate::status::Status;

/// A request body with its media type.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub(crate) media_type: String,
    pub(crate) bytes: bytes::Bytes,
}

const SUPPORTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

impl Body {
    /// The body as a JSON document, with findings about duplicate fields. `definition` says what a
    /// protobuf body is; `None` for kinds that have no protobuf form.
    pub(super) fn parse(&self, definition: Option<&str>) -> Result<(Value, Vec<String>), Status> {
        match self.media_type.as_str() {
            "application/yaml" | "text/yaml" | "application/apply-patch+yaml" => {
                shape::parse_yaml(&self.bytes)
            }
            "application/json" | "" => shape::parse_json(&self.bytes),
            protobuf::MEDIA_TYPE => {
                let definition =
                    definition.ok_or_else(|| Status::unsupported_media_type(SUPPORTED))?;
                let value = protobuf::parse(definition, &self.bytes)
                    .map_err(|error| Status::bad_request(error.to_string()))?;
                Ok((value, Vec::new()))
            }
            _ => Err(Status::unsupported_media_type(SUPPORTED)),
        }
    }
}

/// Reads an object of the call's kind: fields that the schema does not know are dropped, and
/// told according to `fieldValidation`.
pub(super) fn object(
    call: &Call,
    body: &Body,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let (mut value, mut findings) = body.parse(call.kind.definition())?;
    if !value.is_object() {
        return Err(Status::bad_request("the request body must be an object"));
    }
    check_kind(call, &mut value)?;
    findings.extend(shape::prune(&call.kind, &mut value));
    report(call.options.field_validation, &findings, warnings).map_err(|status| {
        let (kind, version) = (&call.kind.kind, &call.kind.version);
        let message = format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {}",
            status.message
        );
        Status::bad_request(message)
    })?;
    metadata::tidy(&mut value);
    Ok(value)
}

/// Refuses, warns or keeps silent about unknown and duplicate fields.
pub(super) fn report(
    mode: FieldValidation,
    findings: &[String],
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    match mode {
        FieldValidation::Strict if !findings.is_empty() => Err(Status::bad_request(format!(
            "strict decoding error: {}",
            findings.join(", ")
        ))),
        FieldValidation::Warn => {
            warnings.extend_from_slice(findings);
            Ok(())
        }
        FieldValidation::Strict | FieldValidation::Ignore => Ok(()),
    }
}

/// Fills in or checks `apiVersion` and `kind`.
pub(super) fn check_kind(call: &Call, value: &mut Value) -> Result<(), Status> {
    let wanted = call.api_version();
    for (field, wanted) in [("apiVersion", wanted.as_str()), ("kind", &call.kind.kind)] {
        match value.get(field).and_then(Value::as_str) {
            None | Some("") => value[field] = Value::String(wanted.to_owned()),
            Some(found) if found == wanted => {}
            Some(found) if field == "apiVersion" => {
                return Err(Status::bad_request(format!(
                    "the API version in the data ({found}) does not match the expected API version ({wanted})"
                )));
            }
            Some(found) => {
                return Err(Status::bad_request(format!(
                    "the kind in the data ({found}) does not match the expected kind ({wanted})"
                )));
            }
        }
    }
    Ok(())
}

/// Fills in or checks the namespace.
pub(super) fn check_namespace(call: &Call, value: &mut Value) -> Result<(), Status> {
    let metadata = metadata::of(value);
    if call.namespace.is_empty() {
        metadata.remove("namespace");
        return Ok(());
    }
    match metadata.get("namespace").and_then(Value::as_str) {
        None | Some("") => {
            metadata.insert("namespace".into(), Value::String(call.namespace.clone()));
            Ok(())
        }
        Some(found) if found == call.namespace => Ok(()),
        Some(_) => Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
    }
}
