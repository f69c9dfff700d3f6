//! `config-domain`: which domain a route's public host ends in, chosen by the route's labels.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ConfigError;
use crate::{names, validation};

/// Parsed `config-domain`: domains with the labels that a route must carry to get them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    default: String,
    selected: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    selector: BTreeMap<String, String>,
}

impl Domain {
    /// Parses the data; `default` is the domain of routes that no entry selects.
    ///
    /// # Errors
    /// Keys that are no domain names, and values that are neither empty nor a YAML `selector`.
    pub fn parse(data: &BTreeMap<String, String>, default: &str) -> Result<Self, Vec<ConfigError>> {
        let mut domain = Self {
            default: default.to_owned(),
            selected: BTreeMap::new(),
        };
        let mut errors = Vec::new();
        let mut has_default = false;
        for (key, value) in data.iter().filter(|(key, _)| !key.starts_with('_')) {
            let error = |message: String| ConfigError {
                key: key.clone(),
                message,
            };
            if let Some(problem) = validation::names::dns1123_subdomain(key) {
                errors.push(error(format!(
                    "{key}: the key must be a domain name: {problem}"
                )));
                continue;
            }
            let selector = if value.trim().is_empty() {
                BTreeMap::new()
            } else {
                match serde_saphyr::from_str::<Entry>(value) {
                    Ok(entry) => entry.selector,
                    Err(problem) => {
                        errors.push(error(format!(
                            "{key}: want nothing or a YAML `selector:` with labels: {problem}"
                        )));
                        continue;
                    }
                }
            };
            if selector.is_empty() {
                // Of several defaults the first in order wins: any rule would do, but one must hold.
                if !has_default {
                    domain.default.clone_from(key);
                }
                has_default = true;
            } else {
                domain.selected.insert(key.clone(), selector);
            }
        }
        if errors.is_empty() {
            Ok(domain)
        } else {
            Err(errors)
        }
    }

    /// The domain of a route with these labels: the cluster's for cluster-local routes, else the
    /// entry with the most labels that all match (the lesser name among equals), else the default.
    pub fn of<'a>(&'a self, labels: &BTreeMap<String, String>) -> &'a str {
        const CLUSTER_LOCAL: &str = "svc.cluster.local";
        if labels
            .get(names::label::VISIBILITY)
            .is_some_and(|value| value == "cluster-local")
        {
            return CLUSTER_LOCAL;
        }
        let matching = self.selected.iter().filter(|(_, selector)| {
            selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
        });
        // `max_by_key` keeps the last of equals, so walk in reverse to keep the least name.
        let best = matching.rev().max_by_key(|(_, selector)| selector.len());
        best.map_or(self.default.as_str(), |(domain, _)| domain.as_str())
    }

    /// The domain of routes that no entry selects.
    pub fn default_domain(&self) -> &str {
        &self.default
    }
}
