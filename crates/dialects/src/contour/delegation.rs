//! TLSCertificateDelegation: which Secrets of its namespace others may use.

use std::sync::Arc;

use super::status::Judgement;
use super::{DELEGATION, OLD_DELEGATION, certificates};
use crate::fields::{Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::objects::{Name, Objects, Reader};

/// The Secrets that it is about.
pub(super) fn keys(object: &Object) -> Vec<Arc<str>> {
    let delegations = object.spec()["delegations"].as_array();
    let names = delegations.into_iter().flatten();
    let names = names.filter_map(|one| one["secretName"].as_str());
    names
        .map(|name| key(&Name::new(&object.name.namespace, name)))
        .collect()
}

fn key(secret: &Name) -> Arc<str> {
    secret.to_string().into()
}

/// Whether an object of this namespace may use the Secret.
pub(super) fn permits(reader: &Reader<'_>, secret: &Name, namespace: &str) -> bool {
    if &*secret.namespace == namespace {
        return true;
    }
    let kinds = [&DELEGATION, &OLD_DELEGATION].into_iter();
    let mut objects = kinds.flat_map(|kind| reader.foreign_by_key(kind, &key(secret)));
    objects.any(|object| {
        let of_namespace = object.name.namespace == secret.namespace;
        let delegations = object.spec()["delegations"].as_array();
        let mut delegations = delegations.into_iter().flatten();
        of_namespace
            && delegations.any(|one| {
                let targets = one["targetNamespaces"].as_array();
                let targets = targets.map_or(&[][..], Vec::as_slice);
                let is_for_all = matches!(targets, [only] if only == "*");
                one["secretName"] == *secret.name
                    && (is_for_all || targets.iter().any(|target| target == namespace))
            })
    })
}

/// Its status: which Secrets cannot be used.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    let findings = Findings::default();
    let root = Fields::new(&object.body, String::new(), &findings);
    let mut judgement = Judgement::default();
    if let Some(spec) = root.object("spec") {
        for one in spec.objects("delegations") {
            let targets = one.strings("targetNamespaces");
            if targets.is_empty() {
                let text = "no namespace is named, so the Secret is delegated to nobody";
                one.refuse("targetNamespaces", "NamespacesMissing", text);
            } else if targets.len() > 1 && targets.contains(&"*") {
                let text = "* stands for every namespace only where it stands alone";
                one.refuse("targetNamespaces", "WildcardIgnored", text);
            }
            let Some(secret) = one.text("secretName") else {
                one.refuse("secretName", "SecretMissing", "no Secret is named");
                continue;
            };
            let name = Name::new(&object.name.namespace, secret);
            if let Err(why) = certificates::holds_any(&reader, &name) {
                one.refuse(
                    "secretName",
                    "SecretNotValid",
                    format!("Secret {name}: {why}"),
                );
            }
        }
    }
    drop(root);
    judgement.absorb(&findings);
    Translation {
        diagnostics: judgement.diagnostics(),
        status: Some(judgement.conditions("TLSCertificateDelegation", object.generation)),
        reads: reader.into_read(),
        ..Translation::default()
    }
}
