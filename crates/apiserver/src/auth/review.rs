//! Questions about access: kinds that are answered and never stored.
//!
//! Each answer is the question with a status. Whoever asks about others needs the permission to
//! create the review; what is asked is judged by the same code as requests are.

use serde_json::{Map, Value, json};

use super::attributes::{Attributes, ResourceTarget};
use super::rbac::{self, Policies};
use super::rule::Rule;
use super::{decide, is_master};
use crate::admission::User;
use crate::crud::Call;
use crate::status::{FieldError, Status};

/// Answers a question of the call's kind.
pub(crate) fn answer(
    policies: &impl Policies,
    call: &Call,
    question: &Value,
) -> Result<Value, Status> {
    let spec = &question["spec"];
    match call.kind.kind.as_str() {
        "SelfSubjectReview" => Ok(json!({ "userInfo": user_info(&call.user) })),
        "SelfSubjectAccessReview" => {
            check_spec(call, spec, &[])?;
            Ok(access(policies, &call.user, spec))
        }
        "SubjectAccessReview" => {
            check_spec(call, spec, &subject_errors(spec))?;
            Ok(access(policies, &subject(spec), spec))
        }
        "LocalSubjectAccessReview" => {
            check_local(call, spec)?;
            check_spec(call, spec, &subject_errors(spec))?;
            Ok(access(policies, &subject(spec), spec))
        }
        "SelfSubjectRulesReview" => rules(policies, call, spec),
        other => Err(Status::internal(format!("{other} is not answered here"))),
    }
}

/// A user as reviews show it.
pub(crate) fn user_info(user: &User) -> Value {
    let mut info = json!({ "username": &*user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        info["uid"] = json!(&*user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

/// The user that a question is about.
fn subject(spec: &Value) -> User {
    let texts = |value: &Value| -> Vec<String> {
        let list = value.as_array().map_or(&[][..], Vec::as_slice);
        list.iter()
            .filter_map(Value::as_str)
            .map(ToOwned::to_owned)
            .collect()
    };
    let empty = Map::new();
    let extra = spec["extra"].as_object().unwrap_or(&empty);
    User {
        name: text(spec, "user").into(),
        groups: texts(&spec["groups"]).into_iter().map(Into::into).collect(),
        uid: text(spec, "uid").into(),
        extra: extra
            .iter()
            .map(|(key, values)| (key.clone(), texts(values)))
            .collect(),
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn subject_errors(spec: &Value) -> Vec<FieldError> {
    let nobody =
        text(spec, "user").is_empty() && spec["groups"].as_array().is_none_or(Vec::is_empty);
    nobody
        .then(|| {
            FieldError::invalid(
                "spec.user",
                &json!(""),
                "at least one of user or group must be specified",
            )
        })
        .into_iter()
        .collect()
}

fn check_local(call: &Call, spec: &Value) -> Result<(), Status> {
    let namespace = text(&spec["resourceAttributes"], "namespace");
    if spec["resourceAttributes"].is_object() && namespace != call.namespace {
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {}",
            call.namespace
        )));
    }
    if spec["nonResourceAttributes"].is_object() {
        let error = FieldError::invalid(
            "spec.nonResourceAttributes",
            &spec["nonResourceAttributes"],
            "disallowed on this kind of request",
        );
        return Err(invalid(call, &[error]));
    }
    Ok(())
}

fn check_spec(call: &Call, spec: &Value, more: &[FieldError]) -> Result<(), Status> {
    let (resource, path) = (
        spec["resourceAttributes"].is_object(),
        spec["nonResourceAttributes"].is_object(),
    );
    let mut errors = Vec::new();
    if resource && path {
        errors.push(FieldError::invalid(
            "spec.nonResourceAttributes",
            &spec["nonResourceAttributes"],
            "cannot be specified in combination with resourceAttributes",
        ));
    } else if !resource && !path {
        errors.push(FieldError::invalid(
            "spec.resourceAttributes",
            &Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ));
    }
    errors.extend_from_slice(more);
    if errors.is_empty() {
        return Ok(());
    }
    Err(invalid(call, &errors))
}

fn invalid(call: &Call, errors: &[FieldError]) -> Status {
    Status::invalid(&call.kind.group, &call.kind.kind, "", errors)
}

fn access(policies: &impl Policies, user: &User, spec: &Value) -> Value {
    let resource = &spec["resourceAttributes"];
    let decision = if resource.is_object() {
        let target = ResourceTarget {
            group: text(resource, "group"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
        };
        decide(
            policies,
            user,
            &Attributes::resource(text(resource, "verb"), target),
        )
    } else {
        let path = &spec["nonResourceAttributes"];
        decide(
            policies,
            user,
            &Attributes::path(text(path, "verb"), text(path, "path")),
        )
    };
    let mut status = json!({ "allowed": decision.allowed });
    if !decision.reason.is_empty() {
        status["reason"] = json!(decision.reason);
    }
    status
}

fn rules(policies: &impl Policies, call: &Call, spec: &Value) -> Result<Value, Status> {
    let namespace = text(spec, "namespace");
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (mut held, errors) = rbac::rules_of(policies, &call.user, namespace);
    if is_master(&call.user) {
        held.push(Rule::everything());
        held.push(Rule::every_path());
    }
    let mut rules: (Vec<Value>, Vec<Value>) = Default::default();
    for rule in held {
        let list = if rule.urls.is_empty() {
            &mut rules.0
        } else {
            &mut rules.1
        };
        let value = rule.to_value();
        if !list.contains(&value) {
            list.push(value);
        }
    }
    let mut status = json!({ "resourceRules": rules.0, "nonResourceRules": rules.1, "incomplete": !errors.is_empty() });
    if !errors.is_empty() {
        status["evaluationError"] = json!(rbac::aggregate(&errors));
    }
    Ok(status)
}
