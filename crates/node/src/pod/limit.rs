//! Limits that a whole pod may not exceed: its active deadline, and the size of its volumes.
//!
//! A pod over a limit fails for good, with the kubelet's reason and message.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::Pod;

use super::context::{Context, now};
use super::record::Verdict;
use crate::volume;

/// Between two looks at the size of volumes; the kubelet's.
const LOOK: Duration = Duration::from_secs(10);
/// Files of a volume that are looked at; more count as over the limit of any size.
const MOST_FILES: usize = 1_000_000;

/// Resolves once the pod is over a limit.
pub(super) async fn exceeded(context: &Context) -> Verdict {
    tokio::select! {
        verdict = deadline(context) => verdict,
        verdict = volumes(context) => verdict,
    }
}

/// `activeDeadlineSeconds`, which may be set and shortened while the pod runs.
async fn deadline(context: &Context) -> Verdict {
    let mut updates = context.updates.clone();
    loop {
        let pod = updates.borrow_and_update().pod.clone();
        let left = time_left(&pod, &context.observed.borrow().start_time.0, &now().0);
        let over = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => return Verdict {
                reason: "DeadlineExceeded",
                message: "Pod was active on the node longer than the specified deadline".to_owned(),
            },
            changed = updates.changed() => if changed.is_err() {
                // The node stops.
                return std::future::pending().await;
            },
        }
    }
}

fn time_left(pod: &Pod, start: &jiff::Timestamp, now: &jiff::Timestamp) -> Option<Duration> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let active = u64::try_from(seconds).unwrap_or_default();
    let gone = Duration::try_from(now.duration_since(*start)).unwrap_or_default();
    Some(Duration::from_secs(active).saturating_sub(gone))
}

/// `sizeLimit` of emptyDir volumes on disk; those in memory cannot grow beyond it.
async fn volumes(context: &Context) -> Verdict {
    let limited: Vec<_> = limited(&context.pod).collect();
    if limited.is_empty() {
        return std::future::pending().await;
    }
    let directory = context.directory();
    loop {
        tokio::time::sleep(LOOK).await;
        for (name, text, limit) in &limited {
            let place = volume::place(&directory, name);
            let size = tokio::task::spawn_blocking(move || size(&place)).await;
            if size.is_ok_and(|size| size > *limit) {
                return Verdict {
                    reason: "Evicted",
                    message: format!(
                        "Usage of EmptyDir volume {name:?} exceeds the limit {text:?}. "
                    ),
                };
            }
        }
    }
}

/// Name, limit as written and limit in bytes of the volumes on disk that have one.
fn limited(pod: &Pod) -> impl Iterator<Item = (String, String, u64)> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| {
        let empty = volume.empty_dir.as_ref()?;
        let on_disk = empty.medium.as_deref().unwrap_or_default() != volume::MEMORY;
        let text = &empty.size_limit.as_ref().filter(|_| on_disk)?.0;
        Some((volume.name.clone(), text.clone(), bytes(text)?))
    })
}

fn bytes(quantity: &str) -> Option<u64> {
    u64::try_from(Quantity::parse(quantity)?.units()).ok()
}

/// Bytes on disk below a directory. What vanishes meanwhile counts as nothing.
fn size(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut open: Vec<PathBuf> = vec![directory.to_owned()];
    let (mut bytes, mut files) = (0_u64, 0_usize);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            files += 1;
            if files > MOST_FILES {
                return u64::MAX;
            }
            // Of a link itself: what it points to is not the volume's.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512));
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "spec": spec })).expect("a Pod")
    }

    #[test]
    fn the_deadline_counts_from_the_pods_start() {
        let at = |second| jiff::Timestamp::from_second(second).expect("a time");
        let limited = pod(json!({ "containers": [], "activeDeadlineSeconds": 30 }));
        let left = |start, now| time_left(&limited, &at(start), &at(now));
        assert_eq!(left(100, 110), Some(Duration::from_secs(20)));
        assert_eq!(left(100, 1000), Some(Duration::ZERO));
        assert_eq!(
            left(100, 90),
            Some(Duration::from_secs(30)),
            "the clock went back"
        );
        let free = pod(json!({ "containers": [] }));
        assert_eq!(time_left(&free, &at(0), &at(9)), None);
    }

    #[test]
    fn only_volumes_on_disk_are_looked_at() {
        let pod = pod(json!({ "containers": [], "volumes": [
            { "name": "disk", "emptyDir": { "sizeLimit": "1Mi" } },
            { "name": "memory", "emptyDir": { "sizeLimit": "1Mi", "medium": "Memory" } },
            { "name": "free", "emptyDir": {} },
        ]}));
        let found: Vec<_> = limited(&pod).collect();
        assert_eq!(found, [("disk".to_owned(), "1Mi".to_owned(), 1 << 20)]);
    }

    #[test]
    fn a_volume_is_as_large_as_its_files_and_links_count_as_links() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory.path().join("inner");
        fs::create_dir(&inner).expect("made");
        fs::write(inner.join("file"), vec![1; 100_000]).expect("written");
        std::os::unix::fs::symlink("/usr", inner.join("link")).expect("linked");
        let found = size(directory.path());
        assert!((100_000..1_000_000).contains(&found), "{found}");
    }
}
