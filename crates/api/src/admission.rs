//! One entry for defaulting and validating every kind of ours, and the system's ConfigMaps.
//!
//! The embedded API server calls it directly, the webhook on Kubernetes calls it with what the
//! API server sent: a manifest is judged alike in both modes.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::names::{SYSTEM_NAMESPACE, annotation};
use crate::validation::{self, Report, Settings, traffic};
use crate::{autoscaling, config, crd, defaults, gateway, json, networking, serving};

/// What is done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// One request under admission.
pub struct Request<'a> {
    pub operation: Operation,
    /// API group of the object; empty for Kubernetes' own core kinds.
    pub group: &'a str,
    pub kind: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Name of the user who asks; recorded as creator and last modifier.
    pub user: &'a str,
    /// The new object; defaults are written into it.
    pub object: &'a mut Value,
    /// The stored object.
    pub old: Option<&'a Value>,
    /// Whether the gateway was started with `--proxy-protocol`.
    pub has_preamble: bool,
    /// The data of a ConfigMap of the system namespace, if it exists.
    pub config_map: &'a dyn Fn(&str) -> Option<BTreeMap<String, String>>,
}

/// Why a request is refused, as Knative's webhooks answer (status 400).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("admission webhook {webhook:?} denied the request: {message}")]
pub struct Rejection {
    /// The webhook that refuses on Knative.
    pub webhook: &'static str,
    pub message: String,
}

const DEFAULTING: &str = "webhook.serving.knative.dev";
const VALIDATION: &str = "validation.webhook.serving.knative.dev";
const CONFIG: &str = "config.webhook.serving.knative.dev";

/// The kinds that admission knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Service,
    Configuration,
    Revision,
    Route,
    DomainMapping,
    PodAutoscaler,
    Ingress,
    /// A ConfigMap of the system namespace that we read.
    Config,
}

impl Kind {
    fn of(request: &Request<'_>) -> Option<Self> {
        match (request.group, request.kind) {
            ("serving.knative.dev", "Service") => Some(Self::Service),
            ("serving.knative.dev", "Configuration") => Some(Self::Configuration),
            ("serving.knative.dev", "Revision") => Some(Self::Revision),
            ("serving.knative.dev", "Route") => Some(Self::Route),
            ("serving.knative.dev", "DomainMapping") => Some(Self::DomainMapping),
            ("autoscaling.internal.knative.dev", "PodAutoscaler") => Some(Self::PodAutoscaler),
            ("networking.internal.knative.dev", "Ingress") => Some(Self::Ingress),
            ("", "ConfigMap")
                if request.namespace == SYSTEM_NAMESPACE
                    && config::name::ALL.contains(&request.name) =>
            {
                Some(Self::Config)
            }
            _ => None,
        }
    }
}

/// Whether there are rules for such an object.
pub fn has_rules(request: &Request<'_>) -> bool {
    Kind::of(request).is_some()
}

/// Fills defaults into the object and judges it. Kinds that are none of ours pass untouched.
/// Answers warnings for the client.
///
/// # Errors
/// What is wrong with the object, all of it at once.
pub fn admit(request: &mut Request<'_>) -> Result<Vec<String>, Rejection> {
    let Some(kind) = Kind::of(request) else {
        let is_write = request.subresource.is_empty() && request.operation != Operation::Delete;
        let warnings = gateway::not_served(request.group, request.kind)
            .into_iter()
            .chain(unread_annotation(request));
        return Ok(warnings.filter(|_| is_write).collect());
    };
    // Status is written by controllers, and a delete asks for nothing.
    if !request.subresource.is_empty() || request.operation == Operation::Delete {
        return Ok(Vec::new());
    }
    if kind == Kind::Config {
        return config_map(request);
    }
    decodable(kind, request.object).map_err(|problem| {
        reject(
            DEFAULTING,
            format!("mutation failed: cannot decode incoming new object: {problem}"),
        )
    })?;
    let settings = settings(request.config_map);
    set_defaults(kind, request, &settings);
    // An object on its way out must not be held back by rules that came after it.
    if json::present(&request.object["metadata"], "deletionTimestamp").is_some() {
        return Ok(Vec::new());
    }
    let report = validate(kind, request, &settings);
    if report.is_ok() {
        Ok(report.warnings().to_vec())
    } else {
        Err(reject(VALIDATION, format!("validation failed: {report}")))
    }
}

/// Emissary's users wrote Mappings into an annotation of Services and Ingresses, which have no
/// status to say in that nobody reads them.
fn unread_annotation(request: &Request<'_>) -> Option<String> {
    const MAPPINGS: &str = "getambassador.io/config";
    let has_it = matches!(
        (request.group, request.kind),
        ("", "Service") | ("networking.k8s.io", "Ingress")
    ) && json::metadata_map(request.object, "annotations").contains_key(MAPPINGS);
    has_it.then(|| {
        format!(
            "annotation {MAPPINGS} is not read and changes nothing; write each document in it as \
             an object: apiVersion getambassador.io/v3alpha1, its name in metadata.name, the rest \
             in spec"
        )
    })
}

/// The ConfigMaps as they are now. A stored one that does not parse (written before this
/// version, or around admission) counts as absent: users' objects must not become unwritable.
fn settings(config_map: &dyn Fn(&str) -> Option<BTreeMap<String, String>>) -> Settings {
    let data = |name: &str| config_map(name).unwrap_or_default();
    Settings {
        autoscaler: config::Autoscaler::parse(&data(config::name::AUTOSCALER)).unwrap_or_default(),
        defaults: config::Defaults::parse(&data(config::name::DEFAULTS)).unwrap_or_default(),
        features: config::Features::parse(&data(config::name::FEATURES)).unwrap_or_default(),
    }
}

fn reject(webhook: &'static str, message: String) -> Rejection {
    Rejection { webhook, message }
}

fn config_map(request: &Request<'_>) -> Result<Vec<String>, Rejection> {
    let entries = request
        .object
        .get("data")
        .into_iter()
        .flat_map(json::entries);
    let data = entries
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    let findings = config::check(request.name, &data, request.has_preamble);
    if findings.errors.is_empty() {
        return Ok(findings
            .warnings
            .iter()
            .map(|warning| format!("{}: {warning}", request.name))
            .collect());
    }
    let errors: Vec<String> = findings.errors.iter().map(ToString::to_string).collect();
    Err(reject(
        CONFIG,
        format!("validation failed: {}", errors.join("; ")),
    ))
}

/// Whether our types can read the object; if not, which field has the wrong type.
fn decodable(kind: Kind, object: &Value) -> Result<(), String> {
    fn read<T: DeserializeOwned>(object: &Value) -> Option<String> {
        T::deserialize(object).err().map(|error| error.to_string())
    }
    // Users may leave out a whole spec: that is for validation to tell.
    let mut whole = object.clone();
    json::object_mut(&mut whole, "spec");
    let problem = match kind {
        Kind::Service => read::<serving::v1::Service>(&whole),
        Kind::Configuration => read::<serving::v1::Configuration>(&whole),
        Kind::Revision => read::<serving::v1::Revision>(&whole),
        Kind::Route => read::<serving::v1::Route>(&whole),
        Kind::DomainMapping => read::<serving::v1beta1::DomainMapping>(&whole),
        Kind::PodAutoscaler => read::<autoscaling::v1alpha1::PodAutoscaler>(&whole),
        Kind::Ingress => read::<networking::v1alpha1::Ingress>(&whole),
        Kind::Config => None,
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(crd::type_mismatch(object).unwrap_or(problem)),
    }
}

fn set_defaults(kind: Kind, request: &mut Request<'_>, settings: &Settings) {
    let raw_template = request.object["spec"]["template"].clone();
    match kind {
        Kind::Service => {
            defaults::template(request.object, settings);
            defaults::traffic(request.object, true);
        }
        Kind::Configuration => defaults::template(request.object, settings),
        // The spec of a stored revision never changes, not even by new defaults.
        Kind::Revision if request.operation == Operation::Create => {
            if let Some(spec) = json::object_mut(request.object, "spec") {
                defaults::revision_spec(spec, settings, &config::template::Values::default(), true);
            }
        }
        Kind::Route => defaults::traffic(request.object, false),
        Kind::DomainMapping => defaults::domain_mapping(request.object),
        Kind::PodAutoscaler => defaults::podautoscaler(request.object),
        Kind::Ingress => defaults::ingress(request.object),
        Kind::Revision | Kind::Config => {}
    }
    if matches!(kind, Kind::Service | Kind::Configuration) {
        keep_named_template(request, &raw_template);
    }
    let owned = !json::list(&request.object["metadata"], "ownerReferences").is_empty();
    if matches!(kind, Kind::Service | Kind::DomainMapping)
        || (matches!(kind, Kind::Configuration | Kind::Route) && !owned)
    {
        record_user(request);
    }
}

/// Defaults may have changed since a template with a name of its own was stored; the same
/// template under the same name must not become another one by that.
fn keep_named_template(request: &mut Request<'_>, raw: &Value) {
    let Some(old) = request.old.map(|old| &old["spec"]["template"]) else {
        return;
    };
    let name = json::text(&raw["metadata"], "name");
    let same_name = !name.is_empty() && name == json::text(&old["metadata"], "name");
    if same_name && json::difference(old, raw).is_empty() {
        request.object["spec"]["template"] = old.clone();
    }
}

/// Records creator and last modifier. A client that leaves them out (`kubectl replace`) keeps
/// what is stored.
fn record_user(request: &mut Request<'_>) {
    let stored = request
        .old
        .map(|old| json::metadata_map(old, "annotations"))
        .unwrap_or_default();
    let changed = request
        .old
        .is_none_or(|old| !json::difference(&old["spec"], &request.object["spec"]).is_empty());
    let metadata = json::object_mut(request.object, "metadata");
    let Some(map) = metadata.and_then(|metadata| json::object_mut(metadata, "annotations")) else {
        return;
    };
    match request.operation {
        Operation::Create => map[annotation::CREATOR] = json!(request.user),
        Operation::Update | Operation::Delete => {
            if let Some(creator) = stored.get(annotation::CREATOR) {
                json::set_absent(map, annotation::CREATOR, creator.as_str());
            }
        }
    }
    if changed {
        map[annotation::LAST_MODIFIER] = json!(request.user);
    } else if let Some(modifier) = stored.get(annotation::LAST_MODIFIER) {
        json::set_absent(map, annotation::LAST_MODIFIER, modifier.as_str());
    }
}

fn validate(kind: Kind, request: &Request<'_>, settings: &Settings) -> Report {
    use validation::{domain_mapping, ingress, object, podautoscaler, revision};
    let mut report = Report::default();
    let (new, old) = (&*request.object, request.old);
    let free_standing = json::list(&new["metadata"], "ownerReferences").is_empty();
    // Children have a copy of their Service's annotations.
    let is_service = kind == Kind::Service;
    if is_service || (free_standing && matches!(kind, Kind::Configuration | Kind::Route)) {
        object::service_min_scale(new, is_service, &mut report);
    }
    match kind {
        Kind::Service | Kind::Configuration => {
            object::metadata(new, &mut report);
            object::no_autoscaling_annotations(new, &mut report);
            revision::template(new, settings, &mut report);
            if let Some(old) = old {
                object::template_name_change(old, new, &mut report);
            }
        }
        Kind::Route => {
            object::metadata(new, &mut report);
            object::no_autoscaling_annotations(new, &mut report);
            traffic::validate(new, traffic::Owner::Route, &mut report);
        }
        Kind::Revision => revision::validate(new, old, settings, &mut report),
        Kind::DomainMapping => domain_mapping::validate(new, request.namespace, &mut report),
        Kind::PodAutoscaler => podautoscaler::validate(new, settings, &mut report),
        Kind::Ingress => ingress::validate(new, request.namespace, &mut report),
        Kind::Config => {}
    }
    if kind == Kind::Service {
        traffic::validate(new, traffic::Owner::Service, &mut report);
    }
    if matches!(kind, Kind::Service | Kind::Route) {
        object::rollout_duration(new, &mut report);
    }
    if matches!(kind, Kind::Configuration | Kind::Route) {
        object::service_label(new, &mut report);
    }
    let user_written = matches!(kind, Kind::Service | Kind::DomainMapping)
        || (matches!(kind, Kind::Configuration | Kind::Route) && free_standing);
    if user_written && kind != Kind::Configuration {
        object::network_annotations(new, &mut report);
    }
    if let Some(old) = old.filter(|_| user_written) {
        object::creator_and_modifier(old, new, &mut report);
    }
    report
}

#[cfg(test)]
mod tests;
