//! Certificate of ACME's class → order → Secret and status.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::condition::{Conditions, READY};
use api::networking::v1alpha1::Certificate;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lifecycle::Tasks;
use reconcile::{Action, Cluster, Error, Informer, Key, Queue, run, write};
use tokio::time::Instant;

use super::plan::{Step, filled, pause, step, until_renewal};
use super::{Acme, Answers, OrderError, Settings};
use crate::controller::apply;
use crate::plan::{Held, held, is_acme};

/// Orders at once.
const WORKERS: usize = 2;
/// One order, from the first request to the certificate.
const PATIENCE: Duration = Duration::from_secs(240);

struct Context {
    client: kube::Client,
    certificates: Informer<Certificate>,
    secrets: Informer<Secret>,
    /// `None` if the settings name no authority.
    acme: Option<Acme>,
    failed: Mutex<HashMap<Key, Failed>>,
}

/// An order that came to nothing.
#[derive(Clone, Debug)]
struct Failed {
    names: BTreeSet<String>,
    why: String,
    times: u32,
    /// When it may be tried again.
    next: Instant,
}

/// Starts the controller: every Certificate of the classes of ACME gets its Secret and becomes
/// Ready, or says why not.
pub fn start(
    cluster: &Cluster,
    settings: Option<Settings>,
    answers: Arc<dyn Answers>,
    tasks: &Tasks,
) {
    let ctx = Arc::new(Context {
        client: cluster.client().clone(),
        certificates: cluster.informer(tasks),
        secrets: cluster.informer(tasks),
        acme: settings.map(|settings| Acme::new(settings, answers)),
        failed: Mutex::default(),
    });
    let queue = Queue::new();
    ctx.certificates.enqueue_self(&queue);
    ctx.secrets.enqueue_owner::<Certificate>(&queue);
    let synced = vec![ctx.certificates.synced(), ctx.secrets.synced()];
    run(
        "acme certificate",
        queue,
        WORKERS,
        synced,
        tasks,
        move |key| reconcile_one(key, Arc::clone(&ctx)),
    );
}

/// What the status is to say.
enum Outcome {
    Ready(Held),
    Unknown(&'static str, String),
    False(&'static str, String),
}

async fn reconcile_one(key: Key, ctx: Arc<Context>) -> Result<Action, Error> {
    let known = ctx.certificates.get(&key);
    let certificate = known.filter(|it| it.metadata.deletion_timestamp.is_none() && is_acme(it));
    let Some(certificate) = certificate else {
        ctx.forget(&key);
        return Ok(Action::Await);
    };
    let Some(acme) = &ctx.acme else {
        let why = "this gateway asks no authority: write acme.accept-terms: true into its settings \
                   file, or use another certificate class";
        let told = Outcome::False("ACMENotConfigured", why.to_owned());
        ctx.tell(&certificate, told).await?;
        return Ok(Action::Await);
    };
    let place = Key::new(key.namespace.clone(), &certificate.spec.secret_name);
    let secret = ctx.secrets.get(&place);
    let now = reconcile::now().0;
    match step(&certificate, secret.as_deref(), acme.directory(), now) {
        Step::Refused(reason, why) => {
            ctx.tell(&certificate, Outcome::False(reason, why)).await?;
            Ok(Action::Await)
        }
        Step::Held(held) => {
            ctx.forget(&key);
            let again = until_renewal(&held, now);
            ctx.tell(&certificate, Outcome::Ready(held)).await?;
            Ok(Action::After(again))
        }
        Step::Order(names, held) => {
            if let Some(failed) = ctx.waiting(&key, &names) {
                let left = failed.next.saturating_duration_since(Instant::now());
                ctx.tell(&certificate, told(&failed, held)).await?;
                return Ok(Action::After(left));
            }
            if held.is_none() {
                let why = format!("an order was placed at {}", acme.directory());
                let told = Outcome::Unknown("OrderPending", why);
                ctx.tell(&certificate, told).await?;
            }
            let ordered = tokio::time::timeout(PATIENCE, acme.order(&names)).await;
            let ordered = ordered.unwrap_or(Err(OrderError::Slow(PATIENCE)));
            ctx.finish(&key, acme, names, ordered, held).await
        }
    }
}

fn told(failed: &Failed, held: Option<Held>) -> Outcome {
    match held {
        // Renewal has time, and the log tells of it.
        Some(held) => Outcome::Ready(held),
        None => {
            let why = format!(
                "{} (tried {} times; the next try is in at most {:?})",
                failed.why,
                failed.times,
                pause(failed.times)
            );
            Outcome::False("OrderFailed", why)
        }
    }
}

impl Context {
    /// Writes what an order came to. The objects may have changed meanwhile.
    async fn finish(
        &self,
        key: &Key,
        acme: &Acme,
        names: BTreeSet<String>,
        ordered: Result<super::Signed, OrderError>,
        before: Option<Held>,
    ) -> Result<Action, Error> {
        let Some(certificate) = self.certificates.get(key) else {
            return Ok(Action::Await);
        };
        let signed = match ordered {
            Ok(signed) => signed,
            Err(error) => {
                tracing::warn!(certificate = %key, %error, "no certificate by ACME");
                let failed = self.fail(key, names, error.to_string());
                self.tell(&certificate, told(&failed, before)).await?;
                return Ok(Action::After(pause(failed.times)));
            }
        };
        self.forget(key);
        let place = Key::new(key.namespace.clone(), &certificate.spec.secret_name);
        let secret = self.secrets.get(&place);
        let written = filled(&certificate, secret.as_deref(), acme.directory(), signed);
        apply(&self.client, &self.secrets, &written, secret.is_some()).await?;
        let Some(held) = held(&written) else {
            let why = "what the authority signed is no certificate with names".to_owned();
            let failed = self.fail(key, names, why);
            self.tell(&certificate, told(&failed, before)).await?;
            return Ok(Action::After(pause(failed.times)));
        };
        let again = until_renewal(&held, reconcile::now().0);
        self.tell(&certificate, Outcome::Ready(held)).await?;
        Ok(Action::After(again))
    }

    async fn tell(&self, certificate: &Arc<Certificate>, outcome: Outcome) -> Result<(), Error> {
        let mut status = certificate.status.clone().unwrap_or_default();
        let stored = std::mem::take(&mut status.conditions);
        let mut conditions = Conditions::new(&stored, &[], reconcile::now());
        status.not_after = None;
        match outcome {
            Outcome::Ready(held) => {
                conditions.mark_true(READY);
                status.not_after = Some(Time(held.not_after));
            }
            Outcome::Unknown(reason, why) => conditions.mark_unknown(READY, reason, &why),
            Outcome::False(reason, why) => conditions.mark_false(READY, reason, &why),
        }
        status.conditions = conditions.into_vec();
        status.observed_generation = certificate.metadata.generation;
        status.http01_challenges.clear();
        let stored = certificate.status.as_ref();
        let written =
            write::replaced_status(&self.client, certificate.as_ref(), stored, &status).await?;
        written
            .into_iter()
            .for_each(|written| self.certificates.learn(written));
        Ok(())
    }

    /// An order for these names that failed and may not be tried yet.
    fn waiting(&self, key: &Key, names: &BTreeSet<String>) -> Option<Failed> {
        let failed = self.lock();
        let found = failed.get(key).filter(|failed| failed.names == *names)?;
        (found.next > Instant::now()).then(|| found.clone())
    }

    fn fail(&self, key: &Key, names: BTreeSet<String>, why: String) -> Failed {
        let mut failed = self.lock();
        let before = failed.get(key).filter(|failed| failed.names == names);
        let times = before.map_or(1, |failed| failed.times.saturating_add(1));
        let now = Failed {
            names,
            why,
            times,
            next: Instant::now() + pause(times),
        };
        failed.insert(key.clone(), now.clone());
        now
    }

    fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Failed>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
