//! Every field of the kinds' published definitions, in a place that a golden case has for it, or
//! else in an object of nothing but this field.
//!
//! The trees of names in `published/` are made by `cargo xtask field-pack`. A field that a case has
//! is judged there by the other tests. Any other one is written with a value of its type: it must
//! change what comes out, or be spoken of.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Map, Value, json};

use super::{Case, Field, Fields, cases, is_told, outcome, title};
use crate::foreign;

/// How many places are tried for a field.
const PLACES: usize = 4;

/// A field of a kind, as it is published.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) name: String,
    /// `[]` and `{}` that are around what is in it.
    pub(super) around: Vec<Around>,
    /// The type of a leaf.
    pub(super) leaf: String,
    pub(super) children: Vec<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Around {
    List,
    Map,
}

/// A kind in versions that have the same fields.
pub(super) struct Published {
    pub(super) kind: String,
    pub(super) group: String,
    pub(super) versions: Vec<String>,
    pub(super) root: Node,
}

fn read(text: &str) -> Vec<Published> {
    let mut all: Vec<Published> = Vec::new();
    for line in text.lines() {
        let depth = line.len() - line.trim_start().len();
        let words: Vec<&str> = line.split_whitespace().collect();
        if depth == 0 {
            let [kind, group, versions @ ..] = &words[..] else {
                panic!("{line:?}")
            };
            all.push(Published {
                kind: (*kind).to_owned(),
                group: (*group).to_owned(),
                versions: versions.iter().map(|it| (*it).to_owned()).collect(),
                root: Node::default(),
            });
            continue;
        }
        let mut node = Node {
            name: words[0].to_owned(),
            ..Node::default()
        };
        for word in &words[1..] {
            match *word {
                "[]" => node.around.push(Around::List),
                "{}" => node.around.push(Around::Map),
                leaf => leaf.clone_into(&mut node.leaf),
            }
        }
        let mut parent = &mut all.last_mut().expect("a kind comes first").root;
        for _ in 1..depth {
            parent = parent.children.last_mut().expect("a parent comes first");
        }
        parent.children.push(node);
    }
    all
}

impl Node {
    /// Values of a leaf's type; each must be heard, or only any one of them.
    fn samples(&self) -> (Vec<Value>, bool) {
        match self.leaf.as_str() {
            "string" => (vec![json!("7s"), json!("a7.example")], false),
            "integer" => (vec![json!(7)], true),
            "number" => (vec![json!(7.5)], true),
            "boolean" => (vec![json!(true), json!(false)], true),
            "any" => (
                vec![json!({"a": "b"}), json!(true), json!("a"), json!(7)],
                true,
            ),
            "int-or-string" => (vec![json!(7)], true),
            choices => (choices.split('|').map(|one| json!(one)).collect(), true),
        }
    }

    /// This value in what is around it.
    fn wrapped(&self, value: Value) -> Value {
        self.around
            .iter()
            .rev()
            .fold(value, |inner, around| match around {
                Around::List => json!([inner]),
                Around::Map => json!({"a": inner}),
            })
    }

    /// A value with as little as possible in it.
    fn least(&self) -> Value {
        let inner = match self.children.first() {
            Some(child) => {
                let mut map = Map::new();
                map.insert(child.name.clone(), child.least());
                Value::Object(map)
            }
            None => self.samples().0[0].clone(),
        };
        self.wrapped(inner)
    }
}

/// Documents, and the map in one of them that a field belongs in.
#[derive(Clone)]
struct Place {
    documents: Vec<Value>,
    at: usize,
    pointer: String,
}

impl Place {
    fn spec(&mut self) -> &mut Value {
        &mut self.documents[self.at]["spec"]
    }

    /// The place with a field that has this value.
    fn with(&self, name: &str, value: Value) -> Self {
        let mut place = self.clone();
        let pointer = place.pointer.clone();
        if let Some(Value::Object(map)) = place.spec().pointer_mut(&pointer) {
            map.insert(name.to_owned(), value);
        }
        place
    }

    /// The pointer of a field of the place.
    fn of(&self, name: &str) -> String {
        format!(
            "{}/{}",
            self.pointer,
            name.replace('~', "~0").replace('/', "~1")
        )
    }

    /// The maps in a field that is there already.
    fn inside(&mut self, node: &Node) -> Vec<Self> {
        let mut pointers = vec![self.of(&node.name)];
        for _ in &node.around {
            let mut inner = Vec::new();
            for pointer in pointers {
                match self.spec().pointer(&pointer) {
                    Some(Value::Array(list)) => {
                        inner.extend((0..list.len()).map(|at| format!("{pointer}/{at}")));
                    }
                    Some(Value::Object(map)) => inner.extend(map.keys().map(|key| {
                        format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
                    })),
                    _ => {}
                }
            }
            pointers = inner;
        }
        let is_map = |pointer: &String| {
            self.documents[self.at]["spec"]
                .pointer(pointer)
                .is_some_and(Value::is_object)
        };
        let found = pointers.into_iter().filter(is_map).map(|pointer| Self {
            documents: self.documents.clone(),
            at: self.at,
            pointer,
        });
        found.collect()
    }

    fn has(&self, name: &str) -> bool {
        let spec = &self.documents[self.at]["spec"];
        spec.pointer(&self.of(name))
            .is_some_and(|value| !value.is_null())
    }

    fn title(&self) -> String {
        title(&self.documents[self.at])
    }
}

/// What is read by the same code as a part of another kind, which has the cases.
const SAME: [(&str, &str, &str, &str); 4] = [
    (
        "UpstreamGroup",
        ".destinations[]",
        "VirtualService",
        ".virtualHost.routes[].routeAction.multi.destinations[]",
    ),
    (
        "RouteTable",
        ".routes[]",
        "VirtualService",
        ".virtualHost.routes[]",
    ),
    (
        "RouteOption",
        ".options",
        "VirtualService",
        ".virtualHost.routes[].options",
    ),
    (
        "VirtualHostOption",
        ".options",
        "VirtualService",
        ".virtualHost.options",
    ),
];

fn canonical(kind: &str, path: &str) -> Field {
    let (mut kind, mut path) = (kind, path.to_owned());
    for (of, short, other, long) in SAME {
        if kind == of && path.starts_with(short) {
            path = path.replacen(short, long, 1);
            kind = other;
        }
    }
    Field {
        kind: kind.to_owned(),
        path,
    }
}

/// What comes of documents: a text of everything, and which fields were spoken of.
pub(super) type Outcome = fn(&[Value]) -> (String, Fields);

/// What was found out about the fields of a dialect.
struct Search {
    kind: String,
    heard: BTreeSet<Field>,
    unheard: BTreeSet<Field>,
    outcome: Outcome,
    /// Otherwise fields that cases have are judged by other tests.
    judges_all: bool,
}

impl Search {
    fn visit(&mut self, node: &Node, path: &str, places: &[Place]) {
        for child in &node.children {
            let own = format!("{path}.{}", child.name);
            let around = child.around.iter().map(|around| match around {
                Around::List => "[]",
                Around::Map => ".a",
            });
            let own = around.fold(own, |own, around| own + around);
            let (there, missing): (Vec<_>, Vec<_>) = places
                .iter()
                .cloned()
                .partition(|place| place.has(&child.name));
            if child.children.is_empty() {
                let field = canonical(&self.kind, &own);
                let is_judged = !self.judges_all && !there.is_empty();
                if is_judged
                    || self.hears_change(child, &there)
                    || self.hears(node, child, &missing)
                {
                    self.heard.insert(field);
                } else {
                    self.unheard.insert(field);
                }
                continue;
            }
            let mut inside: Vec<_> = there
                .into_iter()
                .flat_map(|mut place| place.inside(child))
                .collect();
            if inside.is_empty() {
                if self.is_refused(child, &missing) {
                    continue;
                }
                let empty = missing.iter().take(PLACES).flat_map(|place| {
                    let field = child.wrapped(json!({}));
                    place.with(&child.name, field).inside(child)
                });
                inside = empty.collect();
            }
            self.visit(child, &own, &inside);
        }
    }

    /// Whether the field is refused as a whole, wherever it is.
    fn is_refused(&self, node: &Node, places: &[Place]) -> bool {
        let mut places = places.iter().take(PLACES);
        places.all(|place| {
            let (_, told) = (self.outcome)(&place.with(&node.name, node.least()).documents);
            refuses(&told, &place.title(), &place.of(&node.name))
        })
    }

    /// Whether another value of a leaf, or none, is heard of in one of the places that have it.
    fn hears_change(&self, node: &Node, places: &[Place]) -> bool {
        let values = || {
            let samples = node.samples().0.into_iter();
            samples
                .map(|sample| node.wrapped(sample))
                .chain([Value::Null])
        };
        let mut places = places.iter().take(2 * PLACES);
        places.any(|place| {
            let (before, _) = (self.outcome)(&place.documents);
            values().any(|value| {
                let changed = place.with(&node.name, value);
                (self.outcome)(&changed.documents).0 != before
            })
        })
    }

    /// Whether a leaf is heard of in one of the places, or with everything that may stand beside it.
    fn hears(&self, parent: &Node, node: &Node, places: &[Place]) -> bool {
        let (samples, any) = node.samples();
        let hears = |place: &Place, sample: &Value| {
            let (before, _) = (self.outcome)(&place.documents);
            let changed = place.with(&node.name, node.wrapped(sample.clone()));
            let (after, told) = (self.outcome)(&changed.documents);
            before != after || is_told(&told, &place.title(), &place.of(&node.name))
        };
        let hears = |place: &Place| {
            let mut samples = samples.iter();
            if any {
                samples.any(|sample| hears(place, sample))
            } else {
                samples.all(|sample| hears(place, sample))
            }
        };
        let mut places = places.iter().take(PLACES);
        places.any(|place| hears(place) || hears(&filled(parent, node, place)))
    }
}

/// The place with all other fields of its map.
fn filled(parent: &Node, node: &Node, place: &Place) -> Place {
    let others = parent
        .children
        .iter()
        .filter(|other| other.name != node.name);
    let missing = others.filter(|other| !place.has(&other.name));
    missing.fold(place.clone(), |place, other| {
        let value = if other.children.is_empty() {
            other.least()
        } else {
            let leaves = other.children.iter().filter(|it| it.children.is_empty());
            let leaves = leaves.map(|leaf| (leaf.name.clone(), leaf.least()));
            other.wrapped(Value::Object(leaves.collect()))
        };
        place.with(&other.name, value)
    })
}

/// Whether a field, or what it is part of, was refused for what it is.
fn refuses(told: &Fields, title: &str, pointer: &str) -> bool {
    let path = super::path_of(pointer);
    told.iter().any(|(of, field, reason)| {
        let is_whole = ["FieldNotSupported", "KindNotSupported"].contains(reason);
        of == title && is_whole && super::is_below(field, &path)
    })
}

/// The places where the spec of an object of this kind begins, in versions that are served.
fn roots(of: &Published, served: &[&str], cases: &[Case]) -> Vec<Place> {
    let versions = of
        .versions
        .iter()
        .filter(|it| served.contains(&it.as_str()));
    let versions: Vec<_> = versions.map(|it| format!("{}/{it}", of.group)).collect();
    let Some(version) = versions.first() else {
        return Vec::new();
    };
    let mut places = Vec::new();
    for (_, documents) in cases {
        for (at, document) in documents.iter().enumerate() {
            let group = document["apiVersion"].as_str().unwrap_or_default();
            let group = group.split('/').next().unwrap_or_default();
            if group != of.group
                || document["kind"] != of.kind.as_str()
                || !document["spec"].is_object()
            {
                continue;
            }
            let mut documents = documents.clone();
            if !versions
                .iter()
                .any(|it| document["apiVersion"] == it.as_str())
            {
                documents[at]["apiVersion"] = json!(version);
            }
            places.push(Place {
                documents,
                at,
                pointer: String::new(),
            });
        }
    }
    let alone = json!({
        "apiVersion": version, "kind": of.kind,
        "metadata": {"name": "alone", "namespace": "default"}, "spec": {},
    });
    places.push(Place {
        documents: vec![alone],
        at: 0,
        pointer: String::new(),
    });
    places
}

fn check(dialect: &str) {
    let text = fs::read_to_string(format!("published/{dialect}.txt")).expect("a list of fields");
    let kinds = read(&text).into_iter().map(|published| {
        let mut kinds = foreign::kinds().iter();
        let known = kinds.find(|it| it.group == published.group && it.kind == published.kind);
        let known = known.unwrap_or_else(|| panic!("{} is not known", published.kind));
        (published, known.versions)
    });
    check_kinds(kinds.collect(), &cases(), outcome, false);
}

/// Each kind with the versions that are served.
pub(super) fn check_kinds(
    kinds: Vec<(Published, &[&str])>,
    cases: &[Case],
    outcome: Outcome,
    judges_all: bool,
) {
    let mut search = Search {
        kind: String::new(),
        heard: BTreeSet::new(),
        unheard: BTreeSet::new(),
        outcome,
        judges_all,
    };
    for (published, versions) in kinds {
        let roots = roots(&published, versions, cases);
        search.kind = published.kind;
        search.visit(&published.root, "", &roots);
    }
    let unheard = search.unheard.difference(&search.heard);
    let unheard = unheard.filter(|field| !field.is_known());
    let unheard: Vec<_> = unheard
        .map(|field| format!("{}{}", field.kind, field.path))
        .collect();
    assert!(
        unheard.is_empty(),
        "{} fields:\n{}",
        unheard.len(),
        unheard.join("\n")
    );
}

#[test]
fn every_published_field_of_istio_is_translated_or_reported() {
    check("istio");
}

#[test]
fn every_published_field_of_contour_is_translated_or_reported() {
    check("contour");
}

#[test]
fn every_published_field_of_emissary_is_translated_or_reported() {
    check("emissary");
}

#[test]
fn every_published_field_of_gloo_is_translated_or_reported() {
    check("gloo");
}

#[test]
fn every_published_field_of_apisix_is_translated_or_reported() {
    check("apisix");
}

/// Its names are those of its documentation: it publishes no definitions.
#[test]
fn every_documented_field_of_asm_is_translated_or_reported() {
    check("asm");
}
