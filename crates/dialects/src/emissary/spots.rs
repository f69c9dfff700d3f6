//! Where a Mapping is served: hosts and doors, and what happens to insecure requests there.
//!
//! The gateway looks a host up once, in the table of the most specific pattern, while Emissary
//! searches all Mappings of the most specific Host in the order of their precedence. So a Mapping
//! is entered at its own host pattern and at every narrower one that a Host or another Mapping
//! names.

use std::collections::{BTreeMap, BTreeSet};

use routing::model::{HostPattern, Predicate};

use super::door::{self, Door};
use super::glob::Glob;
use super::host::{self, Host, Insecure};
use super::{MAPPING, matching};
use crate::objects::Reader;
use crate::shared::selector;

/// Patterns that one route serves alike.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) door: Door,
    pub(super) hosts: BTreeSet<HostPattern>,
    /// What the patterns cannot say of the host.
    pub(super) condition: Option<Predicate>,
    pub(super) insecure: Insecure,
}

/// What a spot is for, besides its hosts.
type Key = (Insecure, Option<Glob>);

/// Of a Mapping with these hosts and labels. Empty if no Host takes it.
pub(super) fn of(
    reader: &Reader<'_>,
    own: &Glob,
    labels: &BTreeMap<String, String>,
    hops: bool,
) -> Vec<Spot> {
    let hosts = match own {
        Glob::Exact(name) => host::around(reader, name),
        _ => host::all(reader),
    };
    let mut globs = BTreeSet::from([own.clone()]);
    if !matches!(own, Glob::Exact(_)) {
        globs.extend(hosts.iter().map(|host| host.glob.clone()));
        let named = reader.foreign_keys(&MAPPING, matching::HOSTS);
        globs.extend(named.filter_map(Glob::of_key));
    }
    let mut spots = Vec::new();
    for door in door::doors(reader, hops) {
        let open: Vec<_> = hosts.iter().filter(|host| door.takes(host)).collect();
        let mut found: BTreeMap<Key, BTreeSet<HostPattern>> = BTreeMap::new();
        for glob in &globs {
            if let Some((key, pattern)) = place(glob, own, &open, labels) {
                found.entry(key).or_default().insert(pattern);
            }
        }
        spots.extend(
            found
                .into_iter()
                .map(|((insecure, condition), hosts)| Spot {
                    door: door.clone(),
                    hosts,
                    condition: condition.and_then(|glob| glob.predicate()),
                    insecure,
                }),
        );
    }
    spots
}

/// Whether a Mapping is entered at `at`, and how.
fn place(
    at: &Glob,
    own: &Glob,
    hosts: &[&Host],
    labels: &BTreeMap<String, String>,
) -> Option<(Key, HostPattern)> {
    let around = hosts.iter().filter(|host| host.glob.contains(at));
    let host = around.max_by_key(|host| host.glob.rank())?;
    let chosen = host.selector.as_ref();
    if !chosen.is_none_or(|it| selector::selects(it, labels)) {
        return None;
    }
    match at.pattern() {
        // Its own condition, at hosts that have no table of their own.
        None if at == own => Some(((host.insecure, Some(own.clone())), HostPattern::Any)),
        // A Host with such a name: its hosts have no table of their own either.
        None if own.contains(at) && host.glob == *at => {
            Some(((host.insecure, Some(at.clone())), HostPattern::Any))
        }
        None => None,
        Some(pattern) if own.contains(at) => Some(((host.insecure, None), pattern)),
        Some(pattern) if own.pattern().is_none() && own.overlaps(at) => {
            Some(((host.insecure, Some(own.clone())), pattern))
        }
        Some(_) => None,
    }
}
