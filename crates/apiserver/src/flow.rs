//! `flowcontrol.apiserver.k8s.io`: the two flows and levels that every server has.
//!
//! They say what this server does: its own controllers are never turned away, everybody else is
//! told to come back once there are too many requests ([`crate::inflight`]). Others can be stored,
//! for tools that expect to, and have no effect; each answer says so.

use serde_json::{Value, json};

use crate::auth::MASTERS;
use crate::crud::{self, Api, Call};
use crate::status::Status;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// Makes what is missing.
pub(crate) async fn create_initial(api: &Api) -> Result<(), Status> {
    let everybody = ["system:unauthenticated", "system:authenticated"];
    let exempt = json!({
        "type": "Exempt",
        "exempt": { "nominalConcurrencyShares": 0, "lendablePercent": 0 },
    });
    let catch_all = json!({
        "type": "Limited",
        "limited": {
            "nominalConcurrencyShares": 5,
            "lendablePercent": 0,
            "limitResponse": { "type": "Reject" },
        },
    });
    for (name, spec) in [("exempt", exempt), ("catch-all", catch_all)] {
        put(api, "prioritylevelconfigurations", name, spec).await?;
    }
    put(api, "flowschemas", "exempt", flow("exempt", 1, &[MASTERS])).await?;
    let mut rest = flow("catch-all", 10_000, &everybody);
    rest["distinguisherMethod"] = json!({ "type": "ByUser" });
    put(api, "flowschemas", "catch-all", rest).await
}

/// All requests of the groups.
fn flow(level: &str, precedence: u32, groups: &[&str]) -> Value {
    let subjects: Vec<_> = groups
        .iter()
        .map(|group| json!({ "kind": "Group", "group": { "name": group } }))
        .collect();
    json!({
        "priorityLevelConfiguration": { "name": level },
        "matchingPrecedence": precedence,
        "rules": [{
            "subjects": subjects,
            "resourceRules": [{
                "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                "namespaces": ["*"], "clusterScope": true,
            }],
            "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
        }],
    })
}

async fn put(api: &Api, plural: &str, name: &str, spec: Value) -> Result<(), Status> {
    let types = api.types();
    let Some(kind) = types.get(GROUP, "v1", plural) else {
        return Err(Status::internal(format!("the type table has no {plural}")));
    };
    if api.get(&Call::internal(kind, "", name)).is_ok() {
        return Ok(());
    }
    let object = json!({
        "metadata": { "name": name, "annotations": { "apf.kubernetes.io/autoupdate-spec": "true" } },
        "spec": spec,
    });
    let body = crud::Body {
        media_type: "application/json".into(),
        bytes: object.to_string().into(),
    };
    let created = api.create(&Call::internal(kind, "", ""), &body).await;
    created.map(|_| ())
}
