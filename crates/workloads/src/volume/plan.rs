//! What a claim needs next; pure.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec,
};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{DEFAULT_CLASS, PROVISIONER};
use crate::{quantity, selector};

/// Marks a volume by who made it.
pub(super) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Keeps a volume while a claim has it, and until its directory is gone; Kubernetes' name.
pub(super) const PROTECTION: &str = "kubernetes.io/pv-protection";

/// What a decision looks at.
pub(super) struct Around<'a> {
    pub(super) volumes: &'a [Arc<PersistentVolume>],
    pub(super) classes: &'a [Arc<StorageClass>],
    /// Whether a pod waits for the claim or runs with it.
    pub(super) wanted: bool,
    /// Where volumes are made.
    pub(super) directory: &'a Path,
}

/// The next step for a claim that is not being deleted.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Bound, or to be bound, to this volume.
    Bind(Arc<PersistentVolume>),
    /// A volume has to be made: its directory and its object.
    Provision(Value),
    /// It named no class and gets this one.
    Classify(String),
    /// Nothing can be done now; the words are for an Event.
    Wait(&'static str, String),
    /// Its volume is gone.
    Lost,
}

/// Whether a claim has its volume.
pub(super) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    status.and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// Decides.
pub(super) fn next(claim: &PersistentVolumeClaim, around: &Around<'_>) -> Next {
    let spec = claim.spec.clone().unwrap_or_default();
    if let Some(name) = spec.volume_name.as_deref().filter(|name| !name.is_empty()) {
        let named = around
            .volumes
            .iter()
            .find(|volume| volume.name_any() == name);
        return match named {
            Some(volume) if is_free_for(volume, claim) => Next::Bind(Arc::clone(volume)),
            Some(_) => Next::Wait(
                "FailedBinding",
                format!("volume {name:?} already bound to a different claim."),
            ),
            None if is_bound(claim) => Next::Lost,
            None => Next::Wait("FailedBinding", format!("volume {name:?} not found")),
        };
    }
    if let Some(volume) = chosen(claim, around) {
        return Next::Bind(volume);
    }
    let class = match &spec.storage_class_name {
        Some(name) => name,
        None => {
            return match default_class(around.classes) {
                Some(class) => Next::Classify(class.name_any()),
                None => none_available(),
            };
        }
    };
    if class.is_empty() {
        return none_available();
    }
    let found = around
        .classes
        .iter()
        .find(|found| found.name_any() == *class);
    let Some(class) = found else {
        let text = format!("storageclass.storage.k8s.io {class:?} not found");
        return Next::Wait("ProvisioningFailed", text);
    };
    let late = class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
    if late && !around.wanted {
        let text = "waiting for first consumer to be created before binding";
        return Next::Wait("WaitForFirstConsumer", text.to_owned());
    }
    if class.provisioner != PROVISIONER {
        let text = format!(
            "nothing here provides volumes of {:?}; use a class of {PROVISIONER}, or make a PersistentVolume",
            class.provisioner
        );
        return Next::Wait("ProvisioningFailed", text);
    }
    if let Some(text) = not_provided(&spec, class) {
        return Next::Wait("ProvisioningFailed", text.to_owned());
    }
    Next::Provision(provisioned(claim, class, around.directory))
}

/// What a directory of this machine is not, though it was asked for.
fn not_provided(spec: &PersistentVolumeClaimSpec, class: &StorageClass) -> Option<&'static str> {
    let asked = [
        (
            spec.volume_mode.as_deref() == Some("Block"),
            "block volumes are not provided here; use volumeMode Filesystem",
        ),
        (
            spec.data_source.is_some() || spec.data_source_ref.is_some(),
            "volumes are not filled from others here; remove dataSource and dataSourceRef",
        ),
        (spec.selector.is_some(), "claim Selector is not supported"),
        (
            spec.volume_attributes_class_name
                .as_ref()
                .is_some_and(|name| !name.is_empty()),
            "volumes have no attributes here; remove volumeAttributesClassName",
        ),
        (
            class.parameters.as_ref().is_some_and(|all| !all.is_empty()),
            "the class has parameters, and its provisioner knows none; remove them",
        ),
        (
            class
                .mount_options
                .as_ref()
                .is_some_and(|all| !all.is_empty()),
            "the class has mountOptions, and directories have none; remove them",
        ),
    ];
    let mut found = asked.into_iter().filter(|(asked, _)| *asked);
    found.next().map(|(_, text)| text)
}

fn none_available() -> Next {
    let text = "no persistent volumes available for this claim and no storage class is set";
    Next::Wait("FailedBinding", text.to_owned())
}

/// Of several default classes the newest; of those the first by name, as in Kubernetes.
fn default_class(classes: &[Arc<StorageClass>]) -> Option<&Arc<StorageClass>> {
    let defaults = classes.iter().filter(|class| is_default(class));
    defaults.min_by_key(|class| {
        let since = class.creation_timestamp().map(|since| since.0);
        (std::cmp::Reverse(since), class.name_any())
    })
}

fn is_default(class: &StorageClass) -> bool {
    class
        .annotations()
        .get(DEFAULT_CLASS)
        .is_some_and(|value| value == "true")
}

/// Whether a volume is kept for this claim, or for none.
fn is_free_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let kept = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref());
    kept.is_none_or(|kept| {
        kept.namespace == claim.namespace()
            && kept.name == claim.metadata.name
            && (kept.uid.is_none() || kept.uid == claim.metadata.uid)
    })
}

/// A volume that was made for the claim; else the smallest that is free and fits.
fn chosen(claim: &PersistentVolumeClaim, around: &Around<'_>) -> Option<Arc<PersistentVolume>> {
    let kept = |volume: &&Arc<PersistentVolume>| {
        let spec = volume.spec.as_ref();
        spec.is_some_and(|spec| spec.claim_ref.is_some()) && is_free_for(volume, claim)
    };
    if let Some(volume) = around.volumes.iter().find(kept) {
        return Some(Arc::clone(volume));
    }
    let fitting = around.volumes.iter().filter(|volume| fits(volume, claim));
    let smallest = fitting.min_by_key(|volume| (storage(volume), volume.name_any()))?;
    Some(Arc::clone(smallest))
}

fn storage(volume: &PersistentVolume) -> Option<i64> {
    let capacity = volume.spec.as_ref()?.capacity.as_ref()?;
    quantity::whole(capacity.get("storage")?)
}

fn fits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(offered), Some(asked)) = (&volume.spec, &claim.spec) else {
        return false;
    };
    let class = |name: &Option<String>| name.clone().unwrap_or_default();
    let modes = asked.access_modes.iter().flatten();
    let mode = |mode: &Option<String>| mode.as_deref() != Some("Block");
    let request = asked
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    let request = request.and_then(|requests| quantity::whole(requests.get("storage")?));
    let labels = volume.labels();
    volume.metadata.deletion_timestamp.is_none()
        && offered.claim_ref.is_none()
        && class(&offered.storage_class_name) == class(&asked.storage_class_name)
        && modes
            .into_iter()
            .all(|mode| offered.access_modes.iter().flatten().any(|o| o == mode))
        && mode(&offered.volume_mode) == mode(&asked.volume_mode)
        && storage(volume) >= request
        && asked
            .selector
            .as_ref()
            .is_none_or(|wanted| selector::matches(wanted, labels))
}

/// The capacity that a bound volume is to have because its claim asks for more, and its class lets
/// it. A directory is as large as its disk, so nothing but the number changes.
pub(super) fn expansion(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
    classes: &[Arc<StorageClass>],
) -> Option<Expansion> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    let asked = requests.get("storage")?;
    if !is_bound(claim) || quantity::whole(asked) <= storage(volume) {
        return None;
    }
    let name = claim.spec.as_ref()?.storage_class_name.as_deref()?;
    let class = classes.iter().find(|class| class.name_any() == name)?;
    class.allow_volume_expansion.filter(|allowed| *allowed)?;
    let made_here = volume
        .annotations()
        .get(PROVISIONED_BY)
        .is_some_and(|by| by == PROVISIONER);
    Some(match made_here {
        true => Expansion::Here(asked.0.clone()),
        false => Expansion::Elsewhere,
    })
}

/// Who can make a volume larger.
#[derive(Debug, PartialEq)]
pub(super) enum Expansion {
    /// This controller, to this size.
    Here(String),
    /// Whoever made it.
    Elsewhere,
}

/// A volume of this machine, for one claim.
fn provisioned(claim: &PersistentVolumeClaim, class: &StorageClass, directory: &Path) -> Value {
    let spec = claim.spec.clone().unwrap_or_default();
    let name = format!("pvc-{}", claim.uid().unwrap_or_default());
    let requests = spec.resources.and_then(|resources| resources.requests);
    let capacity: BTreeMap<_, _> = requests.unwrap_or_default();
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": { PROVISIONED_BY: PROVISIONER },
            "finalizers": [PROTECTION],
        },
        "spec": {
            "accessModes": spec.access_modes,
            "capacity": { "storage": capacity.get("storage") },
            "claimRef": reference(claim),
            "hostPath": { "path": directory.join(&name), "type": "Directory" },
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "storageClassName": class.name_any(),
            "volumeMode": "Filesystem",
        },
    })
}

/// How a volume names its claim.
pub(super) fn reference(claim: &PersistentVolumeClaim) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": claim.namespace(),
        "name": claim.name_any(),
        "uid": claim.uid(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::from_value;

    fn claim(spec: Value) -> PersistentVolumeClaim {
        let object =
            json!({ "metadata": { "name": "c", "namespace": "n", "uid": "u" }, "spec": spec });
        from_value(object).expect("a claim")
    }

    fn asking(class: Value) -> PersistentVolumeClaim {
        claim(json!({
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": class,
            "resources": { "requests": { "storage": "1Gi" } },
        }))
    }

    fn volume(name: &str, size: &str, more: Value) -> Arc<PersistentVolume> {
        let mut spec = json!({
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"], "capacity": { "storage": size },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        let object = json!({ "metadata": { "name": name }, "spec": spec });
        Arc::new(from_value(object).expect("a volume"))
    }

    fn class(provisioner: &str) -> Arc<StorageClass> {
        let object = json!({
            "metadata": { "name": "standard", "annotations": { DEFAULT_CLASS: "true" } },
            "provisioner": provisioner,
            "volumeBindingMode": "WaitForFirstConsumer",
        });
        Arc::new(from_value(object).expect("a class"))
    }

    fn decide(
        claim: &PersistentVolumeClaim,
        volumes: &[Arc<PersistentVolume>],
        classes: &[Arc<StorageClass>],
        wanted: bool,
    ) -> Next {
        let directory = Path::new("/data");
        next(
            claim,
            &Around {
                volumes,
                classes,
                wanted,
                directory,
            },
        )
    }

    #[test]
    fn the_smallest_volume_that_fits_is_taken() {
        let volumes = [
            volume("big", "10Gi", json!({})),
            volume("fits", "2Gi", json!({})),
            volume("small", "1Mi", json!({})),
            volume("other", "1Gi", json!({ "storageClassName": "fast" })),
            volume(
                "taken",
                "1Gi",
                json!({ "claimRef": { "namespace": "x", "name": "y" } }),
            ),
        ];
        let next = decide(&asking(json!("")), &volumes, &[], false);
        assert_eq!(next, Next::Bind(Arc::clone(&volumes[1])));
    }

    #[test]
    fn a_claim_without_a_class_gets_the_default_one() {
        let classes = [class(PROVISIONER)];
        let next = decide(&asking(Value::Null), &[], &classes, true);
        assert_eq!(next, Next::Classify("standard".to_owned()));
        assert!(matches!(
            decide(&asking(Value::Null), &[], &[], true),
            Next::Wait("FailedBinding", _)
        ));
    }

    #[test]
    fn of_several_default_classes_the_newest_is_taken() {
        let of = |name: &str, since: &str| {
            let object = json!({
                "metadata": {
                    "name": name, "creationTimestamp": since, "annotations": { DEFAULT_CLASS: "true" },
                },
                "provisioner": PROVISIONER,
            });
            Arc::new(from_value(object).expect("a class"))
        };
        let classes = [
            of("old", "2026-01-01T00:00:00Z"),
            of("new-b", "2026-01-02T00:00:00Z"),
            of("new-a", "2026-01-02T00:00:00Z"),
        ];
        let next = decide(&asking(Value::Null), &[], &classes, true);
        assert_eq!(next, Next::Classify("new-a".to_owned()));
    }

    #[test]
    fn a_volume_grows_with_its_claim_if_the_class_allows_it() {
        let mut bound = asking(json!("standard"));
        bound.status = Some(from_value(json!({ "phase": "Bound" })).expect("a status"));
        let mut own = (*volume("v", "1Mi", json!({}))).clone();
        let allowing = |allowed: bool| {
            let mut class = (*class(PROVISIONER)).clone();
            class.allow_volume_expansion = Some(allowed);
            [Arc::new(class)]
        };
        assert_eq!(
            expansion(&bound, &own, &allowing(true)),
            Some(Expansion::Elsewhere)
        );
        let by = (PROVISIONED_BY.to_owned(), PROVISIONER.to_owned());
        own.metadata.annotations = Some(BTreeMap::from([by]));
        let larger = Some(Expansion::Here("1Gi".to_owned()));
        assert_eq!(expansion(&bound, &own, &allowing(true)), larger);
        assert_eq!(expansion(&bound, &own, &allowing(false)), None);
        assert_eq!(expansion(&bound, &own, &[]), None);
        let enough = volume("v", "1Gi", json!({}));
        assert_eq!(expansion(&bound, &enough, &allowing(true)), None);
    }

    #[test]
    fn a_volume_is_made_once_a_pod_wants_it() {
        let classes = [class(PROVISIONER)];
        let asked = asking(json!("standard"));
        let waits = decide(&asked, &[], &classes, false);
        assert!(
            matches!(waits, Next::Wait("WaitForFirstConsumer", _)),
            "{waits:?}"
        );
        let Next::Provision(made) = decide(&asked, &[], &classes, true) else {
            panic!("nothing is made");
        };
        assert_eq!(made["spec"]["hostPath"]["path"], "/data/pvc-u");
        assert_eq!(made["spec"]["claimRef"]["uid"], "u");
        assert_eq!(made["spec"]["capacity"]["storage"], "1Gi");
        let made: PersistentVolume = from_value(made).expect("a volume");
        let made = Arc::new(made);
        // Made, and nobody has written it down in the claim yet.
        let next = decide(&asked, &[Arc::clone(&made)], &classes, true);
        assert_eq!(next, Next::Bind(made));
    }

    #[test]
    fn what_cannot_be_made_is_told() {
        let foreign = decide(
            &asking(json!("standard")),
            &[],
            &[class("ebs.csi.aws.com")],
            true,
        );
        assert!(matches!(&foreign, Next::Wait("ProvisioningFailed", text) if text.contains("ebs")));
        let mut copy = asking(json!("standard"));
        let source = json!({ "kind": "PersistentVolumeClaim", "name": "other" });
        copy.spec.as_mut().expect("a spec").data_source = Some(from_value(source).expect("one"));
        let copied = decide(&copy, &[], &[class(PROVISIONER)], true);
        assert!(
            matches!(&copied, Next::Wait("ProvisioningFailed", text) if text.contains("dataSource"))
        );
        let missing = decide(&asking(json!("fast")), &[], &[], true);
        assert!(matches!(missing, Next::Wait("ProvisioningFailed", _)));
    }

    #[test]
    fn a_claim_keeps_its_volume_and_is_lost_with_it() {
        let mut bound = asking(json!("standard"));
        bound.spec.as_mut().expect("a spec").volume_name = Some("v".to_owned());
        bound.status = Some(from_value(json!({ "phase": "Bound" })).expect("a status"));
        let own = volume(
            "v",
            "1Gi",
            json!({ "claimRef": { "namespace": "n", "name": "c", "uid": "u" } }),
        );
        let next = decide(&bound, &[Arc::clone(&own)], &[], true);
        assert_eq!(next, Next::Bind(own));
        assert_eq!(decide(&bound, &[], &[], true), Next::Lost);
        let other = volume(
            "v",
            "1Gi",
            json!({ "claimRef": { "namespace": "n", "name": "c", "uid": "old" } }),
        );
        assert!(matches!(
            decide(&bound, &[other], &[], true),
            Next::Wait("FailedBinding", _)
        ));
    }
}
