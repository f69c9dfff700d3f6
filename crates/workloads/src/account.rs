//! What every namespace has: the ServiceAccount `default`, which pods name when they name none,
//! and the ConfigMap `kube-root-ca.crt`, with which they trust the API.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use lifecycle::Tasks;
use reconcile::{Action, Change, Cluster, Error, Informer, Key, Queue, write};
use serde_json::json;

const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
const CA_FILE: &str = "ca.crt";

struct Context {
    cluster: Cluster,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
    maps: Informer<ConfigMap>,
    /// In PEM; none where the API has no door that needs it.
    root_ca: Option<String>,
}

pub(crate) fn start(cluster: &Cluster, root_ca: Option<String>, tasks: &Tasks) {
    let namespaces = cluster.informer::<Namespace>(tasks);
    let accounts = cluster.informer::<ServiceAccount>(tasks);
    let maps = cluster.informer::<ConfigMap>(tasks);
    let queue = Queue::new();
    namespaces.enqueue_self(&queue);
    let deleted = queue.clone();
    accounts.on_change(move |change| {
        if let Change::Deleted(account) = change {
            deleted.add(Key::new("", account.namespace().unwrap_or_default()));
        }
    });
    let changed = queue.clone();
    maps.on_change(move |change| {
        let map = change.object();
        if map.name_any() == ROOT_CA {
            changed.add(Key::new("", map.namespace().unwrap_or_default()));
        }
    });
    let synced = vec![namespaces.synced(), accounts.synced(), maps.synced()];
    let context = Arc::new(Context {
        cluster: cluster.clone(),
        namespaces,
        accounts,
        maps,
        root_ca,
    });
    reconcile::run("serviceaccount", queue, 2, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let namespace = ctx.namespaces.get(&key);
    let alive = namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none());
    if !alive {
        return Ok(Action::Await);
    }
    if ctx.accounts.get(&Key::new(&key.name, ACCOUNT)).is_none() {
        let account = ServiceAccount {
            metadata: metadata(&key.name, ACCOUNT),
            ..ServiceAccount::default()
        };
        write::create_if_absent(ctx.cluster.client(), &account).await?;
    }
    publish_root_ca(&ctx, &key.name).await?;
    Ok(Action::Await)
}

/// Written anew whenever someone changes or deletes it.
async fn publish_root_ca(ctx: &Context, namespace: &str) -> Result<(), Error> {
    let Some(root_ca) = &ctx.root_ca else {
        return Ok(());
    };
    let key = Key::new(namespace, ROOT_CA);
    let data: BTreeMap<String, String> = [(CA_FILE.to_owned(), root_ca.clone())].into();
    let client = ctx.cluster.client();
    match ctx.maps.get(&key) {
        None => {
            let map = ConfigMap {
                metadata: metadata(namespace, ROOT_CA),
                data: Some(data),
                ..ConfigMap::default()
            };
            write::create_if_absent(client, &map).await?;
        }
        Some(map) if map.data.as_ref() != Some(&data) => {
            let mut patch = json!({"data": data});
            for other in map.data.iter().flatten().map(|(name, _)| name) {
                if other != CA_FILE {
                    patch["data"][other] = serde_json::Value::Null;
                }
            }
            write::merge::<ConfigMap>(client, &key, &patch).await?;
        }
        Some(_) => {}
    }
    Ok(())
}

fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    }
}
