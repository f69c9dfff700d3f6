//! Schemas → compiled rules. Findings are what Kubernetes refuses a CRD for.

use std::collections::BTreeMap;

use cel::{ObjectType, Program, Type};
use serde_json::{Map, Value};

use super::{Rule, Rules};
use crate::schema::ListKind;
use crate::status::{Fault, FieldError};

/// Deeper schemas have no rules; the structural check refuses them before.
const MAX_DEPTH: usize = 64;

/// A place of the schema that is being compiled.
struct Place<'a> {
    schema: &'a Map<String, Value>,
    path: String,
    /// The list or map above in which an old item cannot be told.
    lost: Option<String>,
    /// A Kubernetes object: metadata has a name.
    root: bool,
    depth: usize,
}

/// Type and rules of one place.
type Compiled = (Option<Type>, Option<Rules>);

/// Compiles the rules of an `openAPIV3Schema` at `path`; `None` if it has none.
///
/// # Errors
/// One finding per rule that cannot be used.
pub fn compile(schema: &Value, path: &str) -> Result<Option<Rules>, Vec<FieldError>> {
    let Some(schema) = schema.as_object() else {
        return Ok(None);
    };
    let mut errors = Vec::new();
    let root = Place {
        schema,
        path: path.to_owned(),
        lost: None,
        root: true,
        depth: 0,
    };
    let (_, rules) = place(&root, &mut errors);
    if errors.is_empty() {
        Ok(rules)
    } else {
        Err(errors)
    }
}

fn place(at: &Place<'_>, errors: &mut Vec<FieldError>) -> Compiled {
    if at.depth > MAX_DEPTH {
        return (None, None);
    }
    let schema = at.schema;
    let kind = text(schema, "type");
    let mut rules = Rules {
        own: Vec::new(),
        of: Type::Dyn,
        kind: kind.into(),
        list: list_kind(schema),
        atomic_map: text(schema, "x-kubernetes-map-type") == "atomic",
        properties: BTreeMap::new(),
        additional: None,
        items: None,
    };
    let of = match kind {
        _ if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) => {
            Some(Type::Dyn)
        }
        "array" => items(at, &mut rules, errors),
        "object" => object(at, &mut rules, errors),
        _ => scalar(schema, kind),
    };
    if let Some(of) = &of {
        rules.of = of.clone();
        own(at, &mut rules, errors);
    } else if let Some(given) = schema.get("x-kubernetes-validations") {
        let detail = "rules are not supported on a place without a type";
        let field = format!("{}.x-kubernetes-validations", at.path);
        errors.push(FieldError::invalid(field, given, detail));
    }
    let any = !rules.own.is_empty()
        || !rules.properties.is_empty()
        || rules.additional.is_some()
        || rules.items.is_some();
    (of, any.then_some(rules))
}

fn scalar(schema: &Map<String, Value>, kind: &str) -> Option<Type> {
    Some(match (kind, text(schema, "format")) {
        ("string", "byte") => Type::Bytes,
        ("string", "date" | "date-time") => Type::Timestamp,
        ("string", "duration") => Type::Duration,
        ("string", _) => Type::String,
        ("integer", _) => Type::Int,
        ("number", _) => Type::Double,
        ("boolean", _) => Type::Bool,
        _ => return None,
    })
}

fn items(at: &Place<'_>, rules: &mut Rules, errors: &mut Vec<FieldError>) -> Option<Type> {
    let schema = at.schema.get("items")?.as_object()?;
    let lost = match rules.list {
        ListKind::Map(_) => at.lost.clone(),
        _ => at.lost.clone().or_else(|| Some(at.path.clone())),
    };
    let below = Place {
        schema,
        path: format!("{}.items", at.path),
        lost,
        root: flag(schema, "x-kubernetes-embedded-resource"),
        depth: at.depth + 1,
    };
    let (of, found) = place(&below, errors);
    rules.items = found.map(Box::new);
    let of = of?;
    Some(match rules.list {
        ListKind::Atomic => Type::list(of),
        ListKind::Set | ListKind::Map(_) => Type::Set(of.into()),
    })
}

fn object(at: &Place<'_>, rules: &mut Rules, errors: &mut Vec<FieldError>) -> Option<Type> {
    let lost = if rules.atomic_map {
        at.lost.clone().or_else(|| Some(at.path.clone()))
    } else {
        at.lost.clone()
    };
    let below = |schema, path| Place {
        schema,
        path,
        lost: lost.clone(),
        root: flag(schema, "x-kubernetes-embedded-resource"),
        depth: at.depth + 1,
    };
    if let Some(Value::Object(schema)) = at.schema.get("additionalProperties") {
        let path = format!("{}.additionalProperties", at.path);
        let (of, found) = place(&below(schema, path), errors);
        rules.additional = found.map(Box::new);
        return Some(Type::map(of?));
    }
    let mut fields = BTreeMap::new();
    let properties = at.schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let Some(schema) = property.as_object() else {
            continue;
        };
        let path = format!("{}.properties[{name}]", at.path);
        let (of, found) = place(&below(schema, path), errors);
        if let Some(found) = found {
            rules.properties.insert(name.as_str().into(), found);
        }
        if let Some(of) = of {
            fields.insert(name.clone(), of);
        }
    }
    if at.root || flag(at.schema, "x-kubernetes-embedded-resource") {
        let names = ["name", "generateName"].map(|name| (name.to_owned(), Type::String));
        let metadata = Type::Object(ObjectType::new(names).into());
        fields.insert("apiVersion".into(), Type::String);
        fields.insert("kind".into(), Type::String);
        fields.insert("metadata".into(), metadata);
    }
    Some(Type::Object(ObjectType::new(fields).into()))
}

/// The rules of the place itself.
fn own(at: &Place<'_>, rules: &mut Rules, errors: &mut Vec<FieldError>) {
    let given = at.schema.get("x-kubernetes-validations");
    let given = given.and_then(Value::as_array).into_iter().flatten();
    for (index, given) in given.enumerate() {
        let field = format!("{}.x-kubernetes-validations[{index}]", at.path);
        match rule(at, &rules.of, given, &field) {
            Ok(rule) => rules.own.push(rule),
            Err(error) => errors.push(error),
        }
    }
}

fn rule(at: &Place<'_>, of: &Type, given: &Value, field: &str) -> Result<Rule, FieldError> {
    let part = |name: &str| given[name].as_str().unwrap_or_default();
    let source = part("rule");
    let invalid = |below: &str, detail: String| {
        let value = given.get(below).unwrap_or(given);
        FieldError::invalid(format!("{field}.{below}"), value, detail)
    };
    if source.trim().is_empty() {
        return Err(FieldError::required(
            format!("{field}.rule"),
            "rule is not specified",
        ));
    }
    let message = part("message");
    if !message.is_empty() && message.trim().is_empty() {
        return Err(invalid(
            "message",
            "message must be non-empty if specified".into(),
        ));
    }
    if message.trim().contains('\n') {
        return Err(invalid(
            "message",
            "message must not contain line breaks".into(),
        ));
    }
    if source.trim().contains('\n') && message.is_empty() && part("messageExpression").is_empty() {
        let detail = "message or messageExpression must be specified if rule contains line breaks";
        return Err(FieldError::required(format!("{field}.message"), detail));
    }
    let optional_old = given["optionalOldSelf"] == true;
    let old = if optional_old {
        Type::Optional(of.clone().into())
    } else {
        of.clone()
    };
    let variables = [("self", of.clone()), ("oldSelf", old)];
    let compiled = Program::compile(source, &variables)
        .map_err(|why| invalid("rule", format!("compilation failed: {why}")))?;
    if *compiled.result() != Type::Bool {
        return Err(invalid(
            "rule",
            "cel expression must evaluate to a bool".into(),
        ));
    }
    if compiled.uses("oldSelf")
        && let Some(lost) = &at.lost
    {
        let detail = format!(
            "oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}"
        );
        return Err(invalid("rule", detail));
    }
    if optional_old && !compiled.uses("oldSelf") {
        let detail = "option must not be set to true if oldSelf is not used in rule";
        return Err(invalid("optionalOldSelf", detail.into()));
    }
    let message_program = match part("messageExpression") {
        "" => None,
        made => {
            let program = Program::compile(made, &variables).map_err(|why| {
                invalid(
                    "messageExpression",
                    format!("messageExpression compilation failed: {why}"),
                )
            })?;
            if !matches!(program.result(), Type::String) {
                let detail = "messageExpression must evaluate to a string";
                return Err(invalid("messageExpression", detail.into()));
            }
            Some(program)
        }
    };
    let below = part("fieldPath");
    let below = if below.is_empty() {
        String::new()
    } else {
        field_path(at.schema, below).map_err(|why| {
            invalid(
                "fieldPath",
                format!("fieldPath must be a valid path: {why}"),
            )
        })?
    };
    Ok(Rule {
        source: source.into(),
        program: compiled,
        message: message.into(),
        message_program,
        fault: reason(part("reason")).ok_or_else(|| {
            let detail = "supported values: \"FieldValueRequired\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueDuplicate\"";
            let value = given["reason"].to_string();
            FieldError::with_value(Fault::NotSupported, format!("{field}.reason"), value, detail)
        })?,
        field: below.into(),
        optional_old,
    })
}

fn reason(text: &str) -> Option<Fault> {
    Some(match text {
        "" | "FieldValueInvalid" => Fault::Invalid,
        "FieldValueForbidden" => Fault::Forbidden,
        "FieldValueRequired" => Fault::Required,
        "FieldValueDuplicate" => Fault::Duplicate,
        _ => return None,
    })
}

/// `.spec.names['a.b']` → `.spec.names[a.b]`, if the schema has such a place.
fn field_path(schema: &Map<String, Value>, path: &str) -> Result<String, &'static str> {
    let mut out = String::new();
    let mut here = schema;
    let mut rest = path;
    while !rest.is_empty() {
        let (name, next) = if let Some(after) = rest.strip_prefix("['") {
            after
                .split_once("']")
                .ok_or("unexpected end of JSON path")?
        } else {
            let after = rest.strip_prefix('.').ok_or("expected [ or .")?;
            after.split_at(after.find(['.', '[']).unwrap_or(after.len()))
        };
        let property = here
            .get("properties")
            .and_then(|properties| properties.get(name));
        let value = here.get("additionalProperties");
        here = match (property, value) {
            (Some(Value::Object(property)), _) => {
                out.push('.');
                out.push_str(name);
                property
            }
            (_, Some(Value::Object(value))) => {
                out.push('[');
                out.push_str(name);
                out.push(']');
                value
            }
            _ => return Err("does not refer to a valid field"),
        };
        rest = next;
    }
    Ok(out)
}

fn list_kind(schema: &Map<String, Value>) -> ListKind {
    match text(schema, "x-kubernetes-list-type") {
        "set" => ListKind::Set,
        "map" => {
            let keys = schema
                .get("x-kubernetes-list-map-keys")
                .and_then(Value::as_array);
            let keys = keys.into_iter().flatten().filter_map(Value::as_str);
            ListKind::Map(keys.map(Into::into).collect())
        }
        _ => ListKind::Atomic,
    }
}

fn text<'a>(schema: &'a Map<String, Value>, name: &str) -> &'a str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn flag(schema: &Map<String, Value>, name: &str) -> bool {
    schema
        .get(name)
        .and_then(Value::as_bool)
        .unwrap_or_default()
}
