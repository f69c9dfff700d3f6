//! What holds for every case: the order of its objects does not matter, nothing panics, and no
//! field is passed over.

use proptest::prelude::*;
use serde_json::json;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]
    #[test]
    fn the_order_of_the_input_does_not_matter(seed in any::<u64>()) {
        for folder in FOLDERS {
            testkit::golden::each(folder, |case| {
                let documents = with_base(&case.read("input.yaml"));
                let mut shuffled = documents.clone();
                let mut state = seed | 1;
                for at in (1..shuffled.len()).rev() {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    shuffled.swap(at, (state >> 33) as usize % (at + 1));
                }
                assert_eq!(translate_all(&documents), translate_all(&shuffled), "{}", case.name());
            });
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let text = proptest::sample::select(vec![
        "",
        "*",
        "a",
        "/",
        "a.b",
        "*.a.b",
        "5s",
        "é%",
        "%",
        "(",
        "x/y",
        ".",
        "-1",
        "mesh",
        "a\n",
        "10.0.0.0/8",
        "@request.auth.claims[",
        "TLS",
        "SIMPLE",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z@.]{0,3}|exact|regex|host|name", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Pointers to everything in `value`.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                pointers(value, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                pointers(value, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn all_inputs() -> Vec<Vec<Value>> {
    let all = std::cell::RefCell::new(Vec::new());
    for folder in FOLDERS {
        testkit::golden::each(folder, |case| {
            all.borrow_mut().push(with_base(&case.read("input.yaml")));
        });
    }
    all.into_inner()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_input_panics(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
                       inside in any::<prop::sample::Index>(), value in any_json()) {
        thread_local!(static INPUTS: Vec<Vec<Value>> = all_inputs());
        let mut documents = INPUTS.with(|inputs| inputs[which.index(inputs.len())].clone());
        let foreign: Vec<_> = (0..documents.len())
            .filter(|at| kind_of(&documents[*at]).is_some())
            .collect();
        let document = &mut documents[foreign[at.index(foreign.len())]];
        let mut places = Vec::new();
        pointers(&document["spec"], "/spec", &mut places);
        let place = &places[inside.index(places.len())];
        if let Some(place) = document.pointer_mut(place) {
            *place = value;
        }
        load_and_translate(&documents);
    }

    #[test]
    fn no_spec_panics(value in any_json()) {
        let mut input = load(&documents(BASE));
        let name = Name::new("default", "x");
        for kind in kinds() {
            let json = json!({
                "metadata": {"name": "x", "namespace": "default"}, "spec": value,
            });
            let object = Arc::new(Object::new(kind, json).expect("it has a name"));
            input.objects.put_foreign(kind, &name, Some(Arc::clone(&object)));
            translate_one(&object, &input.objects);
        }
    }
}

fn load_and_translate(documents: &[Value]) {
    let input = load(documents);
    for object in &input.foreign {
        translate_one(object, &input.objects);
    }
}

/// Every object in every case gets, one after the other in each of its parts, a field that nobody
/// knows, and its status must say so.
#[test]
fn no_field_is_passed_over() {
    let mut passed_over = Vec::new();
    let base = documents(BASE).len();
    for documents in all_inputs() {
        for at in base..documents.len() {
            let Some(kind) = kind_of(&documents[at]) else {
                continue;
            };
            let told = |documents: &[Value]| {
                let input = load(documents);
                let name = text(&documents[at], "/metadata/name");
                let namespace = text(&documents[at], "/metadata/namespace");
                let name = Name::new(&namespace, &name);
                let mut all = input.foreign.iter();
                let object = all.find(|object| object.kind == kind && object.name == name);
                let object = object.expect("it was loaded");
                translate_one(object, &input.objects).diagnostics
            };
            let before = told(&documents);
            // What is refused as a whole is not read.
            let whole = ["KindNotSupported", "EgressNotSupported"];
            if before.iter().any(|one| whole.contains(&one.reason)) {
                continue;
            }
            let mut places = Vec::new();
            pointers(&documents[at]["spec"], "/spec", &mut places);
            for place in places {
                let mut changed = documents.clone();
                let Some(Value::Object(map)) = changed[at].pointer_mut(&place) else {
                    continue;
                };
                map.insert("suimonUnknown".to_owned(), json!([7]));
                let after = told(&changed);
                let is_refused = before.iter().any(|one| is_within(&place, &one.field));
                if after == before && !is_refused {
                    passed_over.push(format!("{} {place}", kind.kind));
                }
            }
        }
    }
    assert!(passed_over.is_empty(), "{passed_over:#?}");
}

/// Whether a pointer leads into a field that was refused, or into its neighborhood.
fn is_within(pointer: &str, field: &str) -> bool {
    let field = field.replace('[', ".").replace(']', "");
    let parent = field.rsplit_once('.').map_or("", |(parent, _)| parent);
    let pointer = pointer.trim_start_matches('/').replace('/', ".");
    pointer.starts_with(parent) && parent != "spec" || pointer.starts_with(&field)
}
