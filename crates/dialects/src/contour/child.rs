//! An HTTPProxy without a virtual host: its status is what the roots found that include it.

use std::collections::BTreeSet;

use super::include_key;
use super::root;
use super::spec::Spec;
use super::status::{Judgement, Problem, kind};
use super::walk::Walk;
use crate::fields::Findings;
use crate::foreign::{Object, Translation};
use crate::objects::Name;

/// Objects that are looked at on the way to roots, at most.
const MOST: usize = 256;

/// Leaves the object's judgement in the walk.
pub(super) fn judge(object: &Object, walk: &mut Walk<'_, '_>) {
    let mut found: Option<Judgement> = None;
    for root in roots(object, walk) {
        let Some(root) = walk.reader.foreign(object.kind, &root) else {
            continue;
        };
        let mut below = Walk::new(walk.reader);
        let findings = Findings::default();
        let spec = Spec::read(root, walk.reader, &findings);
        root::walk_root(
            root,
            &spec,
            &findings,
            &mut below,
            &mut Translation::default(),
        );
        if let Some(judgement) = below.judged.remove(&object.name) {
            found.get_or_insert_default().merge(judgement);
        }
    }
    let found = found.unwrap_or_else(|| {
        let what = object.kind.kind;
        let text = format!("this {what} is not part of a delegation chain from a root {what}");
        let mut judgement = Judgement::default();
        judgement.error(Problem::new(kind::ORPHANED, "Orphaned", "spec", text));
        judgement
    });
    walk.judged.insert(object.name.clone(), found);
}

/// The roots that may lead to the object, by name.
fn roots(object: &Object, walk: &Walk<'_, '_>) -> BTreeSet<Name> {
    let mut roots = BTreeSet::new();
    let mut seen = BTreeSet::from([object.name.clone()]);
    let mut left = vec![object.name.clone()];
    while let Some(name) = left.pop() {
        let key = include_key(&name.namespace, &name.name);
        for parent in walk.reader.foreign_by_key(object.kind, &key) {
            if !parent.spec()["virtualhost"].is_null() {
                roots.insert(parent.name.clone());
            } else if seen.len() < MOST && seen.insert(parent.name.clone()) {
                left.push(parent.name.clone());
            }
        }
        if roots.len() >= MOST {
            break;
        }
    }
    roots
}
