//! The ServiceAccount `default` of every namespace, which pods name when they name none.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use lifecycle::Tasks;
use reconcile::{Action, Change, Cluster, Error, Informer, Key, Queue, write};

const NAME: &str = "default";

struct Context {
    cluster: Cluster,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
}

pub(crate) fn start(cluster: &Cluster, tasks: &Tasks) {
    let namespaces = cluster.informer::<Namespace>(tasks);
    let accounts = cluster.informer::<ServiceAccount>(tasks);
    let queue = Queue::new();
    namespaces.enqueue_self(&queue);
    let deleted = queue.clone();
    accounts.on_change(move |change| {
        if let Change::Deleted(account) = change {
            deleted.add(Key::new("", account.namespace().unwrap_or_default()));
        }
    });
    let synced = vec![namespaces.synced(), accounts.synced()];
    let context = Arc::new(Context {
        cluster: cluster.clone(),
        namespaces,
        accounts,
    });
    reconcile::run("serviceaccount", queue, 2, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let namespace = ctx.namespaces.get(&key);
    let alive = namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none());
    if alive && ctx.accounts.get(&Key::new(&key.name, NAME)).is_none() {
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(key.name),
            ..ObjectMeta::default()
        };
        let account = ServiceAccount {
            metadata,
            ..ServiceAccount::default()
        };
        write::create_if_absent(ctx.cluster.client(), &account).await?;
    }
    Ok(Action::Await)
}
