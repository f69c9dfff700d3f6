//! What expressions mean, in one table, and that hostile ones end.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::{Budget, Error, ObjectType, Program, Type, Value};

fn object() -> Type {
    let item = Type::Object(
        ObjectType::new([
            ("name".to_owned(), Type::String),
            ("port".to_owned(), Type::Int),
        ])
        .into(),
    );
    let fields = [
        ("name", Type::String),
        ("count", Type::Int),
        ("ratio", Type::Double),
        ("items", Type::list(item)),
        ("tags", Type::Set(Type::String.into())),
        ("labels", Type::map(Type::String)),
        ("any", Type::Dyn),
        ("wait", Type::Duration),
        ("at", Type::Timestamp),
        ("foo-bar", Type::String),
        ("namespace", Type::String),
    ];
    let fields = fields.map(|(name, of)| (name.to_owned(), of));
    Type::Object(ObjectType::new(fields).into())
}

fn data() -> Json {
    json!({
        "name": "hello", "count": 3, "ratio": 2, "items": [{ "name": "a", "port": 80 }, { "name": "b", "port": 81 }],
        "tags": ["x", "y"], "labels": { "app": "web" }, "any": 8080, "wait": "90s", "at": "2026-01-02T03:04:05Z",
        "foo-bar": "dashed", "namespace": "ns",
    })
}

fn run(source: &str) -> Result<String, String> {
    let of = object();
    let data = data();
    let program = Program::compile(source, &[("self", of.clone())])?;
    let value = Value::read(&data, &of);
    let result = program.evaluate(&[("self", value)], &mut Budget::new(crate::OBJECT_LIMIT));
    match result {
        Ok(Value::Bool(flag)) => Ok(flag.to_string()),
        Ok(value) => Ok(format!("{value:?}")),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn expressions_hold() {
    let mut wrong = Vec::new();
    for source in include_str!("tests/true.cel").lines() {
        if source.is_empty() || source.starts_with("//") {
            continue;
        }
        match run(source) {
            Ok(found) if found == "true" => {}
            other => wrong.push(format!("{source}\n    {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn errors_are_those_of_kubernetes() {
    for (source, wanted) in [
        (
            "self.nope",
            "ERROR: <input>:1:5: undefined field 'nope'\n | self.nope\n | ....^",
        ),
        (
            "other",
            "ERROR: <input>:1:1: undeclared reference to 'other' (in container '')\n | other\n | ^",
        ),
        (
            "self.count == 'x'",
            "ERROR: <input>:1:12: found no matching overload for '_==_' applied to '(int, string)'\n | self.count == 'x'\n | ...........^",
        ),
        (
            "self.items[0].port.startsWith('x')",
            "ERROR: <input>:1:30: found no matching overload for 'startsWith' applied to 'int.(string)'\n | self.items[0].port.startsWith('x')\n | .............................^",
        ),
        ("self.items[7].port", "index out of bounds: 7"),
        ("self.labels['nope']", "no such key: nope"),
        ("1 / 0", "division by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("self.any.startsWith('x')", "no such overload"),
        ("duration('x')", "time: invalid duration \"x\""),
        (
            "self.tags.all(t, t == 1)",
            "ERROR: <input>:1:20: found no matching overload for '_==_' applied to '(string, int)'\n | self.tags.all(t, t == 1)\n | ...................^",
        ),
    ] {
        assert_eq!(run(source), Err(wanted.to_owned()), "{source}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    for source in [
        "",
        "1 +",
        "(",
        "self.",
        "'x",
        "a ? b",
        "[1,",
        "{1}",
        "self..x",
        "1 1",
        "has(self)",
        "[1].all(1, true)",
        "b'\\xff",
        "0x",
        "1e999u",
        "`",
        "\"\\q\"",
    ] {
        let error = run(source).expect_err(source);
        assert!(error.starts_with("ERROR: <input>:1:"), "{source}: {error}");
    }
}

#[test]
fn depth_is_bounded() {
    for source in [
        format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("{}true", "!".repeat(10_000)),
        format!("self{}", ".any".repeat(10_000)),
        format!("1{}", "+1".repeat(10_000)),
        format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000)),
        format!("{}1", "true ? 1 : ".repeat(10_000)),
        format!("self.any{}", "[0]".repeat(10_000)),
        "x".repeat(200_000),
    ] {
        let error = run(&source).expect_err("must be refused");
        assert!(
            error.contains("limit"),
            "{}",
            &error[..error.len().min(200)]
        );
    }
}

#[test]
fn work_and_memory_are_bounded() {
    let big = "lists.range(1000)";
    for source in [
        format!("{big}.all(a, {big}.all(b, {big}.all(c, a + b + c >= 0)))"),
        format!("{big}.map(a, {big}.map(b, {big}.map(c, c))).size() > 0"),
        doubling("'0123456789'", "a + a"),
        doubling("[1, 2, 3, 4]", "a + a"),
        doubling("'aaaaaaaaaa'", "a.replace('a', a)"),
        format!("{big}.all(a, 'aaaaaaaaaaaaaaaaaaaa'.matches(string(a) + '(a|aa)+$') || true)"),
    ] {
        assert_eq!(run(&source), Err(Error::Budget.to_string()), "{source}");
    }
}

/// `a` is replaced by `step` 40 times.
fn doubling(start: &str, step: &str) -> String {
    let mut source = "a.size() > 0".to_owned();
    for _ in 0..40 {
        source = format!("cel.bind(a, {step}, {source})");
    }
    format!("cel.bind(a, {start}, {source})")
}

#[test]
fn the_budget_of_an_object_is_shared() {
    let program = Program::compile("lists.range(1000).all(x, x >= 0)", &[]).expect("compiles");
    let mut budget = Budget::new(10_000);
    let mut runs = 0;
    while program.evaluate(&[], &mut budget).is_ok() {
        runs += 1;
        assert!(runs < 100);
    }
    assert!(runs >= 1);
    assert_eq!(budget.left(), 0);
}

#[test]
fn a_program_knows_what_it_uses() {
    let of = Type::Int;
    let variables = [("self", of.clone()), ("oldSelf", of)];
    let uses = |source| {
        Program::compile(source, &variables)
            .expect("compiles")
            .uses("oldSelf")
    };
    assert!(uses("self == oldSelf"));
    assert!(!uses("[1].all(oldSelf, self == 1)"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(source in "[a-z0-9.()\\[\\]{}'\"\\\\!?:&|+*/<>= -]{0,60}") {
        let _ = run(&source);
    }

    #[test]
    fn no_words_make_it_panic(words in prop::collection::vec(prop::sample::select(vec![
        "self", ".", "items", "all", "(", ")", "x", ",", "==", "1", "'a'", "[", "]", "has", "size", "&&", "?", ":",
        "map", "filter", "{", "}", "-", "!", "in", "string", "duration", "matches", "labels", "optional", "of", "null",
    ]), 0..25)) {
        let _ = run(&words.concat());
    }
}
