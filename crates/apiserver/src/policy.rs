//! ValidatingAdmissionPolicies: rules in CEL that every write of matching objects must keep.
//!
//! Policies and bindings are read from the store at each write, so one works from the write that
//! stores it; compiled expressions are kept by uid and revision.

mod compiled;
mod matching;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use cel::{Budget, Error, Value as Cel};
use serde_json::{Value, json};

use crate::admission::Operation;
use crate::auth::review::user_info;
use crate::crud::{Api, Call, object_key};
use crate::selector::Labels;
use crate::status::{Cause, FieldError, Named, Status};
use crate::store::{Object, Scope};
pub(crate) use compiled::check;
use compiled::{Compiled, Validation};
use matching::Target;

const GROUP: &str = "admissionregistration.k8s.io";
const POLICIES: &str = "validatingadmissionpolicies.admissionregistration.k8s.io";
const BINDINGS: &str = "validatingadmissionpolicybindings.admissionregistration.k8s.io";
/// Compiled policies kept; more are compiled again.
const KEPT: usize = 1000;

/// Compiled policies by uid and revision.
#[derive(Debug, Default)]
pub(crate) struct Cache(RwLock<HashMap<Version, Arc<Compiled>>>);

/// A uid and a revision.
type Version = (Box<str>, u64);

/// A write as policies see it.
struct Request<'a> {
    api: &'a Api,
    call: &'a Call,
    new: Option<&'a Value>,
    old: Option<&'a Value>,
    namespace: Option<Arc<Value>>,
    /// The `request` of expressions.
    described: Value,
}

/// Refuses what a bound policy denies; findings that only warn go to `warnings`.
pub(crate) fn judge(
    api: &Api,
    call: &Call,
    operation: Operation,
    (new, old): (Option<&Value>, Option<&Value>),
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let (_, bindings) = api.store.list(BINDINGS, &Scope::All);
    // A policy must not be able to lock out who repairs it.
    if bindings.is_empty() || call.kind.group == GROUP {
        return Ok(());
    }
    let target = Target::of(call, operation, new, old);
    let mut request: Option<Request<'_>> = None;
    for binding in bindings {
        let binding = binding.value();
        let name = binding["spec"]["policyName"].as_str().unwrap_or_default();
        let Some(stored) = api.store.get(POLICIES, name) else {
            continue;
        };
        let policy = stored.value();
        let applies = matching::matches(api, &policy["spec"]["matchConstraints"], &target)
            && (binding["spec"]["matchResources"].is_null()
                || matching::matches(api, &binding["spec"]["matchResources"], &target));
        if !applies {
            continue;
        }
        let request = request.get_or_insert_with(|| Request::new(api, call, operation, new, old));
        let bound = Bound {
            policy: &policy,
            binding: &binding,
            compiled: api.policies.get(&stored, &policy),
        };
        bound.judge(request, warnings)?;
    }
    Ok(())
}

impl Cache {
    fn get(&self, stored: &Object, policy: &Value) -> Arc<Compiled> {
        let key: (Box<str>, u64) = (stored.uid().into(), stored.revision());
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&key) {
            return Arc::clone(found);
        }
        drop(known);
        let compiled = Arc::new(Compiled::of(policy));
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(key, Arc::clone(&compiled));
        compiled
    }
}

impl<'a> Request<'a> {
    fn new(
        api: &'a Api,
        call: &'a Call,
        operation: Operation,
        new: Option<&'a Value>,
        old: Option<&'a Value>,
    ) -> Self {
        let kind = &call.kind;
        let what = json!({ "group": kind.group, "version": kind.version, "kind": kind.kind });
        let resource =
            json!({ "group": kind.group, "version": kind.version, "resource": kind.plural });
        let described = json!({
            "kind": what,
            "resource": resource,
            "subResource": call.subresource,
            "requestKind": what,
            "requestResource": resource,
            "requestSubResource": call.subresource,
            "name": call.name,
            "namespace": call.namespace,
            "operation": matching::word(operation),
            "userInfo": user_info(&call.user),
            "dryRun": call.options.dry_run,
        });
        let namespace = api.store.get("namespaces", &call.namespace);
        Self {
            api,
            call,
            new,
            old,
            namespace: namespace.map(|namespace| namespace.value()),
            described,
        }
    }
}

/// A policy and one of its bindings.
struct Bound<'a> {
    policy: &'a Value,
    binding: &'a Value,
    compiled: Arc<Compiled>,
}

/// What a validation found.
struct Finding {
    message: String,
    reason: String,
}

impl Bound<'_> {
    fn judge(&self, request: &Request<'_>, warnings: &mut Vec<String>) -> Result<(), Status> {
        let mut findings = Vec::new();
        match self.parameters(request) {
            Ok(parameters) => {
                for parameter in parameters {
                    self.evaluate(request, parameter.as_deref(), &mut findings);
                }
            }
            Err(why) => self.failed(why, &mut findings),
        }
        let actions = self.binding["spec"]["validationActions"].as_array();
        let does =
            |action: &str| actions.is_some_and(|actions| actions.iter().any(|own| own == action));
        let (policy, binding) = (name(self.policy), name(self.binding));
        for finding in findings {
            if does("Warn") {
                warnings.push(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {}",
                    finding.message
                ));
            }
            if does("Deny") {
                let why = format!(
                    "ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {}",
                    finding.message
                );
                return Err(denied(request.call, &why, finding));
            }
        }
        Ok(())
    }

    /// An expression that has no answer counts by the failure policy.
    fn failed(&self, message: String, findings: &mut Vec<Finding>) {
        if self.policy["spec"]["failurePolicy"] != "Ignore" {
            findings.push(Finding {
                message,
                reason: "Invalid".into(),
            });
        }
    }

    /// The objects that `params` stands for, one after the other.
    fn parameters(&self, request: &Request<'_>) -> Result<Vec<Option<Arc<Value>>>, String> {
        let wanted = &self.policy["spec"]["paramKind"];
        let reference = &self.binding["spec"]["paramRef"];
        if wanted.is_null() || reference.is_null() {
            return Ok(vec![None]);
        }
        let types = request.api.types();
        let Some(kind) = types.of(wanted) else {
            return Err(format!(
                "failed to find resource referenced by paramKind: '{wanted}'"
            ));
        };
        let namespace = match reference["namespace"].as_str() {
            _ if !kind.namespaced => "",
            Some(namespace) if !namespace.is_empty() => namespace,
            _ => &request.call.namespace,
        };
        let resource = crate::crud::resource_id(&kind.storage.group, &kind.storage.plural);
        let store = &request.api.store;
        let found: Vec<Arc<Value>> = match reference["name"].as_str() {
            Some(name) if !name.is_empty() => {
                let object = store.get(&resource, &object_key(namespace, name));
                object.into_iter().map(|object| object.value()).collect()
            }
            _ => {
                let labels = Labels::from_selector(&reference["selector"])?;
                let scope = if namespace.is_empty() {
                    Scope::All
                } else {
                    Scope::Namespace(namespace.into())
                };
                let (_, objects) = store.list(&resource, &scope);
                let values = objects.iter().map(|object| object.value());
                values.filter(|value| labels.matches(value)).collect()
            }
        };
        if found.is_empty() {
            return if reference["parameterNotFoundAction"] == "Allow" {
                Ok(Vec::new())
            } else {
                Err("no params found for policy binding with `Deny` parameterNotFoundAction".into())
            };
        }
        Ok(found.into_iter().map(Some).collect())
    }

    fn evaluate(&self, request: &Request<'_>, parameter: Option<&Value>, out: &mut Vec<Finding>) {
        let mut budget = Budget::new(cel::OBJECT_LIMIT);
        let mut variables: Vec<(&str, Cel<'_>)> = vec![
            ("object", read(request.new)),
            ("oldObject", read(request.old)),
            ("request", Cel::json(&request.described)),
            ("params", read(parameter)),
            ("namespaceObject", read(request.namespace.as_deref())),
        ];
        for condition in &self.compiled.conditions {
            match condition.holds(&variables, &mut budget) {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => return self.failed(why, out),
            }
        }
        let mut made: Vec<(Arc<str>, Cel<'_>)> = Vec::new();
        variables.push(("variables", Cel::map(Vec::new())));
        for (name, program) in &self.compiled.variables {
            // One that fails is an error only where it is used: `variables.x` then is no such key.
            if let Ok(value) = program.evaluate(&variables, &mut budget) {
                made.push((Arc::clone(name), value));
                if let Some(last) = variables.last_mut() {
                    last.1 = Cel::map(made.clone());
                }
            }
        }
        for fault in &self.compiled.faults {
            self.failed(fault.clone(), out);
        }
        for validation in &self.compiled.validations {
            match validation.rule.holds(&variables, &mut budget) {
                Ok(true) => {}
                Ok(false) => out.push(Finding {
                    message: message(validation, &variables, &mut budget),
                    reason: validation.reason.clone(),
                }),
                Err(why) => self.failed(why, out),
            }
        }
    }
}

fn message(validation: &Validation, variables: &[(&str, Cel<'_>)], budget: &mut Budget) -> String {
    let made = validation
        .message_program
        .as_ref()
        .and_then(|program| program.evaluate(variables, budget).ok())
        .and_then(|value| value.as_str().map(|text| text.trim().to_owned()))
        .filter(|text| !text.is_empty());
    made.unwrap_or_else(|| match validation.message.as_str() {
        "" => format!("failed expression: {}", validation.rule.source),
        message => message.to_owned(),
    })
}

fn name(value: &Value) -> &str {
    value["metadata"]["name"].as_str().unwrap_or_default()
}

/// Kubernetes' refusal: the words of a forbidden request, with the code of the finding's reason.
fn denied(call: &Call, why: &str, finding: Finding) -> Status {
    let what = Named {
        group: &call.kind.group,
        resource: &call.kind.plural,
        name: &call.name,
    };
    let mut status = Status::forbidden(what, why);
    status.code = match finding.reason.as_str() {
        "Unauthorized" => 401,
        "Forbidden" => 403,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    status.reason = finding.reason;
    if let Some(details) = &mut status.details {
        details.causes.push(Cause {
            reason: String::new(),
            message: why.to_owned(),
            field: String::new(),
        });
    }
    status
}

fn read(value: Option<&Value>) -> Cel<'_> {
    value.map_or(Cel::Null, Cel::json)
}

/// A boolean expression.
#[derive(Debug)]
pub(super) struct Test {
    source: String,
    program: cel::Program,
}

impl Test {
    fn holds<'a>(
        &'a self,
        variables: &[(&'a str, Cel<'a>)],
        budget: &mut Budget,
    ) -> Result<bool, String> {
        match self.program.evaluate(variables, budget) {
            Ok(Cel::Bool(answer)) => Ok(answer),
            Ok(_) => Err(format!(
                "expression '{}' has no boolean result",
                self.source
            )),
            Err(error @ (Error::Budget | Error::Failed(_))) => Err(format!(
                "expression '{}' resulted in error: {error}",
                self.source
            )),
        }
    }
}

/// Findings about a policy or binding itself.
pub(crate) fn validate(kind: &crate::types::ResourceType, value: &Value) -> Vec<FieldError> {
    if kind.group != GROUP {
        return Vec::new();
    }
    match kind.plural.as_str() {
        "validatingadmissionpolicies" => check(value),
        _ => Vec::new(),
    }
}
