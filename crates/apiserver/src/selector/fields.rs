//! Field selectors: `metadata.name=a,status.phase!=Failed`.
//!
//! Which paths may be selected is part of the type; any other is refused, as in Kubernetes.

use serde_json::Value;

/// A conjunction of field tests; empty matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    tests: Vec<Test>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Test {
    path: Vec<String>,
    value: String,
    equal: bool,
}

impl Fields {
    /// Parses the `fieldSelector` of a query. `selectable` are the paths of the type beside
    /// `metadata.name` and `metadata.namespace`.
    pub fn parse(text: &str, selectable: &[String]) -> Result<Self, String> {
        let mut tests = Vec::new();
        for term in terms(text) {
            let (path, value, equal) = split(&term)
                .ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{term}'"))?;
            let known = matches!(path, "metadata.name" | "metadata.namespace");
            if !known && !selectable.iter().any(|one| one == path) {
                return Err(format!("field label not supported: {path}"));
            }
            let path = path.split('.').map(str::to_owned).collect();
            tests.push(Test {
                path,
                value: unescape(value),
                equal,
            });
        }
        Ok(Self { tests })
    }

    /// Whether nothing is required.
    pub fn is_everything(&self) -> bool {
        self.tests.is_empty()
    }

    /// The name, if the selector asks for exactly one: such a list is a look-up.
    pub fn name(&self) -> Option<&str> {
        let by_name = |test: &&Test| test.equal && test.path == ["metadata", "name"];
        self.tests
            .iter()
            .find(by_name)
            .map(|test| test.value.as_str())
    }

    /// Whether an object matches. Missing fields are empty.
    pub fn matches(&self, object: &Value) -> bool {
        self.tests
            .iter()
            .all(|test| (read(object, &test.path) == test.value) == test.equal)
    }
}

fn read(object: &Value, path: &[String]) -> String {
    let mut value = Some(object);
    for field in path {
        value = value.and_then(|value| value.get(field));
    }
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Splits at commas that are not escaped.
fn terms(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for letter in text.chars() {
        match letter {
            ',' if !escaped => terms.push(String::new()),
            _ => {
                if let Some(term) = terms.last_mut() {
                    term.push(letter);
                }
            }
        }
        escaped = letter == '\\' && !escaped;
    }
    terms.retain(|term| !term.is_empty());
    terms
}

fn split(term: &str) -> Option<(&str, &str, bool)> {
    let at = term.find(['=', '!'])?;
    let (path, rest) = term.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        Some((path, value, false))
    } else {
        rest.strip_prefix("==")
            .or_else(|| rest.strip_prefix('='))
            .map(|value| (path, value, true))
    }
}

fn unescape(value: &str) -> String {
    let mut out = String::new();
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => out.extend(letters.next()),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_compared_as_text() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
        let selectable = [
            "spec.nodeName".to_owned(),
            "status.phase".to_owned(),
            "spec.unschedulable".to_owned(),
        ];
        for (text, expected) in [
            ("metadata.name=p", true),
            ("metadata.name!=p", false),
            ("spec.nodeName==n,status.phase!=Failed", true),
            ("spec.unschedulable=", true),
            ("", true),
        ] {
            assert_eq!(
                Fields::parse(text, &selectable).unwrap().matches(&pod),
                expected,
                "{text}"
            );
        }
        assert_eq!(
            Fields::parse("metadata.name=p", &[]).unwrap().name(),
            Some("p")
        );
    }

    #[test]
    fn paths_that_are_not_selectable_are_refused() {
        let refused = Fields::parse("spec.replicas=1", &[]);
        assert_eq!(
            refused,
            Err("field label not supported: spec.replicas".to_owned())
        );
        assert!(Fields::parse("nonsense", &[]).is_err());
    }
}
