//! What the API server would say before it stores an object, asked of the same rules: Knative's
//! kinds, and the ConfigMaps of the system.

use std::collections::BTreeMap;

use api::admission::{self, Operation, Request};
use api::names::SYSTEM_NAMESPACE;
use serde_json::Value;

/// The ConfigMaps that are in the files: what is allowed depends on them.
pub(super) struct Admitted {
    config_maps: BTreeMap<String, BTreeMap<String, String>>,
    /// See [`Request::has_preamble`].
    has_preamble: bool,
}

/// What is said of an object.
#[derive(Default)]
pub(super) struct Answer {
    /// Whether there are rules for such an object.
    pub(super) is_known: bool,
    /// Reason and message of each.
    pub(super) findings: Vec<(&'static str, String)>,
}

impl Admitted {
    pub(super) fn new(objects: &[Value], has_preamble: bool) -> Self {
        let of_system = objects.iter().filter(|object| {
            object["kind"] == "ConfigMap" && object["metadata"]["namespace"] == SYSTEM_NAMESPACE
        });
        let data = of_system.filter_map(|object| {
            let name = object["metadata"]["name"].as_str()?.to_owned();
            let data = serde_json::from_value(object["data"].clone()).ok()?;
            Some((name, data))
        });
        Self {
            config_maps: data.collect(),
            has_preamble,
        }
    }

    /// Defaults are written into the object, as the server does.
    pub(super) fn judge(&self, group: &str, kind: &str, object: &mut Value) -> Answer {
        let text = |field: &str| {
            let text = object["metadata"][field].as_str();
            text.unwrap_or_default().to_owned()
        };
        let (namespace, name) = (text("namespace"), text("name"));
        let config_map = |name: &str| self.config_maps.get(name).cloned();
        let mut request = Request {
            operation: Operation::Create,
            group,
            kind,
            subresource: "",
            namespace: &namespace,
            name: &name,
            user: "",
            object,
            old: None,
            has_preamble: self.has_preamble,
            config_map: &config_map,
        };
        let is_known = admission::has_rules(&request);
        let findings = match admission::admit(&mut request) {
            Ok(warnings) => {
                let warnings = warnings.into_iter();
                warnings.map(|text| ("NotAsWritten", text)).collect()
            }
            Err(refused) => vec![("AdmissionDenied", refused.message)],
        };
        Answer { is_known, findings }
    }
}
