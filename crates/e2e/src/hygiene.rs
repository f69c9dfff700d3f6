//! `kill -9` while containers run: nothing of them stays on the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;

use crate::Server;
use crate::server::text;
use crate::tools::{Containers, Rig};

/// In the command line of every program of the pod.
const MARK: &str = "left-behind-by-kill-9";
const CONTAINERS: Containers = &[(
    "main",
    "mark=left-behind-by-kill-9; (trap '' TERM HUP; while :; do sleep 0.1; done) & trap '' TERM; while :; do sleep 0.1; done",
    "",
)];

/// The same for the test that starts no other process.
const LAST_MARK: &str = "left-by-the-last-kill-9";
const LAST_CONTAINERS: Containers = &[(
    "main",
    "mark=left-by-the-last-kill-9; (trap '' TERM HUP; while :; do sleep 0.1; done) & trap '' TERM; while :; do sleep 0.1; done",
    "",
)];

/// Processes whose command line has a text.
fn processes(mark: &str) -> usize {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        // The test itself does not count: it is no shell.
        line.starts_with(b"/bin/sh") && String::from_utf8_lossy(&line).contains(mark)
    })
    .count()
}

/// Control groups, of whatever controller, whose name has a text.
fn control_groups(name: &str) -> usize {
    groups_with(name).len()
}

fn groups_with(name: &str) -> Vec<PathBuf> {
    let below = |directory: &Path| -> Vec<_> {
        let all = fs::read_dir(directory).into_iter().flatten().flatten();
        all.filter(|entry| entry.path().is_dir())
            .map(|entry| entry.path())
            .collect()
    };
    let root = Path::new("/sys/fs/cgroup");
    let mut parents = vec![root.join("suimon")];
    parents.extend(
        below(root)
            .into_iter()
            .map(|controller| controller.join("suimon")),
    );
    let groups = parents.iter().flat_map(|parent| below(parent));
    groups
        .filter(|group| group.to_string_lossy().contains(name))
        .collect()
}

/// The bridge of the process that made a pod: its control groups begin with the same number. It
/// is told by its index, for the next process may have one of the same name.
fn bridge(uid: &str) -> anyhow::Result<String> {
    let groups = groups_with(uid);
    let name = groups.first().and_then(|group| group.file_name());
    let name = name.context("a control group")?.to_string_lossy();
    let number = name.split('.').next().unwrap_or_default();
    index(Path::new(&format!("/sys/class/net/suimon{number}"))).context("a bridge")
}

fn index(link: &Path) -> Option<String> {
    fs::read_to_string(link.join("ifindex")).ok()
}

/// Links of the machine that have an index.
fn links_at(wanted: &str) -> usize {
    let all = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten();
    all.filter(|link| index(&link.path()).is_some_and(|index| index == wanted))
        .count()
}

/// Mounts whose place has a text.
fn mounts(place: &str) -> usize {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    all.lines().filter(|line| line.contains(place)).count()
}

/// Links of the machine whose name begins so.
fn links(prefix: &str) -> usize {
    let all = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten();
    all.filter(|link| link.file_name().to_string_lossy().starts_with(prefix))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_nothing_of_a_container_is_left() -> anyhow::Result<()> {
    let Some(rig) = Rig::start(true, CONTAINERS).await? else {
        return Ok(());
    };
    let pod = rig.server.object(&["pod", "tools"]).await?;
    let uid = pod["metadata"]["uid"].as_str().context("a uid")?.to_owned();
    let place = rig.server.data_dir().display().to_string();
    let veths = format!("sv{:x}.", rig.server.pid());
    let (groups, mounted) = (control_groups(&uid), mounts(&place));
    assert!(
        processes(MARK) >= 1 && groups >= 1,
        "there is something to leave behind"
    );
    assert!(mounted >= 1, "a volume in memory is a mount");
    assert!(links(&veths) >= 1, "a pod has a link");
    let before = (groups, mounted, processes(MARK));
    let seen = Mutex::new(String::new());
    let killed = rig.server.kill().await?;
    let server = Server::start_again_with_containers(killed).await?;
    server
        .eventually("the links of the killed process are gone", || async {
            Ok((links(&veths) == 0).then_some(()))
        })
        .await?;
    // A pod without an owner runs again, once.
    server
        .eventually("the pod runs again and nothing is there twice", || async {
            let now = (control_groups(&uid), mounts(&place), processes(MARK));
            *seen.lock().expect("no panic") = format!("{now:?}, before {before:?}");
            let is_once = now.0 <= groups && now.1 <= mounted && now.2 <= 2;
            Ok((is_once && now.0 >= 1 && now.1 >= 1 && now.2 >= 1).then_some(()))
        })
        .await
        .with_context(|| {
            format!(
                "groups, mounts, processes: {}",
                seen.lock().expect("no panic")
            )
        })?;
    let deleted = server.suimon(&["delete", "pod", "tools"]).await?;
    anyhow::ensure!(deleted.status.success(), "{}", text(&deleted.stderr));
    server
        .eventually("nothing of the pod is left", || async {
            let left = processes(MARK) + control_groups(&uid) + mounts(&place);
            Ok((left == 0).then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_nothing_is_left_although_no_other_process_begins() -> anyhow::Result<()> {
    let Some(rig) = Rig::start(true, LAST_CONTAINERS).await? else {
        return Ok(());
    };
    let pod = rig.server.object(&["pod", "tools"]).await?;
    let uid = pod["metadata"]["uid"].as_str().context("a uid")?.to_owned();
    let place = rig.server.data_dir().display().to_string();
    let veths = format!("sv{:x}.", rig.server.pid());
    let bridge = bridge(&uid)?;
    let left = || {
        [
            ("processes", processes(LAST_MARK)),
            ("groups", control_groups(&uid)),
            ("mounts", mounts(&place)),
            ("pods' links", links(&veths)),
            ("bridges", links_at(&bridge)),
        ]
    };
    let before = left();
    assert!(before.iter().all(|(_, count)| *count >= 1), "{before:?}");
    let _data = rig.server.kill().await?;
    let gone = async {
        while left().iter().any(|(_, count)| *count > 0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone)
        .await
        .with_context(|| format!("left: {:?}", left()))
}
