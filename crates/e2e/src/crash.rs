//! `kill -9` in the middle of writes, again and again: what was acknowledged is there, and every
//! watch goes on from where it was or is told to list again (410).
//!
//! `E2E_CRASH_ROUNDS` says how often; three times by default, to keep the suite short.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;

use crate::Server;

const WRITERS: usize = 8;
/// Objects of one writer.
const OBJECTS: u64 = 12;

/// What may be stored under a name: the last acknowledged value (`None`: not there), and the one
/// that was being written when the server died.
#[derive(Clone, Debug, Default)]
struct Known {
    acknowledged: Option<u64>,
    in_doubt: Option<Option<u64>>,
}

type Book = Arc<Mutex<BTreeMap<String, Known>>>;

/// What a client that watches believes.
#[derive(Default)]
struct Watcher {
    revision: Option<String>,
    objects: BTreeMap<String, u64>,
    resumed: usize,
    listed: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_and_watches_go_on() -> anyhow::Result<()> {
    let rounds = std::env::var("E2E_CRASH_ROUNDS").ok();
    let rounds: u64 = rounds.and_then(|text| text.parse().ok()).unwrap_or(3);
    let book = Book::default();
    let mut watcher = Watcher::default();
    let mut data = None;
    let mut writes = 0;
    for round in 0..rounds {
        let server = match data.take() {
            None => Server::start_with_processes().await?,
            Some(data) => Server::start_again(data).await?,
        };
        let client = client(&server).await?;
        let maps = Api::<ConfigMap>::default_namespaced(client);
        check(&maps, &book)
            .await
            .with_context(|| format!("round {round}"))?;
        watcher
            .catch_up(&maps)
            .await
            .with_context(|| format!("round {round}"))?;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write(maps.clone(), Arc::clone(&book), writer, round)))
            .collect();
        // Anywhere between the first writes and many: the rounds differ, the test repeats.
        let pause = Duration::from_millis(20 + round * 37 % 260);
        let death = async {
            tokio::time::sleep(pause).await;
            server.kill().await
        };
        let (killed, ()) = tokio::join!(death, watcher.follow(&maps));
        data = Some(killed?);
        for writer in writers {
            writes += writer.await?;
        }
    }
    let server = Server::start_again(data.context("a round")?).await?;
    let maps = Api::<ConfigMap>::default_namespaced(client(&server).await?);
    check(&maps, &book).await?;
    watcher.catch_up(&maps).await?;
    let (resumed, listed) = (watcher.resumed, watcher.listed);
    println!(
        "{rounds} rounds, {writes} acknowledged writes; watches: {resumed} resumed, {listed} listed again"
    );
    ensure!(writes > 0, "nothing was written");
    Ok(())
}

async fn client(server: &Server) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Creates, changes and deletes its own objects until the server is gone. Returns how many writes
/// were acknowledged.
async fn write(maps: Api<ConfigMap>, book: Book, writer: usize, round: u64) -> usize {
    let mut done = 0;
    for step in 0u64.. {
        let name = format!("w{writer}-{}", (step * 5 + round) % OBJECTS);
        let value = round * 1_000_000 + step;
        let before = note(&book, &name, |_| {}).acknowledged;
        let delete = before.is_some() && step % 4 == 3;
        let wanted = (!delete).then_some(value);
        note(&book, &name, |known| known.in_doubt = Some(wanted));
        let result = if delete {
            let deleted = maps.delete(&name, &DeleteParams::default()).await;
            deleted.map(drop)
        } else {
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
                "data": {"value": value.to_string()},
            });
            let params = PatchParams::apply("crash").force();
            maps.patch(&name, &params, &Patch::Apply(&object))
                .await
                .map(drop)
        };
        if result.is_err() {
            return done;
        }
        note(&book, &name, |known| {
            *known = Known {
                acknowledged: wanted,
                in_doubt: None,
            };
        });
        done += 1;
    }
    done
}

fn note(book: &Book, name: &str, change: impl FnOnce(&mut Known)) -> Known {
    let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
    let known = book.entry(name.to_owned()).or_default();
    change(known);
    known.clone()
}

fn value(map: &ConfigMap) -> Option<u64> {
    map.data.as_ref()?.get("value")?.parse().ok()
}

/// Compares what is stored with what was acknowledged, and settles what was in doubt.
async fn check(maps: &Api<ConfigMap>, book: &Book) -> anyhow::Result<()> {
    let stored = list(maps).await?.1;
    let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, known) in book.iter_mut() {
        let found = stored.get(name).copied();
        let expected = found == known.acknowledged || Some(found) == known.in_doubt;
        ensure!(expected, "{name} is {found:?}, but {known:?}");
        *known = Known {
            acknowledged: found,
            in_doubt: None,
        };
    }
    let unknown = stored.keys().find(|name| !book.contains_key(*name));
    ensure!(unknown.is_none(), "{unknown:?} was never written");
    Ok(())
}

async fn list(maps: &Api<ConfigMap>) -> anyhow::Result<(String, BTreeMap<String, u64>)> {
    let list = maps.list(&ListParams::default()).await?;
    let revision = list
        .metadata
        .resource_version
        .clone()
        .context("a revision")?;
    let objects = list.items.iter();
    let objects = objects.filter_map(|map| Some((map.name_any(), value(map)?)));
    Ok((revision, objects.collect()))
}

impl Watcher {
    /// Goes on from the last revision, or lists again if that is refused; then believes what is
    /// stored.
    async fn catch_up(&mut self, maps: &Api<ConfigMap>) -> anyhow::Result<()> {
        let (now, stored) = list(maps).await?;
        let goal: u64 = now.parse()?;
        if let Some(revision) = self.revision.clone() {
            let resumed = self.watch(maps, &revision, Some(goal)).await?;
            self.resumed += usize::from(resumed);
            if !resumed {
                self.revision = None;
            }
        }
        if self.revision.is_none() {
            (self.revision, self.objects) = (Some(now), stored.clone());
            self.listed += 1;
        }
        ensure!(
            self.objects == stored,
            "the watch saw {:?}, stored is {stored:?}",
            self.objects
        );
        Ok(())
    }

    /// Watches until the server is gone.
    async fn follow(&mut self, maps: &Api<ConfigMap>) {
        if let Some(revision) = self.revision.clone() {
            // A connection that breaks is what this is about.
            let _ = self.watch(maps, &revision, None).await;
        }
    }

    /// Takes events in, up to a revision or the end. False if the revision to begin with is gone.
    async fn watch(
        &mut self,
        maps: &Api<ConfigMap>,
        from: &str,
        goal: Option<u64>,
    ) -> anyhow::Result<bool> {
        let params = WatchParams::default().timeout(20);
        let mut events = maps.watch(&params, from).await?.boxed();
        loop {
            let at: u64 = self.revision.as_deref().unwrap_or_default().parse()?;
            // The server's own writes to other kinds move the list's revision, not this watch.
            if goal.is_some_and(|goal| at >= goal) {
                return Ok(true);
            }
            let next = events.try_next();
            let event = match goal {
                Some(_) => match tokio::time::timeout(Duration::from_secs(2), next).await {
                    Ok(event) => event?,
                    Err(_) => return Ok(true),
                },
                None => next.await?,
            };
            let Some(event) = event else { return Ok(true) };
            match event {
                WatchEvent::Added(map) | WatchEvent::Modified(map) => {
                    self.revision = map.resource_version();
                    if let Some(value) = value(&map) {
                        self.objects.insert(map.name_any(), value);
                    }
                }
                WatchEvent::Deleted(map) => {
                    self.revision = map.resource_version();
                    self.objects.remove(&map.name_any());
                }
                WatchEvent::Bookmark(mark) => {
                    self.revision = Some(mark.metadata.resource_version);
                }
                WatchEvent::Error(status) if status.code == 410 => return Ok(false),
                WatchEvent::Error(status) => anyhow::bail!("watch: {status:?}"),
            }
        }
    }
}
