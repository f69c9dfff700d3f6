//! Certificate → Secret and status. Wiring only.

use std::sync::Arc;

use api::networking::v1alpha1::Certificate;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::PostParams;
use lifecycle::Tasks;
use reconcile::{Action, Cluster, Error, Informer, Key, MANAGER, Queue, run, write};

use crate::Authority;
use crate::plan::{is_ours, plan};

const WORKERS: usize = 2;

struct Context {
    client: kube::Client,
    certificates: Informer<Certificate>,
    secrets: Informer<Secret>,
    authority: Arc<Authority>,
}

/// Starts the controller: every Certificate of our class gets its Secret and becomes Ready.
pub fn start(cluster: &Cluster, authority: Arc<Authority>, tasks: &Tasks) {
    let ctx = Arc::new(Context {
        client: cluster.client().clone(),
        certificates: cluster.informer(tasks),
        secrets: cluster.informer(tasks),
        authority,
    });
    let queue = Queue::new();
    ctx.certificates.enqueue_self(&queue);
    ctx.secrets.enqueue_owner::<Certificate>(&queue);
    // One in the way may have gone.
    let (context, waiting) = (Arc::clone(&ctx), queue.clone());
    ctx.secrets.on_change(move |change| {
        let secret = change.object();
        if reconcile::controller_of::<Certificate>(secret.as_ref()).is_some() {
            return;
        }
        let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
        let wants = |it: &Certificate| it.spec.secret_name == name;
        for certificate in context.certificates.in_namespace(&namespace, wants) {
            waiting.add(Key::of(certificate.as_ref()));
        }
    });
    let synced = vec![ctx.certificates.synced(), ctx.secrets.synced()];
    run("certificate", queue, WORKERS, synced, tasks, move |key| {
        reconcile_one(key, Arc::clone(&ctx))
    });
}

async fn reconcile_one(key: Key, ctx: Arc<Context>) -> Result<Action, Error> {
    let Some(certificate) = ctx.certificates.get(&key) else {
        return Ok(Action::Await);
    };
    if certificate.metadata.deletion_timestamp.is_some() || !is_ours(&certificate) {
        return Ok(Action::Await);
    }
    let place = Key::new(key.namespace.clone(), &certificate.spec.secret_name);
    let secret = ctx.secrets.get(&place);
    let now = reconcile::now();
    let plan = plan(&certificate, secret.as_deref(), &ctx.authority, &now).map_err(|error| {
        let what = format!("a certificate ({error})");
        Error::Missing {
            key: key.clone(),
            what,
        }
    })?;
    if let Some(wanted) = &plan.secret {
        apply(&ctx.client, &ctx.secrets, wanted, secret.is_some()).await?;
    }
    let stored = certificate.status.as_ref();
    let written =
        write::replaced_status(&ctx.client, certificate.as_ref(), stored, &plan.status).await?;
    written
        .into_iter()
        .for_each(|written| ctx.certificates.learn(written));
    Ok(plan.again.map_or(Action::Await, Action::After))
}

/// A Secret that appeared meanwhile is no error: the next look judges it, and until then nothing
/// was promised.
pub(crate) async fn apply(
    client: &kube::Client,
    secrets: &Informer<Secret>,
    secret: &Secret,
    exists: bool,
) -> Result<(), Error> {
    if !exists {
        return match write::create_if_absent(client, secret).await? {
            Some(created) => {
                secrets.learn(created);
                Ok(())
            }
            None => Err(Error::Missing {
                key: Key::of(secret),
                what: "the Secret's newest version".to_owned(),
            }),
        };
    }
    let namespace = secret.namespace().unwrap_or_default();
    let params = PostParams {
        dry_run: false,
        field_manager: Some(MANAGER.to_owned()),
    };
    let api = write::api::<Secret>(client, &namespace);
    secrets.learn(api.replace(&secret.name_any(), &params, secret).await?);
    Ok(())
}
