//! A policy's expressions, compiled.

use std::sync::Arc;

use cel::{Program, Type};
use serde_json::{Value, json};

use super::Test;
use crate::status::FieldError;

/// What expressions may use; `variables` after the conditions.
const NAMES: [&str; 5] = [
    "object",
    "oldObject",
    "request",
    "params",
    "namespaceObject",
];

/// A compiled policy.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    /// All must hold for the policy to apply.
    pub(super) conditions: Vec<Test>,
    /// In order; each may use those before.
    pub(super) variables: Vec<(Arc<str>, Program)>,
    pub(super) validations: Vec<Validation>,
    /// Why a part cannot be used. Policies are checked before they are stored, so this is a policy
    /// of another version of this program.
    pub(super) faults: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Validation {
    pub(super) rule: Test,
    pub(super) message: String,
    pub(super) message_program: Option<Program>,
    pub(super) reason: String,
}

impl Compiled {
    pub(super) fn of(policy: &Value) -> Self {
        let (compiled, errors) = compile(policy);
        Self {
            faults: errors.iter().map(ToString::to_string).collect(),
            ..compiled
        }
    }
}

/// Findings about the expressions of a policy.
pub(crate) fn check(policy: &Value) -> Vec<FieldError> {
    compile(policy).1
}

fn compile(policy: &Value) -> (Compiled, Vec<FieldError>) {
    let spec = &policy["spec"];
    let mut compiled = Compiled::default();
    let mut errors = Vec::new();
    let names: Vec<(&str, Type)> = NAMES.map(|name| (name, Type::Dyn)).to_vec();
    for (at, condition) in items(spec, "matchConditions") {
        let field = format!("spec.matchConditions[{at}].expression");
        compiled
            .conditions
            .extend(test(condition, field, &names, &mut errors));
    }
    let mut all = names;
    all.push(("variables", Type::Dyn));
    for (at, variable) in items(spec, "variables") {
        let field = format!("spec.variables[{at}].expression");
        let program = program(text(variable, "expression"), field, &all, &mut errors);
        let name: Arc<str> = text(variable, "name").into();
        compiled
            .variables
            .extend(program.map(|program| (name, program)));
    }
    for (at, validation) in items(spec, "validations") {
        let field = format!("spec.validations[{at}]");
        let message_program = match text(validation, "messageExpression") {
            "" => None,
            source => {
                let place = format!("{field}.messageExpression");
                program(source, place, &all, &mut errors)
            }
        };
        let reason = match text(validation, "reason") {
            "" => "Invalid",
            reason => reason,
        };
        let rule = test(validation, format!("{field}.expression"), &all, &mut errors);
        compiled.validations.extend(rule.map(|rule| Validation {
            rule,
            message: text(validation, "message").trim().to_owned(),
            message_program,
            reason: reason.to_owned(),
        }));
    }
    if !spec["auditAnnotations"]
        .as_array()
        .is_none_or(Vec::is_empty)
    {
        errors.push(FieldError::invalid(
            "spec.auditAnnotations",
            &spec["auditAnnotations"],
            "this server keeps no audit log, so audit annotations would have no effect",
        ));
    }
    (compiled, errors)
}

fn items<'a>(spec: &'a Value, field: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    spec[field].as_array().into_iter().flatten().enumerate()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn test(
    value: &Value,
    field: String,
    names: &[(&str, Type)],
    errors: &mut Vec<FieldError>,
) -> Option<Test> {
    let source = text(value, "expression");
    let program = program(source, field.clone(), names, errors)?;
    if !matches!(program.result(), Type::Bool | Type::Dyn) {
        errors.push(FieldError::invalid(
            field,
            &json!(source),
            "must evaluate to bool",
        ));
        return None;
    }
    Some(Test {
        source: source.trim().to_owned(),
        program,
    })
}

fn program(
    source: &str,
    field: String,
    names: &[(&str, Type)],
    errors: &mut Vec<FieldError>,
) -> Option<Program> {
    if source.trim().is_empty() {
        errors.push(FieldError::required(field, "expression is not specified"));
        return None;
    }
    match Program::compile(source, names) {
        Ok(program) => Some(program),
        Err(why) => {
            let detail = format!("compilation failed: {why}");
            errors.push(FieldError::invalid(field, &json!(source), detail));
            None
        }
    }
}
