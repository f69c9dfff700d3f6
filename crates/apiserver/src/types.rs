//! The type table: every kind the server serves, built in or brought by a CRD, in one shape.
//!
//! Handlers ask the table and never a kind's name. A table is immutable; a CRD makes a new one that
//! shares all other entries, so a request works on one table from beginning to end.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::jsonpath::JsonPath;
use crate::rules::Rules;
use crate::schema::Schema;
use crate::table::Printer;
use crate::validate::meta::NameRule;

mod autoscaler;
mod builtin;
pub mod crd;
#[cfg(test)]
pub(crate) mod tests;

/// When a write is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before it is acknowledged: what users wrote.
    #[default]
    Durable,
    /// Soon after: what controllers derive again.
    Lazy,
}

/// Where `scale` finds its numbers, as JSON pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Wanted replicas.
    pub spec_replicas: String,
    /// Observed replicas.
    pub status_replicas: String,
    /// Label selector: text, or a selector object; `None` if the kind has none.
    pub selector: Option<String>,
}

/// What can be addressed below an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subresources {
    /// `status` is written apart.
    pub status: bool,
    /// `scale` is served.
    pub scale: Option<Scale>,
    /// Others, with the verbs that discovery shows.
    pub others: Vec<(&'static str, &'static [&'static str])>,
}

/// How `kubectl get` shows objects.
#[derive(Clone, Debug)]
pub enum Columns {
    /// Name and age only.
    Plain,
    /// Kubernetes' own columns.
    Builtin(&'static Printer),
    /// Columns of a CRD.
    Custom(Vec<CustomColumn>),
}

/// One column of a CRD.
#[derive(Clone, Debug)]
pub struct CustomColumn {
    /// Heading.
    pub name: String,
    /// OpenAPI type; `date` shows as an age.
    pub kind: String,
    /// OpenAPI format.
    pub format: String,
    /// What the column says.
    pub description: String,
    /// Above zero: only in wide tables.
    pub priority: i64,
    /// Where the value is.
    pub path: JsonPath,
}

/// Where the OpenAPI description of a type comes from.
#[derive(Clone, Debug)]
pub enum Description {
    /// A definition of the schema pack, by its full name.
    Definition(&'static str),
    /// The `openAPIV3Schema` of a CRD version, by its digest. The text stays in the stored CRD: it is
    /// large, and only OpenAPI reads it.
    Custom(u64),
}

/// One kind in one version.
#[derive(Clone, Debug)]
pub struct ResourceType {
    /// API group; empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Kind of lists.
    pub list_kind: String,
    /// Name in paths.
    pub plural: String,
    /// Name of one.
    pub singular: String,
    /// Abbreviations.
    pub short_names: Vec<String>,
    /// Groups of kinds, such as `all`.
    pub categories: Vec<String>,
    /// Lives in a namespace.
    pub namespaced: bool,
    /// What is below an object.
    pub subresources: Subresources,
    /// Structure; `None` allows everything.
    pub schema: Option<Arc<Schema>>,
    /// Rules in CEL, which CRDs bring.
    pub rules: Option<Arc<Rules>>,
    /// Where OpenAPI comes from.
    pub description: Description,
    /// Table columns.
    pub columns: Columns,
    /// When writes are on disk.
    pub durability: Durability,
    /// Field paths that field selectors may use, beside name and namespace.
    pub selectable: Vec<String>,
    /// Verbs on the resource.
    pub verbs: &'static [&'static str],
    /// How objects may be named.
    pub name_rule: NameRule,
    /// Group, plural and version under which objects are stored.
    pub storage: Storage,
    /// Brought by a CRD: updates need a resourceVersion, strategic merge is not served.
    pub custom: bool,
    /// Place of its group among those with kinds of the same name: higher first.
    pub priority: i64,
    /// Sent as a warning with every answer.
    pub warning: Option<String>,
}

/// Where objects of a type are stored; versions of one kind share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// API group.
    pub group: String,
    /// Name in paths.
    pub plural: String,
    /// Version that stored objects have.
    pub version: String,
    /// Top-level fields with another name in this version: (here, stored).
    pub renamed: &'static [(&'static str, &'static str)],
    /// This version is `autoscaling/v1`, which says the same in another structure.
    pub older_autoscaler: bool,
}

/// Verbs of a resource that is measured when it is read, and never stored.
pub const MEASURED: &[&str] = &["get", "list"];

/// Verbs of a full resource.
pub const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// Verbs of a resource that is asked and never stored.
pub const ASK: &[&str] = &["create"];

impl ResourceType {
    /// Whether objects of this type are questions, which are answered and never stored.
    pub fn is_question(&self) -> bool {
        self.verbs == ASK
    }

    /// Whether objects of this type are measured when they are read, and never stored.
    pub fn is_measured(&self) -> bool {
        self.verbs == MEASURED
    }

    /// `group/version`, or just the version for core.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// The built-in definition, if it is one.
    pub fn definition(&self) -> Option<&'static str> {
        match self.description {
            Description::Definition(name) => Some(name),
            Description::Custom(_) => None,
        }
    }

    /// Turns an object of this version into the stored one.
    pub fn to_storage(&self, object: &mut Value) {
        self.convert(object, &self.storage.version, &self.storage.group, true);
    }

    /// Turns a stored object into one of this version.
    pub fn from_storage(&self, object: &mut Value) {
        self.convert(object, &self.version, &self.group, false);
    }

    fn convert(&self, object: &mut Value, version: &str, group: &str, store: bool) {
        let Some(map) = object.as_object_mut() else {
            return;
        };
        for (here, stored) in self.storage.renamed {
            let (from, to) = if store {
                (here, stored)
            } else {
                (stored, here)
            };
            if let Some(value) = map.remove(*from) {
                map.insert((*to).to_owned(), value);
            }
        }
        match (self.storage.older_autoscaler, store) {
            (true, true) => autoscaler::to_v2(map),
            (true, false) => autoscaler::to_v1(map),
            (false, _) => {}
        }
        let wanted = api_version(group, version);
        if map.get("apiVersion").and_then(Value::as_str) != Some(&wanted) {
            map.insert("apiVersion".into(), wanted.into());
        }
    }
}

/// `group/version`, or just the version for core.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// Splits an `apiVersion` into group and version.
pub fn split_api_version(text: &str) -> (&str, &str) {
    text.split_once('/').unwrap_or(("", text))
}

type Plurals = BTreeMap<String, Arc<ResourceType>>;
type Versions = BTreeMap<String, Plurals>;

/// All types, by group, version and plural.
#[derive(Clone, Debug, Default)]
pub struct TypeTable {
    groups: BTreeMap<String, Versions>,
}

impl TypeTable {
    /// The built-in kinds.
    pub fn builtin() -> Self {
        let mut table = Self::default();
        for entry in builtin::all() {
            table.insert(entry);
        }
        table
    }

    /// The type behind a path.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<ResourceType>> {
        self.groups.get(group)?.get(version)?.get(plural)
    }

    /// The type of a kind.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<ResourceType>> {
        self.groups
            .get(group)?
            .get(version)?
            .values()
            .find(|entry| entry.kind == kind)
    }

    /// The type of an object, by its `apiVersion` and `kind`.
    pub fn of(&self, object: &Value) -> Option<&Arc<ResourceType>> {
        let (group, version) = split_api_version(object.get("apiVersion")?.as_str()?);
        self.by_kind(group, version, object.get("kind")?.as_str()?)
    }

    /// The type that stores objects of `group` and `plural`: the one whose version is stored.
    pub fn stored(&self, group: &str, plural: &str) -> Option<&Arc<ResourceType>> {
        let entries = self
            .groups
            .get(group)?
            .values()
            .filter_map(|plurals| plurals.get(plural));
        let own = |entry: &&Arc<ResourceType>| {
            entry.storage.group == entry.group && entry.storage.version == entry.version
        };
        entries.clone().find(own).or_else(|| entries.clone().next())
    }

    /// All types in order of group, version and plural.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ResourceType>> {
        self.groups
            .values()
            .flat_map(BTreeMap::values)
            .flat_map(BTreeMap::values)
    }

    /// Groups, those of Kubernetes first: clients take the first group that has a name that they
    /// were given, so `kubectl get ingresses` must not mean someone's CRD. Then by priority and
    /// name. Core is the empty group.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        let own = self
            .groups
            .iter()
            .filter(|(_, versions)| !is_custom(versions));
        let mut custom: Vec<_> = self
            .groups
            .iter()
            .filter(|(_, versions)| is_custom(versions))
            .collect();
        custom.sort_by_key(|(_, versions)| std::cmp::Reverse(priority(versions)));
        own.chain(custom).map(|(group, _)| group.as_str())
    }

    /// Versions of a group, the preferred one first.
    pub fn versions(&self, group: &str) -> Vec<&str> {
        let mut versions: Vec<_> = self
            .groups
            .get(group)
            .into_iter()
            .flat_map(BTreeMap::keys)
            .map(String::as_str)
            .collect();
        versions.sort_by_key(|version| std::cmp::Reverse(rank(version)));
        versions
    }

    /// Types of a group and version in order of plural.
    pub fn resources(
        &self,
        group: &str,
        version: &str,
    ) -> impl Iterator<Item = &Arc<ResourceType>> {
        self.groups
            .get(group)
            .and_then(|versions| versions.get(version))
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    fn insert(&mut self, entry: ResourceType) {
        let versions = self.groups.entry(entry.group.clone()).or_default();
        let plurals = versions.entry(entry.version.clone()).or_default();
        plurals.insert(entry.plural.clone(), Arc::new(entry));
    }

    fn remove(&mut self, group: &str, plural: &str) {
        if let Some(versions) = self.groups.get_mut(group) {
            for plurals in versions.values_mut() {
                if plurals.get(plural).is_some_and(|entry| entry.custom) {
                    plurals.remove(plural);
                }
            }
            versions.retain(|_, plurals| !plurals.is_empty());
        }
        self.groups.retain(|_, versions| !versions.is_empty());
    }
}

/// Whether a group has nothing but CRDs.
fn is_custom(versions: &Versions) -> bool {
    versions
        .values()
        .flat_map(BTreeMap::values)
        .all(|entry| entry.custom)
}

/// The highest of a group's kinds.
fn priority(versions: &Versions) -> i64 {
    let entries = versions.values().flat_map(BTreeMap::values);
    entries.map(|entry| entry.priority).max().unwrap_or(0)
}

/// Order of versions: `v2 > v1 > v1beta2 > v1beta1 > v1alpha1 > anything else`.
fn rank(version: &str) -> (u8, u32, u32) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let end = rest
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(rest.len());
        let major: u32 = rest[..end].parse().ok()?;
        let stage = &rest[end..];
        if stage.is_empty() {
            return Some((3, major, 0));
        }
        let (rank, minor) = match stage.strip_prefix("beta") {
            Some(minor) => (2, minor),
            None => (1, stage.strip_prefix("alpha")?),
        };
        Some((rank, major, minor.parse().ok()?))
    };
    parse().unwrap_or_default()
}
