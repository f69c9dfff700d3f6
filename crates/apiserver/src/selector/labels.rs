//! Label selectors: `a=b,c!=d,e in (f,g),h notin (i),j,!k,n>3`.

use serde_json::{Map, Value};

use crate::validate::name;

/// A conjunction of requirements; empty matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
    Greater(i64),
    Less(i64),
}

impl Labels {
    /// Parses the `labelSelector` of a query.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text.trim();
        let mut requirements = Vec::new();
        while !rest.is_empty() {
            let (requirement, after) = requirement(rest)?;
            requirements.push(requirement);
            rest = after.trim_start();
            match rest.strip_prefix(',') {
                Some(more) if !more.trim().is_empty() => rest = more.trim_start(),
                Some(_) => return Err("found '', expected: identifier after ','".into()),
                None if rest.is_empty() => {}
                None => return Err(format!("found '{rest}', expected: ',' or 'end of string'")),
            }
        }
        Ok(Self { requirements })
    }

    /// Reads a `LabelSelector` object: `matchLabels` and `matchExpressions`.
    pub fn from_selector(selector: &Value) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for (key, value) in selector
            .get("matchLabels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let value = value
                .as_str()
                .ok_or_else(|| format!("the value of label {key} must be a string"))?;
            requirements.push(Requirement {
                key: key.clone(),
                test: Test::In(vec![value.to_owned()]),
            });
        }
        for expression in selector
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            requirements.push(expression_requirement(expression)?);
        }
        Ok(Self { requirements })
    }

    /// Reads a plain map of labels, as the selector of a Service is.
    pub fn from_map(map: &Map<String, Value>) -> Self {
        let equal = |(key, value): (&String, &Value)| Requirement {
            key: key.clone(),
            test: Test::In(vec![value.as_str().unwrap_or_default().to_owned()]),
        };
        Self {
            requirements: map.iter().map(equal).collect(),
        }
    }

    /// Whether nothing is required.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether the labels of an object match.
    pub fn matches(&self, object: &Value) -> bool {
        self.is_everything()
            || self.matches_map(
                object
                    .pointer("/metadata/labels")
                    .and_then(Value::as_object),
            )
    }

    /// Whether a map of labels matches; `None` is no labels.
    pub fn matches_map(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels
                .and_then(|labels| labels.get(&requirement.key))
                .and_then(Value::as_str);
            requirement.test.holds(value)
        })
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
            Self::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
            Self::Exists => value.is_some(),
            Self::Missing => value.is_none(),
            Self::Greater(least) => number().is_some_and(|number| number > *least),
            Self::Less(most) => number().is_some_and(|number| number < *most),
        }
    }
}

fn expression_requirement(expression: &Value) -> Result<Requirement, String> {
    let key = expression
        .get("key")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let values: Vec<String> = expression
        .get("values")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let operator = expression
        .get("operator")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let test = match operator {
        "In" | "NotIn" if values.is_empty() => {
            return Err(format!(
                "values for key {key} must be specified when operator is {operator}"
            ));
        }
        "In" => Test::In(values),
        "NotIn" => Test::NotIn(values),
        "Exists" => Test::Exists,
        "DoesNotExist" => Test::Missing,
        other => {
            return Err(format!(
                "\"{other}\" is not a valid label selector operator"
            ));
        }
    };
    name::qualified(&key)?;
    Ok(Requirement { key, test })
}

/// One requirement and what follows it.
fn requirement(text: &str) -> Result<(Requirement, &str), String> {
    if let Some(rest) = text.strip_prefix('!') {
        let (key, rest) = word(rest.trim_start());
        return Ok((
            Requirement {
                key: valid_key(key)?,
                test: Test::Missing,
            },
            rest,
        ));
    }
    let (key, rest) = word(text);
    let key = valid_key(key)?;
    let rest = rest.trim_start();
    let (test, rest) =
        if let Some(rest) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
            let (value, rest) = word(rest.trim_start());
            (Test::In(vec![valid_value(value)?]), rest)
        } else if let Some(rest) = rest.strip_prefix("!=") {
            let (value, rest) = word(rest.trim_start());
            (Test::NotIn(vec![valid_value(value)?]), rest)
        } else if let Some(rest) = rest.strip_prefix('>') {
            let (value, rest) = word(rest.trim_start());
            (Test::Greater(number(value)?), rest)
        } else if let Some(rest) = rest.strip_prefix('<') {
            let (value, rest) = word(rest.trim_start());
            (Test::Less(number(value)?), rest)
        } else if rest.is_empty() || rest.starts_with(',') {
            (Test::Exists, rest)
        } else {
            let (operator, rest) = word(rest);
            match operator {
                "in" => values(rest).map(|(values, rest)| (Test::In(values), rest))?,
                "notin" => values(rest).map(|(values, rest)| (Test::NotIn(values), rest))?,
                other => {
                    return Err(format!(
                        "found '{other}', expected: in, notin, =, ==, !=, gt, lt"
                    ));
                }
            }
        };
    Ok((Requirement { key, test }, rest))
}

fn word(text: &str) -> (&str, &str) {
    let end = text
        .find(|letter: char| letter.is_whitespace() || "=!,()<>".contains(letter))
        .unwrap_or(text.len());
    text.split_at(end)
}

fn values(text: &str) -> Result<(Vec<String>, &str), String> {
    let text = text.trim_start();
    let inside = text
        .strip_prefix('(')
        .ok_or_else(|| format!("found '{text}' expected: '('"))?;
    let end = inside
        .find(')')
        .ok_or_else(|| format!("found '{inside}', expected: ',' or ')'"))?;
    let values = inside[..end]
        .split(',')
        .map(|value| valid_value(value.trim()))
        .collect::<Result<_, _>>()?;
    Ok((values, &inside[end + 1..]))
}

fn valid_key(key: &str) -> Result<String, String> {
    match name::qualified(key) {
        Ok(()) => Ok(key.to_owned()),
        Err(why) => Err(format!("key: Invalid value: \"{key}\": {why}")),
    }
}

fn valid_value(value: &str) -> Result<String, String> {
    match name::label_value(value) {
        Ok(()) => Ok(value.to_owned()),
        Err(why) => Err(format!("values[0][key]: Invalid value: \"{value}\": {why}")),
    }
}

fn number(value: &str) -> Result<i64, String> {
    value.parse().map_err(|_| format!("values[0][key]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(selector: &str, expected: bool) {
        let object = json!({"metadata": {"labels": {"app": "hello", "tier": "front", "n": "5", "k8s.io/part": "x"}}});
        assert_eq!(
            Labels::parse(selector).unwrap().matches(&object),
            expected,
            "{selector}"
        );
    }

    #[test]
    fn requirements_match_as_in_kubernetes() {
        check("", true);
        check("app=hello", true);
        check("app==hello,tier!=back", true);
        check("app in (hello, world),tier notin (back)", true);
        check("missing notin (a)", true);
        check("missing!=a", true);
        check("app,!missing", true);
        check("!app", false);
        check("n>4,n<6", true);
        check("n > 5", false);
        check("k8s.io/part = x", true);
        check("app in (a,b)", false);
        check("app=", false);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["a=b,", "a b", "a in b", "a in (b", "-a=b", "a>x", "a=b c=d"] {
            assert!(Labels::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn selector_objects_and_queries_mean_the_same() {
        let object = Labels::from_selector(&json!({
            "matchLabels": {"app": "hello"},
            "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}],
        }));
        assert_eq!(object, Labels::parse("app=hello,!tier"));
    }
}
