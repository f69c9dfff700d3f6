//! Volumes of a revision's pod.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::container::Volumes;
use super::report::{Report, indexed, join};
use super::{Settings, names};
use crate::config::Feature;
use crate::json;
use crate::quantity::Quantity;

/// Kinds of volumes with the feature that some need.
const KINDS: [(&str, Option<Feature>); 9] = [
    ("secret", None),
    ("configMap", None),
    ("projected", None),
    ("emptyDir", Some(Feature::EmptyDir)),
    (
        "persistentVolumeClaim",
        Some(Feature::PersistentVolumeClaim),
    ),
    ("hostPath", Some(Feature::HostPath)),
    ("csi", Some(Feature::CsiVolume)),
    ("ephemeral", Some(Feature::EphemeralVolume)),
    ("image", Some(Feature::ImageVolume)),
];

const PROJECTIONS: [&str; 4] = ["secret", "configMap", "serviceAccountToken", "downwardAPI"];

/// Validates the pod's volumes and answers them by name.
pub(super) fn validate<'a>(
    pod: &'a Value,
    settings: &Settings,
    base: &str,
    report: &mut Report,
) -> Volumes<'a> {
    let containers = json::list(pod, "containers")
        .iter()
        .chain(json::list(pod, "initContainers"));
    let mounted: BTreeSet<&str> = containers
        .flat_map(|item| json::list(item, "volumeMounts"))
        .map(|mount| json::text(mount, "name"))
        .collect();
    let mut volumes = BTreeMap::new();
    for (index, volume) in json::list(pod, "volumes").iter().enumerate() {
        let base = indexed(base, "volumes", index);
        let name = json::text(volume, "name");
        let path = join(&base, "name");
        if name.is_empty() {
            report.missing(path);
        } else if names::dns1123_label(name).is_some() {
            report.invalid(name, path);
        } else if volumes.contains_key(name) {
            report.say(format!("duplicate volume name {name:?}"), &[path]);
        } else if !mounted.contains(name) {
            report.say(format!("volume with name {name:?} not mounted"), &[path]);
        }
        source(volume, settings, &base, report);
        volumes.insert(name, volume);
    }
    volumes
}

fn source(volume: &Value, settings: &Settings, base: &str, report: &mut Report) {
    let features = &settings.features;
    let open = |feature: &Option<Feature>| feature.is_none_or(|feature| features.allowed(feature));
    let mut given = Vec::new();
    for (field, value) in
        json::entries(volume).filter(|(field, value)| *field != "name" && !value.is_null())
    {
        match KINDS.iter().find(|(kind, _)| kind == field) {
            Some((kind, feature)) if open(feature) => given.push(*kind),
            Some((_, Some(feature))) => report.off(join(base, field), *feature),
            Some((_, None)) | None => report.disallowed(join(base, field)),
        }
        contents(field, value, &join(base, field), report);
    }
    match given.as_slice() {
        // A kind that is not allowed was the only one, and is reported.
        [] if json::entries(volume).any(|(field, value)| field != "name" && !value.is_null()) => {}
        [] => {
            let open: Vec<&str> = KINDS
                .iter()
                .filter(|(_, feature)| open(feature))
                .map(|(kind, _)| *kind)
                .collect();
            report.neither(base, &open);
        }
        [_] => {}
        several => report.both(base, several),
    }
    let claim = json::present(volume, "persistentVolumeClaim");
    let writes = claim.is_some_and(|claim| claim.get("readOnly") != Some(&Value::Bool(true)));
    if writes
        && features.allowed(Feature::PersistentVolumeClaim)
        && !features.allowed(Feature::PersistentVolumeWrite)
    {
        let name = json::text(claim.unwrap_or(&Value::Null), "claimName");
        let message = format!(
            "Persistent volume write support is disabled, but found persistent volume claim {name} that is not read-only"
        );
        report.say(message, &[base.to_owned()]);
    }
}

fn contents(kind: &str, source: &Value, base: &str, report: &mut Report) {
    match kind {
        "secret" | "configMap" => items(source, base, report),
        "projected" => {
            for (index, projection) in json::list(source, "sources").iter().enumerate() {
                projection_source(projection, &indexed(base, "sources", index), report);
            }
        }
        "emptyDir" => {
            let medium = json::text(source, "medium");
            if !matches!(medium, "" | "Memory") {
                report.invalid(medium, join(base, "medium"));
            }
            if let Some(size) = json::present(source, "sizeLimit") {
                let text = size
                    .as_str()
                    .map_or_else(|| size.to_string(), str::to_owned);
                if Quantity::parse(&text).is_none_or(Quantity::is_negative) {
                    report.invalid(text, join(base, "sizeLimit"));
                }
            }
        }
        "image" if json::text(source, "reference").is_empty() => {
            report.missing(join(base, "reference"));
        }
        _ => {}
    }
}

fn items(source: &Value, base: &str, report: &mut Report) {
    for (index, item) in json::list(source, "items").iter().enumerate() {
        for field in ["key", "path"] {
            if json::text(item, field).is_empty() {
                report.missing(join(&indexed(base, "items", index), field));
            }
        }
    }
}

fn projection_source(projection: &Value, base: &str, report: &mut Report) {
    let mut given = Vec::new();
    for (field, value) in json::entries(projection).filter(|(_, value)| !value.is_null()) {
        match PROJECTIONS.iter().find(|kind| *kind == field) {
            Some(kind) => given.push(*kind),
            None => report.disallowed(join(base, field)),
        }
        let base = join(base, field);
        match field.as_str() {
            "secret" | "configMap" => {
                if json::text(value, "name").is_empty() {
                    report.missing(join(&base, "name"));
                }
                items(value, &base, report);
            }
            "serviceAccountToken" if json::text(value, "path").is_empty() => {
                report.missing(join(&base, "path"))
            }
            "downwardAPI" => downward(value, &base, report),
            _ => {}
        }
    }
    match given.as_slice() {
        [] => report.neither(base, &PROJECTIONS),
        [_] => {}
        several => report.both(base, several),
    }
}

fn downward(source: &Value, base: &str, report: &mut Report) {
    for (index, item) in json::list(source, "items").iter().enumerate() {
        let base = indexed(base, "items", index);
        let given =
            ["fieldRef", "resourceFieldRef"].map(|field| json::present(item, field).is_some());
        match given {
            [false, false] => report.neither(&base, &["fieldRef", "resourceFieldRef"]),
            [true, true] => {
                let paths = ["fieldRef", "resourceFieldRef"].map(|field| join(&base, field));
                report.say("Within a single item, cannot set both", &paths);
            }
            _ => {}
        }
        if json::text(item, "path").is_empty() {
            report.missing(join(&base, "path"));
        }
    }
}
