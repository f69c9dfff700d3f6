//! Kinds of other gateways: their objects as they were written, and what a dialect makes of them.
//!
//! A dialect is a table of kinds and one pure function from a root object to records. It reads the
//! object through [`Fields`](crate::fields::Fields), so that every field is translated or reported,
//! and everything else through [`Reader`](crate::Reader). Kinds that are no roots (a
//! DestinationRule, an Upstream) are found by keys that their table computes: a change of one costs
//! the roots that asked for one of its keys.

mod definition;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, LazyLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use routing::model::tls::{TlsHost, TlsId, UpstreamTls};
use routing::model::{
    BackendPolicy, Bind, BindId, Origin, Protocol, Route, RouteId, Stream, StreamId, Timeouts,
    Visibility,
};
use serde_json::Value;

use crate::backend::BackendRef;
use crate::classes;
use crate::diagnostic::Diagnostic;
use crate::objects::{Dependency, Name, Objects};
use crate::overlay;

pub use definition::{PRIORITY, REPLACEABLE, definitions};

/// A kind of a dialect.
pub struct Kind {
    /// For example `istio`.
    pub dialect: &'static str,
    pub group: &'static str,
    /// Served versions; objects are stored as the first.
    pub versions: &'static [&'static str],
    pub kind: &'static str,
    pub plural: &'static str,
    pub short: &'static [&'static str],
    pub is_cluster_scoped: bool,
    /// Whether objects of it have a status that the dialect writes.
    pub has_status: bool,
    pub role: Role,
    /// The keys under which translations find an object of this kind.
    pub keys: fn(&Object) -> Vec<Arc<str>>,
}

/// What a kind is for.
#[derive(Clone, Copy)]
pub enum Role {
    /// Translated by itself.
    Root(fn(&Object, &Objects) -> Translation),
    /// Read by the translations of roots; judged by itself for its status.
    Part(fn(&Object, &Objects) -> Translation),
}

/// No keys: found by name only.
pub fn no_keys(_: &Object) -> Vec<Arc<str>> {
    Vec::new()
}

impl Kind {
    /// A dialect's ConfigMap, to look it up among the objects: it is translated by nobody.
    pub(crate) const fn config_map(dialect: &'static str) -> Self {
        fn nothing(_: &Object, _: &Objects) -> Translation {
            Translation::default()
        }
        Self {
            dialect,
            group: "",
            versions: &["v1"],
            kind: "ConfigMap",
            plural: "configmaps",
            short: &[],
            is_cluster_scoped: false,
            has_status: false,
            role: Role::Part(nothing),
            keys: no_keys,
        }
    }

    /// `plural.group`, which names it everywhere.
    pub fn id(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind, self.group)
    }
}

/// Kinds are the same if their table entries are: `plural.group` names an entry.
impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        (self.group, self.plural) == (other.group, other.plural)
    }
}

impl Eq for Kind {}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kind {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.group, self.plural).cmp(&(other.group, other.plural))
    }
}

impl std::hash::Hash for Kind {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.group, self.plural).hash(state);
    }
}

/// A user's object of such a kind.
#[derive(Clone, Debug)]
pub struct Object {
    pub kind: &'static Kind,
    pub name: Name,
    /// The version it was written in, as far as that is known.
    pub version: Arc<str>,
    pub uid: Arc<str>,
    pub generation: i64,
    /// Microseconds since the epoch.
    pub created: i64,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Everything but `apiVersion`, `kind`, `metadata` and `status`: mostly `spec` alone.
    pub body: Value,
    /// As it was last seen.
    pub status: Value,
    /// The Knative Ingress that it was made for.
    pub maker: Option<Name>,
}

impl Object {
    /// From its JSON. `None` if it has no name.
    pub fn new(kind: &'static Kind, mut json: Value) -> Option<Self> {
        let map = json.as_object_mut()?;
        let meta: ObjectMeta = serde_json::from_value(map.remove("metadata")?).ok()?;
        meta.name.as_ref()?;
        let status = map.remove("status").unwrap_or_default();
        let api_version = map.remove("apiVersion").unwrap_or_default();
        map.remove("kind");
        let version = api_version.as_str().unwrap_or_default();
        let created = meta.creation_timestamp.as_ref();
        Some(Self {
            kind,
            maker: classes::maker_of(&meta),
            name: Name::of(&meta),
            version: version.rsplit('/').next().unwrap_or_default().into(),
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            generation: meta.generation.unwrap_or_default(),
            created: created.map_or(i64::MAX, |time| time.0.as_microsecond()),
            labels: meta.labels.unwrap_or_default(),
            annotations: meta.annotations.unwrap_or_default(),
            body: json,
            status,
        })
    }

    /// `spec`, or null.
    pub fn spec(&self) -> &Value {
        &self.body["spec"]
    }

    /// Where a record of it comes from: a field of it.
    pub fn origin(&self, field: &str) -> Origin {
        Origin {
            dialect: self.kind.dialect,
            kind: self.kind.kind.into(),
            namespace: Arc::clone(&self.name.namespace),
            name: Arc::clone(&self.name.name),
            uid: Arc::clone(&self.uid),
            generation: self.generation,
            field: field.into(),
        }
    }

    /// Whether a translation sees a difference.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.body == other.body
            && self.uid == other.uid
            && self.generation == other.generation
            && self.labels == other.labels
            && self.annotations == other.annotations
            && self.maker == other.maker
    }

    /// Its records and what is said about it. An object with the label
    /// `networking.knative.dev/visibility: cluster-local` is served on cluster-local listeners
    /// only, whatever its dialect is.
    pub fn translate(&self, objects: &Objects) -> Translation {
        let mut out = match self.kind.role {
            Role::Root(translate) | Role::Part(translate) => translate(self, objects),
        };
        if matches!(
            self.kind.dialect,
            "contour" | "emissary" | "gloo" | "apisix"
        ) {
            overlay::join(&mut out, objects);
        }
        if classes::visibility(&self.labels) == Some(Visibility::ClusterLocal) {
            let local = Visibility::ClusterLocal;
            for (_, route) in &mut out.routes {
                Arc::make_mut(route).visibility = local;
            }
            for (_, host) in &mut out.tls {
                Arc::make_mut(host).visibility = local;
            }
        }
        out
    }
}

/// The records of one root object; of a part, only its status and diagnostics.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    pub routes: Vec<(RouteId, Arc<Route>)>,
    /// Certificates by host.
    pub tls: Vec<(TlsId, Arc<TlsHost>)>,
    /// Sockets besides the gateway's shared listeners. Objects that need the same one write the
    /// same record.
    pub binds: Vec<(BindId, Arc<Bind>)>,
    /// Where what comes to a bind goes as it is.
    pub streams: Vec<(StreamId, Arc<Stream>)>,
    /// What the routes send to, and how it differs from a plain Service's port. An empty one
    /// changes nothing; any other needs a reference with a variant, or it holds for everybody.
    pub backends: BTreeMap<BackendRef, Arc<BackendSpec>>,
    /// Sorted.
    pub diagnostics: Vec<Diagnostic>,
    /// The whole status to write once the records are served; `None` leaves what is there.
    /// A condition without `lastTransitionTime` gets it from the writer.
    pub status: Option<Value>,
    /// What must be watched: a change may change this translation.
    pub reads: BTreeSet<Dependency>,
}

/// How a backend differs from what the Service itself says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackendSpec {
    pub policy: Option<Arc<BackendPolicy>>,
    /// Only pods with all of these labels.
    pub labels: BTreeMap<String, String>,
    pub tls: Option<Arc<UpstreamTls>>,
    pub protocol: Option<Protocol>,
    pub timeouts: Option<Timeouts>,
    /// Hosts instead of a Service's endpoints. The reference's Service names nothing then.
    pub hosts: Vec<ExternalHost>,
}

/// A host outside of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ExternalHost {
    /// An address, or a name that is looked up again and again.
    pub host: Arc<str>,
    pub port: u16,
    pub weight: u32,
    /// `region/zone/subzone`.
    pub locality: Option<Arc<str>>,
}

/// Every kind of every dialect.
pub fn kinds() -> &'static [&'static Kind] {
    static ALL: LazyLock<Vec<&'static Kind>> = LazyLock::new(|| {
        [
            crate::istio::KINDS,
            crate::asm::KINDS,
            crate::contour::KINDS,
            crate::emissary::KINDS.as_slice(),
            crate::gloo::KINDS,
            crate::apisix::KINDS.as_slice(),
            crate::traffic_policy::KINDS,
        ]
        .concat()
    });
    &ALL
}
