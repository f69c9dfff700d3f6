//! `x-kubernetes-validations`: rules in CEL, compiled when a CRD is installed.
//!
//! [`Rules`] mirrors the places of a schema that have rules at or below them. Texts are those of
//! Kubernetes. A rule that fails on a place that an update does not change is a warning, so a
//! tightened CRD does not block writes to other fields.

mod compile;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use cel::{Budget, Error, Program, Type, Value as CelValue};
use serde_json::Value;

pub use compile::compile;

use crate::schema::{ListKind, Path};
use crate::status::{Fault, FieldError};

/// Length of a message that an expression makes, as in Kubernetes.
const MAX_MESSAGE: usize = 5 * 1024;

/// The rules at and below one place of a schema.
#[derive(Debug)]
pub struct Rules {
    own: Vec<Rule>,
    of: Type,
    /// OpenAPI type, which errors show instead of the value.
    kind: Box<str>,
    list: ListKind,
    atomic_map: bool,
    properties: BTreeMap<Box<str>, Rules>,
    additional: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
}

#[derive(Debug)]
struct Rule {
    source: Box<str>,
    program: Program,
    message: Box<str>,
    message_program: Option<Program>,
    fault: Fault,
    /// Path below the place, such as `.name`; empty for the place itself.
    field: Box<str>,
    optional_old: bool,
}

/// What rules say about an object.
#[derive(Debug, Default)]
pub struct Findings {
    /// Reasons to refuse it.
    pub errors: Vec<FieldError>,
    /// Findings about places that did not change.
    pub warnings: Vec<String>,
}

/// A place of the old object, as far as it can be told which one it is.
#[derive(Clone, Copy, Default)]
struct Past<'a> {
    here: Option<&'a Value>,
    /// New and old value of the nearest place above that can be told.
    above: Option<(&'a Value, &'a Value)>,
}

impl<'a> Past<'a> {
    fn unchanged(self, new: &Value) -> bool {
        match (self.here, self.above) {
            (Some(old), _) => old == new,
            (None, above) => above.is_some_and(|(new, old)| new == old),
        }
    }

    fn below(self, new: &'a Value, here: Option<&'a Value>) -> Self {
        let above = self.here.map(|old| (new, old)).or(self.above);
        Self { here, above }
    }
}

struct Judge<'o> {
    budget: Budget,
    found: &'o mut Findings,
}

/// The budget is used up: nothing more is judged.
struct Stop;

/// Judges a whole object. `old` is the stored object of an update.
pub fn check(rules: &Rules, new: &Value, old: Option<&Value>) -> Findings {
    let mut found = Findings::default();
    let mut judge = Judge {
        budget: Budget::new(cel::OBJECT_LIMIT),
        found: &mut found,
    };
    let past = Past {
        here: old,
        above: None,
    };
    // It has told what it found before it stopped.
    let _ = judge.place(rules, new, past, &Path::Root);
    found
}

impl Judge<'_> {
    fn place<'a>(
        &mut self,
        rules: &'a Rules,
        new: &'a Value,
        past: Past<'a>,
        path: &Path<'_>,
    ) -> Result<(), Stop> {
        if new.is_null() {
            return Ok(());
        }
        for rule in &rules.own {
            self.rule(rules, rule, new, past, path)?;
        }
        match new {
            Value::Object(map) => {
                let old = past.here.filter(|_| !rules.atomic_map);
                for (key, value) in map {
                    let named = rules.properties.get(&**key);
                    let Some(below) = named.or(rules.additional.as_deref()) else {
                        continue;
                    };
                    let here = old.and_then(|old| old.get(key));
                    let path = if named.is_some() {
                        path.field(key)
                    } else {
                        path.key(key)
                    };
                    self.place(below, value, past.below(new, here), &path)?;
                }
            }
            Value::Array(items) => {
                let Some(below) = &rules.items else {
                    return Ok(());
                };
                for (index, item) in items.iter().enumerate() {
                    let here = past.here.and_then(|old| same_item(&rules.list, item, old));
                    self.place(below, item, past.below(new, here), &path.index(index))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rule<'a>(
        &mut self,
        rules: &'a Rules,
        rule: &'a Rule,
        new: &'a Value,
        past: Past<'a>,
        path: &Path<'_>,
    ) -> Result<(), Stop> {
        let old = past.here.filter(|old| !old.is_null());
        let looks_back = rule.program.uses("oldSelf");
        if looks_back && old.is_none() && !rule.optional_old {
            return Ok(());
        }
        let old = old.map(|old| CelValue::read(old, &rules.of));
        let old = if rule.optional_old {
            CelValue::optional(old)
        } else {
            old.unwrap_or(CelValue::Null)
        };
        let variables = [("self", CelValue::read(new, &rules.of)), ("oldSelf", old)];
        let shown = format!("\"{}\"", rules.kind);
        let told = rule.told();
        let place = path.to_string();
        let error = match rule.program.evaluate(&variables, &mut self.budget) {
            Ok(CelValue::Bool(true)) => return Ok(()),
            Ok(_) => return self.broken(rules, rule, &variables, (new, past), &place),
            Err(Error::Budget) if self.budget.left() == 0 => {
                let detail = "validation failed due to running out of cost budget, no further validation rules will be run";
                self.error(Fault::Invalid, place, shown, detail);
                return Err(Stop);
            }
            Err(error @ Error::Budget) => {
                let detail = format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {told}"
                );
                self.error(Fault::Invalid, place, shown, &detail);
                return Err(Stop);
            }
            Err(Error::Failed(error)) => error,
        };
        let detail = if error.starts_with("no such overload") {
            format!(
                "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {told}"
            )
        } else {
            format!("{error} evaluating rule: {told}")
        };
        self.error(Fault::Invalid, place, shown, &detail);
        Ok(())
    }

    /// Tells that a rule does not hold.
    fn broken<'a>(
        &mut self,
        rules: &Rules,
        rule: &'a Rule,
        variables: &[(&'a str, CelValue<'a>)],
        (new, past): (&Value, Past<'_>),
        place: &str,
    ) -> Result<(), Stop> {
        let field = format!("{place}{}", rule.field);
        let field = field.trim_start_matches('.').to_owned();
        let made = rule
            .message_program
            .as_ref()
            .map(|program| program.evaluate(variables, &mut self.budget));
        let detail = match made {
            Some(Ok(value)) => value
                .as_str()
                .map(str::trim)
                .filter(|text| is_message(text))
                .map(ToOwned::to_owned),
            Some(Err(Error::Budget)) => {
                let detail = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";
                self.error(Fault::Invalid, field, format!("\"{}\"", rules.kind), detail);
                return Err(Stop);
            }
            Some(Err(Error::Failed(_))) | None => None,
        };
        let detail = detail.unwrap_or_else(|| match rule.message.trim() {
            "" => format!("failed rule: {}", rule.source.trim()),
            message => message.to_owned(),
        });
        let value = match rule.fault {
            Fault::Required | Fault::Forbidden => None,
            _ => Some(format!("\"{}\"", rules.kind)),
        };
        let detail = if rule.fault == Fault::Duplicate {
            String::new()
        } else {
            detail
        };
        let error = FieldError {
            fault: rule.fault,
            field,
            value,
            detail,
        };
        if !rule.program.uses("oldSelf") && past.unchanged(new) {
            self.found.warnings.push(error.to_string());
        } else {
            self.found.errors.push(error);
        }
        Ok(())
    }

    fn error(&mut self, fault: Fault, field: String, value: String, detail: &str) {
        self.found
            .errors
            .push(FieldError::with_value(fault, field, value, detail));
    }
}

impl Rule {
    /// What errors call the rule.
    fn told(&self) -> &str {
        let message = self.message.trim();
        if message.is_empty() {
            self.source.trim()
        } else {
            message
        }
    }
}

fn is_message(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n')
}

/// Items of lists with keys continue the old item of the same key; others cannot be told.
fn same_item<'a>(list: &ListKind, item: &Value, old: &'a Value) -> Option<&'a Value> {
    let ListKind::Map(keys) = list else {
        return None;
    };
    let same = |old: &&Value| keys.iter().all(|key| old.get(&**key) == item.get(&**key));
    old.as_array()?.iter().find(same)
}
