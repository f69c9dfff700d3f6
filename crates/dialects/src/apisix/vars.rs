//! Conditions on requests: `exprs` of rules, `vars` of plugins, and NGINX's names of things.

use std::sync::Arc;

use routing::model::{Predicate, Subject, Test, TextTest};
use serde_json::Value;

use crate::fields::Fields;
use crate::shared::headers;

/// What NGINX's variable of this name is.
pub(super) fn variable(name: &str) -> Result<Subject, String> {
    let name = name.trim_start_matches('$');
    let dashed = |rest: &str| headers::name(&rest.replace('_', "-"));
    if let Some(rest) = name.strip_prefix("http_") {
        return dashed(rest).map(Subject::Header);
    }
    if let Some(rest) = name.strip_prefix("arg_") {
        return Ok(Subject::Query(rest.into()));
    }
    if let Some(rest) = name.strip_prefix("cookie_") {
        return Ok(Subject::Cookie(rest.into()));
    }
    match name {
        "remote_addr" => Ok(Subject::Client),
        "realip_remote_addr" => Ok(Subject::Peer),
        "uri" => Ok(Subject::Path),
        "host" => Ok(Subject::Host),
        "request_method" => Ok(Subject::Method),
        "scheme" => Ok(Subject::Scheme),
        "server_port" => Ok(Subject::Port),
        other => Err(format!(
            "variable {other:?} is not known; known are http_NAME, arg_NAME, cookie_NAME, \
             remote_addr, uri, host, request_method, scheme and server_port"
        )),
    }
}

fn predicate(subject: Subject, test: Test, negate: bool) -> Predicate {
    Predicate {
        subject,
        test,
        negate,
        missing_is_empty: false,
    }
}

fn number(value: &str) -> Result<i64, String> {
    let parsed = value.parse();
    parsed.map_err(|_| format!("{value:?} is no whole number"))
}

/// The expression may be found anywhere in the text.
fn search(expression: &str) -> Result<Arc<str>, String> {
    let whole = format!("(?s:.*)(?:{expression})(?s:.*)");
    routing::regex::compile(expression)?;
    routing::regex::compile(&whole)?;
    Ok(whole.into())
}

fn text(how: TextTest, value: Arc<str>, ignore_case: bool) -> Test {
    Test::Text {
        how,
        value,
        ignore_case,
    }
}

/// An operator with its values: those of `exprs`, and those of `vars` where they differ.
fn compare(subject: Subject, op: &str, values: &[String]) -> Result<Predicate, String> {
    let one = || match values {
        [one] => Ok(one.as_str()),
        _ => Err(format!("{op} needs one value")),
    };
    let exact = |value: &str| text(TextTest::Exact, value.into(), false);
    let range = |min: i64, end: i64| Test::Range { min, end };
    let (test, negate) = match op {
        "Equal" | "==" => (exact(one()?), false),
        "NotEqual" | "~=" => (exact(one()?), true),
        "GreaterThan" | ">" => (range(number(one()?)?.saturating_add(1), i64::MAX), false),
        "GreaterThanEqual" | ">=" => (range(number(one()?)?, i64::MAX), false),
        "LessThan" | "<" => (range(i64::MIN, number(one()?)?), false),
        "LessThanEqual" | "<=" => (range(i64::MIN, number(one()?)?.saturating_add(1)), false),
        "In" | "in" | "NotIn" => {
            let values = values.iter().map(|value| Arc::from(value.as_str()));
            (Test::In(values.collect()), op == "NotIn")
        }
        "RegexMatch" | "~~" | "RegexNotMatch" | "!~~" => {
            let value = search(one()?)?;
            let negate = matches!(op, "RegexNotMatch" | "!~~");
            (text(TextTest::Regex, value, false), negate)
        }
        "RegexMatchCaseInsensitive" | "~*" | "RegexNotMatchCaseInsensitive" | "!~*" => {
            let value = search(one()?)?;
            let negate = matches!(op, "RegexNotMatchCaseInsensitive" | "!~*");
            (text(TextTest::Regex, value, true), negate)
        }
        other => return Err(format!("operator {other:?} is not supported")),
    };
    Ok(predicate(subject, test, negate))
}

/// One of a rule's `exprs`.
pub(super) fn expr(fields: &Fields<'_>) -> Result<Predicate, String> {
    let subject = fields.object("subject");
    let read = |key: &str| subject.as_ref().and_then(|subject| subject.text(key));
    let (scope, name) = (read("scope"), read("name"));
    let op = fields.text("op").unwrap_or_default();
    let mut values: Vec<String> = fields.loose("value").into_iter().collect();
    values.extend(fields.strings("set").into_iter().map(str::to_owned));
    let named = || name.ok_or_else(|| "subject.name is missing".to_owned());
    let subject = match scope.unwrap_or_default() {
        "Header" => Subject::Header(headers::name(named()?)?),
        "Query" => Subject::Query(named()?.into()),
        "Cookie" => Subject::Cookie(named()?.into()),
        "Path" => Subject::Path,
        "Variable" => variable(named()?)?,
        "Body" => return Err("bodies are not looked at".to_owned()),
        other => {
            return Err(format!(
                "scope {other:?} is not Header, Query, Path, Cookie or Variable"
            ));
        }
    };
    compare(subject, op, &values)
}

/// A list of `[variable, operator, value]`, all of which must hold; `!` before the operator turns
/// it round.
pub(super) fn list(value: &Value) -> Result<Vec<Predicate>, String> {
    let Some(list) = value.as_array() else {
        return Err("vars must be a list".to_owned());
    };
    let one = |value| {
        let triple = triple(value)?;
        let mut predicate = compare(variable(triple.name)?, triple.op, &triple.values)?;
        predicate.negate ^= triple.turned;
        Ok(predicate)
    };
    list.iter().map(one).collect()
}

/// Which answers a plugin is for.
#[derive(Debug, Default)]
pub(super) struct OfAnswer {
    /// Of the request.
    pub(super) when: Vec<Predicate>,
    /// First and last; `None` is all.
    pub(super) statuses: Option<Vec<(u16, u16)>>,
}

/// The same list where the answer is there: its `status` may be asked, too.
pub(super) fn of_answer(value: &Value) -> Result<OfAnswer, String> {
    let Some(list) = value.as_array() else {
        return Err("vars must be a list".to_owned());
    };
    let mut out = OfAnswer::default();
    let mut tests = Vec::new();
    for one in list {
        let Triple {
            name,
            turned,
            op,
            values,
        } = triple(one)?;
        if name.trim_start_matches('$') == "status" {
            // Whose value it is does not matter here.
            let predicate = compare(Subject::Port, op, &values)?;
            tests.push((predicate.test, predicate.negate ^ turned));
        } else {
            let mut predicate = compare(variable(name)?, op, &values)?;
            predicate.negate ^= turned;
            out.when.push(predicate);
        }
    }
    if !tests.is_empty() {
        out.statuses = Some(statuses(&tests)?);
    }
    Ok(out)
}

/// Whether a status is what is asked for.
type Check = Box<dyn Fn(u16) -> bool>;

/// Statuses of answers for which all tests hold, as ranges.
fn statuses(tests: &[(Test, bool)]) -> Result<Vec<(u16, u16)>, String> {
    let mut checks: Vec<(Check, bool)> = Vec::new();
    for (test, negate) in tests {
        let check: Check = match test.clone() {
            Test::Range { min, end } => {
                Box::new(move |status| (min..end).contains(&i64::from(status)))
            }
            Test::In(values) => Box::new(move |status| {
                let status = status.to_string();
                values.iter().any(|value| **value == *status)
            }),
            Test::Text {
                how: TextTest::Exact,
                value,
                ..
            } => Box::new(move |status| *value == *status.to_string()),
            Test::Text { value, .. } => {
                let expression = routing::regex::compile(&value)?;
                Box::new(move |status| expression.is_match(status.to_string().as_bytes()))
            }
            Test::Present | Test::Network(_) => return Err("status is a number".to_owned()),
        };
        checks.push((check, *negate));
    }
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for status in 200..=599 {
        if !checks
            .iter()
            .all(|(check, negate)| check(status) != *negate)
        {
            continue;
        }
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == status => *last = status,
            _ => ranges.push((status, status)),
        }
    }
    Ok(ranges)
}

/// One comparison as it is written.
struct Triple<'v> {
    name: &'v str,
    turned: bool,
    op: &'v str,
    values: Vec<String>,
}

fn triple(value: &Value) -> Result<Triple<'_>, String> {
    let wrong = || format!("{value} is not [variable, operator, value]");
    let parts = value.as_array().ok_or_else(wrong)?;
    let (name, turned, op, value) = match parts.as_slice() {
        [name, op, value] => (name, false, op, value),
        [name, turn, op, value] if turn == "!" => (name, true, op, value),
        _ => return Err(wrong()),
    };
    let (Some(name), Some(op)) = (name.as_str(), op.as_str()) else {
        return Err(wrong());
    };
    let loose = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => Err(wrong()),
    };
    let values = match value {
        Value::Array(list) => list.iter().map(loose).collect::<Result<_, _>>()?,
        one => vec![loose(one)?],
    };
    Ok(Triple {
        name,
        turned,
        op,
        values,
    })
}

/// A text with `$variables` as the model's templates write them; `None` if it has none.
pub(super) fn template(text: &str) -> Result<Option<Arc<str>>, String> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(&before.replace('%', "%%"));
        let (name, after) = match after.strip_prefix('{').and_then(|it| it.split_once('}')) {
            Some((name, after)) => (name, after),
            None => {
                let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
                let end = after.find(|letter| !is_part(letter)).unwrap_or(after.len());
                after.split_at(end)
            }
        };
        match variable(name)? {
            Subject::Header(name) => out.push_str(&format!("%REQ({name})%")),
            Subject::Client => out.push_str("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
            Subject::Host => out.push_str("%HOST%"),
            Subject::Path => out.push_str("%PATH%"),
            Subject::Method => out.push_str("%METHOD%"),
            Subject::Scheme => out.push_str("%SCHEME%"),
            _ => return Err(format!("variable {name:?} cannot be a part of a value")),
        }
        rest = after;
    }
    out.push_str(&rest.replace('%', "%%"));
    Ok(Some(out.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_expression_is_searched_and_not_matched_whole() {
        let read = list(&json!([["uri", "~~", "^/v[0-9]"]])).expect("a list");
        let Test::Text { value, .. } = &read[0].test else {
            panic!("{read:?}");
        };
        let compiled = routing::regex::compile(value).expect("an expression");
        assert!(compiled.is_match(b"/v1/x"));
        assert!(!compiled.is_match(b"/a/v1"));
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        for vars in [
            json!("x"),
            json!([["uri", "=="]]),
            json!([["graphql_name", "==", "x"]]),
            json!([["uri", "has", "x"]]),
            json!([["uri", ">", "x"]]),
            json!([["uri", "~~", "(?=x)"]]),
            json!([["uri", "==", {}]]),
        ] {
            assert!(list(&vars).is_err(), "{vars}");
        }
        let turned = list(&json!([["arg_v", "!", "in", ["1", 2]]])).expect("a list");
        assert!(turned[0].negate);
    }

    #[test]
    fn a_status_is_compared_as_what_it_is_of_an_answer() {
        let check = |vars: Value, expected: &[(u16, u16)]| {
            let read = of_answer(&vars).expect("a list");
            assert_eq!(read.statuses.as_deref(), Some(expected), "{vars}");
        };
        check(json!([["status", "==", 200]]), &[(200, 200)]);
        check(json!([["status", "~=", 200]]), &[(201, 599)]);
        check(json!([["status", ">=", 500]]), &[(500, 599)]);
        check(
            json!([["status", "in", [404, "405", 410]]]),
            &[(404, 405), (410, 410)],
        );
        check(json!([["status", "!", "~~", "^[25]"]]), &[(300, 499)]);
        check(
            json!([["status", ">", 399], ["status", "<", 404]]),
            &[(400, 403)],
        );
        check(json!([["status", "==", 777]]), &[]);
        let both = of_answer(&json!([["status", "==", 404], ["http_x", "==", "1"]]));
        let both = both.expect("a list");
        assert_eq!(both.when.len(), 1);
        assert!(both.statuses.is_some());
        assert!(of_answer(&json!([["upstream_status", "==", 404]])).is_err());
        let plain = of_answer(&json!([["arg_v", "==", "1"]])).expect("a list");
        assert_eq!(plain.statuses, None);
    }

    #[test]
    fn variables_become_templates() {
        let read = template("$remote_addr at 5% of ${http_x_y}").expect("known variables");
        let expected = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% at 5%% of %REQ(x-y)%";
        assert_eq!(read.as_deref(), Some(expected));
        assert_eq!(template("plain"), Ok(None));
        assert!(template("$unknown").is_err());
    }
}
