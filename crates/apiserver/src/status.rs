//! Kubernetes `Status` errors, with the texts and reasons that clients match on.
//!
//! Constructors mirror `k8s.io/apimachinery/pkg/api/errors`: clients branch on `reason`, people
//! read `message`, so both are part of the contract.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A failed request, as it is sent to the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable cause, such as `NotFound`.
    pub reason: String,
    /// Sentence for people.
    pub message: String,
    /// What the error is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
}

/// What an error is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// Name of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Group of the resource.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The plural resource name, or the kind for `Invalid`, as Kubernetes does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// One entry per invalid field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again, in seconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

/// One invalid field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Machine-readable cause, such as `FieldValueRequired`.
    #[serde(rename = "reason")]
    pub reason: String,
    /// Sentence without the field's name.
    pub message: String,
    /// Path of the field, such as `spec.template.spec`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// What kind of fault a field has; the reason and the words before the detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The value is not allowed.
    Invalid,
    /// A value is missing.
    Required,
    /// The value is not one of the allowed ones.
    NotSupported,
    /// The field may not be set, or may not be set so.
    Forbidden,
    /// The value appears twice.
    Duplicate,
    /// The value is too long.
    TooLong,
    /// The list has too many items.
    TooMany,
    /// The value has the wrong JSON type.
    TypeInvalid,
    /// The object that is referred to does not exist.
    NotFound,
}

impl Fault {
    fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Required => "FieldValueRequired",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::NotFound => "FieldValueNotFound",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::Required => "Required value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::Duplicate => "Duplicate value",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
        }
    }
}

/// One finding about one field, in the shape of Kubernetes' `field.Error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// What is wrong.
    pub fault: Fault,
    /// Path of the field.
    pub field: String,
    /// The offending value as it should be printed (JSON), if it is printed.
    pub value: Option<String>,
    /// What would be right.
    pub detail: String,
}

impl FieldError {
    /// A finding that prints the value.
    pub fn with_value(
        fault: Fault,
        field: impl Into<String>,
        value: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            fault,
            field: field.into(),
            value: Some(value.into()),
            detail: detail.into(),
        }
    }

    /// `field: Invalid value: <value>: detail`.
    pub fn invalid(
        field: impl Into<String>,
        value: &serde_json::Value,
        detail: impl Into<String>,
    ) -> Self {
        Self::with_value(Fault::Invalid, field, value.to_string(), detail)
    }

    /// `field: Required value: detail`.
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            fault: Fault::Required,
            field: field.into(),
            value: None,
            detail: detail.into(),
        }
    }

    /// `field: Forbidden: detail`.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            fault: Fault::Forbidden,
            field: field.into(),
            value: None,
            detail: detail.into(),
        }
    }

    /// The message without the field's name, as in a cause.
    pub fn body(&self) -> String {
        let mut out = self.fault.words().to_owned();
        if let Some(value) = &self.value {
            out.push_str(": ");
            out.push_str(value);
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// The resource that an error names: plural and group.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// API group; empty for core.
    pub group: &'a str,
    /// Plural resource name (or kind, for [`Status::invalid`]).
    pub resource: &'a str,
    /// Object name.
    pub name: &'a str,
}

impl Named<'_> {
    /// `services.serving.knative.dev`, or `pods` for the core group.
    pub fn qualified(&self) -> String {
        qualified(self.group, self.resource)
    }
}

fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

impl Status {
    /// A status without details.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            details: None,
        }
    }

    fn named(code: u16, reason: &str, message: String, what: Named<'_>) -> Self {
        let details = Details {
            name: what.name.to_owned(),
            group: what.group.to_owned(),
            kind: what.resource.to_owned(),
            ..Details::default()
        };
        Self {
            code,
            reason: reason.to_owned(),
            message,
            details: Some(Box::new(details)),
        }
    }

    /// 404 for an object.
    pub fn not_found(what: Named<'_>) -> Self {
        Self::named(
            404,
            "NotFound",
            format!("{} \"{}\" not found", what.qualified(), what.name),
            what,
        )
    }

    /// 404 for a path that is no resource.
    pub fn no_such_path() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    /// 409 for a create.
    pub fn already_exists(what: Named<'_>) -> Self {
        Self::named(
            409,
            "AlreadyExists",
            format!("{} \"{}\" already exists", what.qualified(), what.name),
            what,
        )
    }

    /// 409 with the given cause.
    pub fn conflict(what: Named<'_>, cause: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{}\": {cause}",
            what.qualified(),
            what.name
        );
        Self::named(409, "Conflict", message, what)
    }

    /// 409 for a write with an old resourceVersion.
    pub fn modified(what: Named<'_>) -> Self {
        Self::conflict(
            what,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409 of server-side apply: one cause per field that another manager owns.
    pub fn apply_conflict(message: String, causes: Vec<Cause>) -> Self {
        let details = Details {
            causes,
            ..Details::default()
        };
        Self {
            code: 409,
            reason: "Conflict".into(),
            message,
            details: Some(Box::new(details)),
        }
    }

    /// 403 with the given cause.
    pub fn forbidden(what: Named<'_>, cause: &str) -> Self {
        let message = if what.name.is_empty() {
            format!("{} is forbidden: {cause}", what.qualified())
        } else {
            format!(
                "{} \"{}\" is forbidden: {cause}",
                what.qualified(),
                what.name
            )
        };
        Self::named(403, "Forbidden", message, what)
    }

    /// 422; `kind` is the object's kind, not its plural.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let list = match errors {
            [one] => one.to_string(),
            many => {
                let texts: Vec<_> = many.iter().map(FieldError::to_string).collect();
                format!("[{}]", texts.join(", "))
            }
        };
        let what = Named {
            group,
            resource: kind,
            name,
        };
        let message = format!("{} \"{name}\" is invalid: {list}", what.qualified());
        let mut status = Self::named(422, "Invalid", message, what);
        if let Some(details) = &mut status.details {
            details.causes = errors
                .iter()
                .map(|error| Cause {
                    reason: error.fault.reason().to_owned(),
                    message: error.body(),
                    field: error.field.clone(),
                })
                .collect();
        }
        status
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// 406: the client accepts none of what the server can send.
    pub fn not_acceptable(accepted: &str) -> Self {
        let message = format!("only the following media types are accepted: {accepted}");
        Self::new(406, "NotAcceptable", message)
    }

    /// 410: the wanted revision is no longer in the history.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit}"),
        )
    }

    /// 415: the body has a type that is not read here.
    pub fn unsupported_media_type(supported: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {supported}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 429: try again after a second.
    pub fn too_many_requests(message: impl Into<String>) -> Self {
        let mut status = Self::new(429, "TooManyRequests", message);
        status.details = Some(Box::new(Details {
            retry_after_seconds: 1,
            ..Details::default()
        }));
        status
    }

    /// 507: objects take as much room as they may.
    pub fn insufficient_storage(message: impl Into<String>) -> Self {
        Self::new(507, "InsufficientStorage", message)
    }

    /// 504 for a resourceVersion from the future.
    pub fn too_large_resource_version(wanted: u64, current: u64) -> Self {
        let mut status = Self::new(
            504,
            "Timeout",
            format!("Too large resource version: {wanted}, current: {current}"),
        );
        status.details = Some(Box::new(Details {
            causes: vec![Cause {
                reason: "ResourceVersionTooLarge".into(),
                message: "Too large resource version".into(),
                field: String::new(),
            }],
            retry_after_seconds: 1,
            ..Details::default()
        }));
        status
    }

    /// 500.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {message}"),
        )
    }

    /// 503: the server stops or cannot write.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// The `Status` object as JSON.
    pub fn to_value(&self) -> serde_json::Value {
        let mut value = serde_json::json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if let Some(details) = &self.details {
            // Strings, numbers and lists of them always serialize.
            value["details"] = serde_json::to_value(details).unwrap_or_default();
        }
        value
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_kubernetes() {
        let what = Named {
            group: "serving.knative.dev",
            resource: "services",
            name: "x",
        };
        assert_eq!(
            Status::not_found(what).message,
            "services.serving.knative.dev \"x\" not found"
        );
        assert_eq!(
            Status::modified(what).message,
            "Operation cannot be fulfilled on services.serving.knative.dev \"x\": the object has been modified; \
             please apply your changes to the latest version and try again"
        );
        let pod = Named {
            group: "",
            resource: "pods",
            name: "p",
        };
        assert_eq!(
            Status::already_exists(pod).message,
            "pods \"p\" already exists"
        );
    }

    #[test]
    fn invalid_lists_every_field_as_a_cause() {
        let errors = [
            FieldError::required("spec.a", ""),
            FieldError::invalid("spec.b", &serde_json::json!("no"), "must be yes"),
        ];
        let status = Status::invalid("g.dev", "Thing", "t", &errors);
        assert_eq!(
            status.message,
            "Thing.g.dev \"t\" is invalid: [spec.a: Required value, spec.b: Invalid value: \"no\": must be yes]"
        );
        let value = status.to_value();
        assert_eq!(value["details"]["causes"][1]["field"], "spec.b");
        assert_eq!(value["details"]["causes"][1]["reason"], "FieldValueInvalid");
    }
}
