//! What a pod wants of its node's labels and of its neighbors; pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;

use crate::selector;

/// Labels of a namespace by its name.
pub(super) type NamespaceLabels<'a> = &'a dyn Fn(&str) -> BTreeMap<String, String>;

/// Whether the node has what `nodeSelector` and the required node affinity demand.
pub(super) fn selects_node(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = pod.spec.as_ref() else {
        return true;
    };
    let labels = node.labels();
    let mut wanted = spec.node_selector.iter().flatten();
    if !wanted.all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref();
    let required = affinity
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|node| {
            node.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    required.is_none_or(|selector| {
        let mut terms = selector.node_selector_terms.iter();
        terms.any(|term| term_matches(term, node))
    })
}

/// A term without any requirement matches nothing, as in Kubernetes.
fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = || term.match_expressions.iter().flatten();
    let fields = || term.match_fields.iter().flatten();
    let name = node.name_any();
    if expressions().next().is_none() && fields().next().is_none() {
        return false;
    }
    expressions().all(|wanted| satisfies(wanted, node.labels().get(&wanted.key)))
        && fields().all(|wanted| {
            let value = (wanted.key == "metadata.name").then_some(&name);
            satisfies(wanted, value)
        })
}

fn satisfies(wanted: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let mut values = wanted.values.iter().flatten();
    let listed = |value: &String| wanted.values.iter().flatten().any(|v| v == value);
    let mut compare = |holds: fn(i64, i64) -> bool| {
        let (value, limit) = (value.and_then(|v| v.parse().ok()), values.next());
        match (value, limit.and_then(|limit| limit.parse().ok())) {
            (Some(value), Some(limit)) => holds(value, limit),
            _ => false,
        }
    };
    match wanted.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|value, limit| value > limit),
        "Lt" => compare(|value, limit| value < limit),
        _ => false,
    }
}

/// What one pod demands of others on the node.
pub(super) struct Demand<'a> {
    term: &'a PodAffinityTerm,
    pod: &'a Pod,
}

/// The neighbors that a pod must have.
pub(super) fn wanted(pod: &Pod) -> Vec<Demand<'_>> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let terms = affinity
        .and_then(|affinity| affinity.pod_affinity.as_ref())
        .and_then(|pods| {
            pods.required_during_scheduling_ignored_during_execution
                .as_deref()
        });
    demands(pod, terms)
}

/// The neighbors that a pod refuses.
pub(super) fn refused(pod: &Pod) -> Vec<Demand<'_>> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let terms = affinity
        .and_then(|affinity| affinity.pod_anti_affinity.as_ref())
        .and_then(|pods| {
            pods.required_during_scheduling_ignored_during_execution
                .as_deref()
        });
    demands(pod, terms)
}

fn demands<'a>(pod: &'a Pod, terms: Option<&'a [PodAffinityTerm]>) -> Vec<Demand<'a>> {
    let terms = terms.unwrap_or_default().iter();
    terms.map(|term| Demand { term, pod }).collect()
}

impl Demand<'_> {
    /// Whether the node is part of the topology that is spoken of.
    pub(super) fn concerns(&self, node: &Node) -> bool {
        node.labels().contains_key(&self.term.topology_key)
    }

    /// Whether `other` is one of the pods that are spoken of.
    pub(super) fn is_about(&self, other: &Pod, labels_of: NamespaceLabels<'_>) -> bool {
        let namespace = other.namespace().unwrap_or_default();
        self.covers(&namespace, labels_of)
            && selector::matches(&self.selector(), other.labels())
            && self.term.label_selector.is_some()
    }

    fn covers(&self, namespace: &str, labels_of: NamespaceLabels<'_>) -> bool {
        let named = self.term.namespaces.as_deref().unwrap_or_default();
        let by_label = self.term.namespace_selector.as_ref();
        if named.is_empty() && by_label.is_none() {
            return self.pod.namespace().unwrap_or_default() == namespace;
        }
        named.iter().any(|name| name == namespace)
            || by_label.is_some_and(|wanted| selector::matches(wanted, &labels_of(namespace)))
    }

    /// The selector with the values that `matchLabelKeys` take from the pod itself.
    fn selector(&self) -> LabelSelector {
        let mut selector = self.term.label_selector.clone().unwrap_or_default();
        for key in self.term.match_label_keys.iter().flatten() {
            if let Some(value) = self.pod.labels().get(key) {
                let labels = selector.match_labels.get_or_insert_default();
                labels.insert(key.clone(), value.clone());
            }
        }
        for key in self.term.mismatch_label_keys.iter().flatten() {
            if let Some(value) = self.pod.labels().get(key) {
                let requirement =
                    k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement {
                        key: key.clone(),
                        operator: "NotIn".to_owned(),
                        values: Some(vec![value.clone()]),
                    };
                selector
                    .match_expressions
                    .get_or_insert_default()
                    .push(requirement);
            }
        }
        selector
    }
}
