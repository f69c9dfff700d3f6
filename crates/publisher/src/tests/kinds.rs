//! Two kinds of a gateway that does not exist, translated in a few lines: a `Thing` sends a host
//! to a Service, and a `Policy` is about all Things of a Service.

use std::collections::BTreeMap;
use std::sync::Arc;

use dialects::backend::BackendRef;
use dialects::foreign::{BackendSpec, ExternalHost, Kind, Object, Role, Translation, no_keys};
use dialects::{Diagnostic, Effect, Name, Objects, Reader};
use routing::Visibility;
use routing::model::{
    Action, Filters, HeaderOps, HostPattern, Origin, Route, RouteId, SortKey, Split, Timeouts,
};
use serde_json::{Value, json};

const fn kind(kind: &'static str, plural: &'static str, role: Role) -> Kind {
    Kind {
        dialect: "test",
        group: "things.example.dev",
        versions: &["v2", "v1"],
        kind,
        plural,
        short: &[],
        is_cluster_scoped: false,
        has_status: true,
        role,
        keys: no_keys,
    }
}

pub(crate) static THING: Kind = kind("Thing", "things", Role::Root(thing));
pub(crate) static POLICY: Kind = Kind {
    keys: service_of,
    ..kind("Policy", "policies", Role::Part(policy))
};
/// Has no status to say anything in.
pub(crate) static MUTE: Kind = Kind {
    has_status: false,
    ..kind("Mute", "mutes", Role::Root(thing))
};

pub(crate) static KINDS: &[&Kind] = &[&THING, &POLICY, &MUTE];

fn text<'o>(object: &'o Object, field: &str) -> &'o str {
    object.spec()[field].as_str().unwrap_or_default()
}

fn service_of(object: &Object) -> Vec<Arc<str>> {
    vec![format!("{}/{}", object.name.namespace, text(object, "service")).into()]
}

/// The Policy that is about a Thing's Service, as what it wants of the backend.
fn spec_of(reader: &Reader<'_>, object: &Object) -> BackendSpec {
    let key = format!("{}/{}", object.name.namespace, text(object, "service"));
    let mut policies = reader.foreign_by_key(&POLICY, &key);
    let mut spec = BackendSpec::default();
    if let Some(policy) = policies.next() {
        let seconds = policy.spec()["seconds"].as_u64().unwrap_or_default();
        spec.timeouts = Some(Timeouts {
            request: Some(std::time::Duration::from_secs(seconds)),
            ..Timeouts::default()
        });
    }
    if !text(object, "outside").is_empty() {
        spec.hosts.push(ExternalHost {
            host: text(object, "outside").into(),
            port: 8080,
            weight: 1,
            locality: None,
        });
    }
    spec
}

fn thing(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    let spec = spec_of(&reader, object);
    let has_spec = spec != BackendSpec::default();
    let reference = BackendRef {
        service: Name::new(&object.name.namespace, text(object, "service")),
        port: 80,
        http2: false,
        stream: None,
        variant: has_spec.then(|| format!("test/{}", object.name).into()),
    };
    let mut out = Translation::default();
    let bind = object.spec()["port"].as_u64();
    let bind = bind.map(|port| {
        let port = u16::try_from(port).expect("a port");
        Arc::new(reader.gateway_ports().bind(port, false))
    });
    let failure = bind.as_ref().and_then(|bind| reader.bind_failure(&bind.id));
    let mut phase = if failure.is_some() {
        "Unbound"
    } else {
        "Accepted"
    };
    let secret = Name::new(&object.name.namespace, text(object, "secret"));
    if !secret.name.is_empty() && reader.secret(&secret).is_none() {
        phase = "SecretMissing";
    }
    let route = route(
        object,
        bind.as_ref().map(|bind| bind.id.clone()),
        &reference,
    );
    out.routes = vec![(RouteId(format!("test/{}", object.name).into()), route)];
    if object.spec().get("raw").is_some() {
        out.routes.clear();
    }
    out.backends = BTreeMap::from([(reference, Arc::new(spec))]);
    out.binds = bind.into_iter().map(|it| (it.id.clone(), it)).collect();
    if object.spec().get("odd").is_some() {
        out.diagnostics.push(odd());
    }
    let condition = json!({"type": "Ready", "status": "True"});
    out.status = Some(json!({"phase": phase, "conditions": [condition]}));
    out.reads = reader.into_read();
    out
}

fn odd() -> Diagnostic {
    Diagnostic {
        effect: Effect::Refused,
        field: "spec.odd".to_owned(),
        reason: "FieldNotSupported",
        message: "spec.odd is not supported".to_owned(),
    }
}

fn route(object: &Object, bind: Option<routing::BindId>, reference: &BackendRef) -> Arc<Route> {
    Arc::new(Route {
        origin: Origin {
            dialect: "test",
            kind: object.kind.kind.into(),
            namespace: Arc::clone(&object.name.namespace),
            name: Arc::clone(&object.name.name),
            uid: Arc::clone(&object.uid),
            generation: object.generation,
            field: "spec.host".into(),
        },
        bind,
        visibility: Visibility::External,
        hosts: vec![HostPattern::Exact(text(object, "host").into())],
        sort_key: SortKey::default(),
        matches: Vec::new(),
        request_headers: HeaderOps::default(),
        rewrite_host: None,
        filters: Filters::default(),
        action: Action::Forward(Split::one(reference.id())),
    })
}

fn policy(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    Translation {
        status: Some(json!({"seconds": object.spec()["seconds"]})),
        reads: reader.into_read(),
        ..Translation::default()
    }
}

/// An object of one of these kinds as the API has it.
pub(crate) fn object(kind: &'static Kind, name: &str, generation: i64, spec: Value) -> Arc<Object> {
    let object = json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid of {name}"),
            "generation": generation,
        },
        "spec": spec,
    });
    Arc::new(Object::new(kind, object).expect("it has a name"))
}
