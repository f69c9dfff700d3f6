//! One rule of a role: what it allows, what it covers, and how it is printed.
//!
//! Pure. Allowing a request and covering another rule are different questions: the first is about
//! one verb on one thing, the second about everything that the other rule would ever allow.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::attributes::{Attributes, ResourceTarget, Target};

const ALL: &str = "*";

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) urls: Vec<String>,
}

impl Rule {
    /// Reads a `PolicyRule`.
    pub(crate) fn of(value: &Value) -> Self {
        let texts = |field: &str| {
            let list = value[field].as_array().map_or(&[][..], Vec::as_slice);
            list.iter()
                .filter_map(Value::as_str)
                .map(ToOwned::to_owned)
                .collect()
        };
        Self {
            verbs: texts("verbs"),
            groups: texts("apiGroups"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            urls: texts("nonResourceURLs"),
        }
    }

    /// The rules of a role.
    pub(crate) fn list(role: &Value) -> Vec<Self> {
        let rules = role["rules"].as_array().map_or(&[][..], Vec::as_slice);
        rules.iter().map(Self::of).collect()
    }

    /// Every verb on every resource.
    pub(crate) fn everything() -> Self {
        Self {
            verbs: vec![ALL.into()],
            groups: vec![ALL.into()],
            resources: vec![ALL.into()],
            ..Self::default()
        }
    }

    /// Every method on every path.
    pub(crate) fn every_path() -> Self {
        Self {
            verbs: vec![ALL.into()],
            urls: vec![ALL.into()],
            ..Self::default()
        }
    }

    /// As a `PolicyRule`.
    pub(crate) fn to_value(&self) -> Value {
        let mut value = json!({ "verbs": self.verbs });
        for (field, list) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ] {
            if !list.is_empty() {
                value[field] = json!(list);
            }
        }
        value
    }

    /// Whether the rule allows a request.
    pub(crate) fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !has(&self.verbs, attributes.verb) {
            return false;
        }
        match &attributes.target {
            Target::Resource(target) => {
                has(&self.groups, target.group)
                    && self.allows_resource(target)
                    && (self.names.is_empty() || self.names.iter().any(|n| n == target.name))
            }
            Target::Path(path) => self.urls.iter().any(|url| url_covers(url, path)),
        }
    }

    fn allows_resource(&self, target: &ResourceTarget<'_>) -> bool {
        let full = target.full();
        self.resources.iter().any(|resource| {
            resource == ALL
                || *resource == full
                || !target.subresource.is_empty()
                    && resource.strip_prefix("*/") == Some(target.subresource)
        })
    }

    /// Whether everything that `part` allows is allowed by this rule. `part` is a piece of
    /// [`Self::pieces`], so its lists have one entry at most.
    fn covers(&self, part: &Self) -> bool {
        let all = |own: &[String], wanted: &[String]| wanted.iter().all(|one| has(own, one));
        let names = self.names.is_empty()
            || !part.names.is_empty() && part.names.iter().all(|one| self.names.contains(one));
        all(&self.verbs, &part.verbs)
            && all(&self.groups, &part.groups)
            && part.resources.iter().all(|one| self.covers_resource(one))
            && names
            && part
                .urls
                .iter()
                .all(|path| self.urls.iter().any(|url| url_covers(url, path)))
    }

    fn covers_resource(&self, wanted: &str) -> bool {
        let below = wanted.split_once('/').map(|(_, sub)| sub);
        self.resources.iter().any(|own| {
            own == ALL || own == wanted || below.is_some() && own.strip_prefix("*/") == below
        })
    }

    /// The rule cut into rules about one verb and one thing each.
    fn pieces(&self) -> Vec<Self> {
        let mut out = Vec::new();
        let one = |text: &String| vec![text.clone()];
        for verb in &self.verbs {
            for group in &self.groups {
                for resource in &self.resources {
                    let piece = Self {
                        verbs: one(verb),
                        groups: one(group),
                        resources: one(resource),
                        ..Self::default()
                    };
                    out.extend(self.names.iter().map(|name| Self {
                        names: one(name),
                        ..piece.clone()
                    }));
                    if self.names.is_empty() {
                        out.push(piece);
                    }
                }
            }
            out.extend(self.urls.iter().map(|url| Self {
                verbs: one(verb),
                urls: one(url),
                ..Self::default()
            }));
        }
        out
    }

    /// `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`, as Go prints it.
    fn print(&self) -> String {
        let parts = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("ResourceNames", &self.names),
            ("NonResourceURLs", &self.urls),
            ("Verbs", &self.verbs),
        ];
        let texts: Vec<String> = parts
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(field, list)| format!("{field}:{}", quoted(list)))
            .collect();
        format!("{{{}}}", texts.join(", "))
    }
}

/// A list as Go prints it with `%q`.
pub(crate) fn quoted<T: AsRef<str>>(list: &[T]) -> String {
    let texts: Vec<String> = list
        .iter()
        .map(|text| format!("{:?}", text.as_ref()))
        .collect();
    format!("[{}]", texts.join(" "))
}

/// The part of `wanted` that `held` does not cover, one line per group, resource and name.
pub(crate) fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<String> {
    let missing = uncovered(held, wanted);
    let mut compact: BTreeMap<[Vec<String>; 3], Rule> = BTreeMap::new();
    let mut lines = Vec::new();
    for piece in missing {
        if !piece.urls.is_empty() {
            lines.push(piece.print());
            continue;
        }
        let key = [
            piece.groups.clone(),
            piece.resources.clone(),
            piece.names.clone(),
        ];
        match compact.get_mut(&key) {
            Some(rule) => rule.verbs.extend(piece.verbs),
            None => {
                compact.insert(key, piece);
            }
        }
    }
    lines.extend(compact.values().map(Rule::print));
    lines.sort();
    lines.dedup();
    lines
}

/// The pieces of `wanted` that no rule of `held` covers.
pub(crate) fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let pieces = wanted.iter().flat_map(Rule::pieces);
    pieces
        .filter(|piece| !held.iter().any(|rule| rule.covers(piece)))
        .collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == ALL || one == wanted)
}

fn url_covers(own: &str, path: &str) -> bool {
    own == ALL
        || own == path
        || own
            .strip_suffix('*')
            .is_some_and(|prefix| path.starts_with(prefix.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Rule {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Rule {
            groups: texts(groups),
            resources: texts(resources),
            verbs: texts(verbs),
            ..Rule::default()
        }
    }

    fn asks<'a>(verb: &'a str, resource: &'a str, subresource: &'a str) -> Attributes<'a> {
        let target = ResourceTarget {
            resource,
            subresource,
            name: "a",
            ..ResourceTarget::default()
        };
        Attributes::resource(verb, target)
    }

    #[test]
    fn a_rule_allows_what_it_names_and_no_subresource_of_it() {
        let pods = rule(&[""], &["pods"], &["get"]);
        assert!(pods.allows(&asks("get", "pods", "")));
        assert!(!pods.allows(&asks("get", "pods", "log")));
        assert!(!pods.allows(&asks("list", "pods", "")));
        assert!(rule(&[""], &["*/log"], &["*"]).allows(&asks("get", "pods", "log")));
        assert!(!rule(&[""], &["*/log"], &["*"]).allows(&asks("get", "pods", "")));
        assert!(rule(&["*"], &["*"], &["*"]).allows(&asks("get", "pods", "log")));
        let mut named = pods.clone();
        named.names = vec!["b".into()];
        assert!(!named.allows(&asks("get", "pods", "")));
    }

    #[test]
    fn a_url_with_a_star_allows_what_is_below_it() {
        let urls = Rule {
            verbs: vec!["get".into()],
            urls: vec!["/openapi/*".into(), "/version".into()],
            ..Rule::default()
        };
        for (path, allowed) in [
            ("/openapi/v3", true),
            ("/version", true),
            ("/versions", false),
            ("/openapi", false),
        ] {
            assert_eq!(
                urls.allows(&Attributes::path("get", path)),
                allowed,
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_missing_is_printed_as_kubernetes_prints_it() {
        let held = [rule(&[""], &["pods"], &["get", "list"])];
        let wanted = [
            rule(&[""], &["pods", "secrets"], &["get", "watch"]),
            Rule {
                verbs: vec!["get".into()],
                urls: vec!["/metrics".into()],
                ..Rule::default()
            },
        ];
        assert_eq!(
            missing(&held, &wanted),
            [
                "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"watch\"]}",
                "{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"watch\"]}",
                "{NonResourceURLs:[\"/metrics\"], Verbs:[\"get\"]}",
            ]
        );
        assert!(missing(&[rule(&["*"], &["*"], &["*"])], &wanted[..1]).is_empty());
    }

    #[test]
    fn a_rule_for_some_names_does_not_cover_one_for_all() {
        let mut named = rule(&[""], &["secrets"], &["get"]);
        named.names = vec!["a".into()];
        let all = rule(&[""], &["secrets"], &["get"]);
        assert!(!missing(&[named.clone()], std::slice::from_ref(&all)).is_empty());
        assert!(missing(&[all], &[named]).is_empty());
    }
}
