//! JSONPath as printer columns use it: fields, indexes, wildcards and filters.
//!
//! `.spec.x`, `.metadata.labels['a\.b']`, `.status.conditions[?(@.type=='Ready')].status`. Recursion
//! (`..`), slices and unions are refused when the CRD is written, not when a table is printed.

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter {
        path: JsonPath,
        test: Option<(Operator, Value)>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Parses a path; braces around it and a leading `$` are allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let inner = text.trim();
        let inner = inner
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .unwrap_or(inner);
        let inner = inner.strip_prefix('$').unwrap_or(inner);
        let mut parser = Parser { rest: inner };
        let steps = parser.steps()?;
        if parser.rest.is_empty() {
            Ok(Self { steps })
        } else {
            Err(format!("unexpected \"{}\"", parser.rest))
        }
    }

    /// Everything the path finds, in document order.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in found {
                step.walk(value, &mut next);
            }
            found = next;
        }
        found
    }
}

impl Step {
    fn walk<'a>(&self, value: &'a Value, out: &mut Vec<&'a Value>) {
        match self {
            Self::Field(name) => out.extend(value.get(name)),
            Self::Index(index) => {
                let Some(items) = value.as_array() else {
                    return;
                };
                let at = if *index < 0 {
                    items.len() as i64 + index
                } else {
                    *index
                };
                out.extend(usize::try_from(at).ok().and_then(|at| items.get(at)));
            }
            Self::All => out.extend(children(value)),
            Self::Filter { path, test } => {
                out.extend(children(value).filter(|item| {
                    let found = path.find(item);
                    match test {
                        None => !found.is_empty(),
                        Some((operator, wanted)) => found
                            .first()
                            .is_some_and(|value| operator.holds(value, wanted)),
                    }
                }));
            }
        }
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(map) => Box::new(map.values()),
        _ => Box::new(std::iter::empty()),
    }
}

impl Operator {
    fn holds(self, left: &Value, right: &Value) -> bool {
        let order = match (left, right) {
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            (Value::Number(_), Value::Number(_)) => left.as_f64().partial_cmp(&right.as_f64()),
            _ => (left == right).then_some(std::cmp::Ordering::Equal),
        };
        match self {
            Self::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
            Self::NotEqual => order.is_none_or(std::cmp::Ordering::is_ne),
            Self::Less => order.is_some_and(std::cmp::Ordering::is_lt),
            Self::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
            Self::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
            Self::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn steps(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        loop {
            if let Some(rest) = self.rest.strip_prefix('.') {
                if rest.starts_with('.') {
                    return Err("recursive descent is not supported".into());
                }
                self.rest = rest;
                if let Some(rest) = self.rest.strip_prefix('*') {
                    self.rest = rest;
                    steps.push(Step::All);
                } else if !self.rest.is_empty() && !self.rest.starts_with('[') {
                    steps.push(Step::Field(self.name()?));
                }
            } else if self.rest.starts_with('[') {
                steps.push(self.bracket()?);
            } else {
                return Ok(steps);
            }
        }
    }

    /// A field name; a backslash takes the next letter as it is.
    fn name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        let mut letters = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => name.extend(letters.next().map(|(_, letter)| letter)),
                '.' | '[' | ')' | '=' | '!' | '<' | '>' | ' ' => {
                    end = at;
                    break;
                }
                other => name.push(other),
            }
        }
        self.rest = &self.rest[end..];
        if name.is_empty() {
            Err("a field name is missing".into())
        } else {
            Ok(name)
        }
    }

    fn bracket(&mut self) -> Result<Step, String> {
        self.rest = &self.rest[1..];
        if let Some(rest) = self.rest.strip_prefix("?(") {
            self.rest = rest;
            return self.filter();
        }
        let step = match self.rest.chars().next() {
            Some('*') => {
                self.rest = &self.rest[1..];
                Step::All
            }
            Some('\'' | '"') => Step::Field(self.quoted()?),
            // Kubernetes reads an empty index as all of the list; published CRDs have such columns.
            Some(']') => Step::All,
            _ => {
                let end = self.rest.find(']').ok_or("']' is missing")?;
                let index = self.rest[..end]
                    .trim()
                    .parse()
                    .map_err(|_| format!("\"{}\" is no index", &self.rest[..end]))?;
                self.rest = &self.rest[end..];
                Step::Index(index)
            }
        };
        self.take(']')?;
        Ok(step)
    }

    fn filter(&mut self) -> Result<Step, String> {
        self.rest = self
            .rest
            .trim_start()
            .strip_prefix('@')
            .ok_or("a filter must start with @")?;
        let path = JsonPath {
            steps: self.steps()?,
        };
        self.rest = self.rest.trim_start();
        let operators = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let operator = operators
            .iter()
            .find(|(text, _)| self.rest.starts_with(text));
        let test = match operator {
            None => None,
            Some((text, operator)) => {
                self.rest = self.rest[text.len()..].trim_start();
                Some((*operator, self.literal()?))
            }
        };
        self.rest = self.rest.trim_start();
        self.take(')')?;
        self.take(']')?;
        Ok(Step::Filter { path, test })
    }

    fn literal(&mut self) -> Result<Value, String> {
        if self.rest.starts_with(['\'', '"']) {
            return self.quoted().map(Value::String);
        }
        let end = self.rest.find([')', ' ']).ok_or("')' is missing")?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        serde_json::from_str(text).map_err(|_| format!("\"{text}\" is no value"))
    }

    fn quoted(&mut self) -> Result<String, String> {
        let mut letters = self.rest.char_indices();
        let Some((_, quote)) = letters.next() else {
            return Err("a quote is missing".into());
        };
        let mut out = String::new();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => out.extend(letters.next().map(|(_, letter)| letter)),
                end if end == quote => {
                    self.rest = &self.rest[at + end.len_utf8()..];
                    return Ok(out);
                }
                other => out.push(other),
            }
        }
        Err("a quote is not closed".into())
    }

    fn take(&mut self, wanted: char) -> Result<(), String> {
        self.rest = self
            .rest
            .strip_prefix(wanted)
            .ok_or_else(|| format!("'{wanted}' is missing before \"{}\"", self.rest))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(path: &str, expected: &Value) {
        let object = json!({
            "metadata": {"labels": {"a.b/c": "dotted"}, "annotations": {"x": "y"}},
            "spec": {"list": [{"n": 1, "on": true}, {"n": 2}]},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "reason": "Fine"},
                {"type": "Other", "status": "False"},
            ]},
        });
        let found = JsonPath::parse(path).unwrap();
        let found: Vec<_> = found.find(&object).into_iter().cloned().collect();
        assert_eq!(Value::Array(found), *expected, "{path}");
    }

    #[test]
    fn paths_find_what_columns_ask_for() {
        check(".metadata.annotations.x", &json!(["y"]));
        check(".metadata.labels['a\\.b/c']", &json!(["dotted"]));
        check(".metadata.labels.a\\.b/c", &json!(["dotted"]));
        check(
            ".status.conditions[?(@.type=='Ready')].status",
            &json!(["True"]),
        );
        check(
            ".status.conditions[?(@.type==\"Ready\")].reason",
            &json!(["Fine"]),
        );
        check(
            "{.status.conditions[?(@.type != 'Ready')].status}",
            &json!(["False"]),
        );
        check(".spec.list[1].n", &json!([2]));
        check(".spec.list[-1].n", &json!([2]));
        check(".spec.list[*].n", &json!([1, 2]));
        check(".spec.list[].n", &json!([1, 2]));
        check(".spec.list[?(@.n>1)].n", &json!([2]));
        check(".spec.list[?(@.on)].n", &json!([1]));
        check(".spec.missing.deep", &json!([]));
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for path in ["..name", ".a[", ".a[x]", ".a[?(@.b=='c'].d", ".a['b"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }
}
