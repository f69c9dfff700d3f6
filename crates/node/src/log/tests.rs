//! Logs written and read back.

use std::io::Write;
use std::os::fd::OwnedFd;

use futures::StreamExt;
use tokio::net::unix::pipe::Receiver;

use super::*;
use crate::pod::attach::Tap;
use crate::stdio::BoxRead;

fn pipe(end: io::PipeReader) -> Option<BoxRead> {
    let pipe = Receiver::from_owned_fd(OwnedFd::from(end)).expect("a pipe");
    Some(Box::new(pipe))
}

async fn written(logs: &Logs, pod: &Path, out: &[u8], err: &[u8]) -> Writer {
    let mut writer = logs.writer(pod, "c", 0).expect("a writer");
    let (stdout, mut to_stdout) = io::pipe().expect("a pipe");
    let (stderr, mut to_stderr) = io::pipe().expect("a pipe");
    let (out, err) = (out.to_vec(), err.to_vec());
    let feed = tokio::task::spawn_blocking(move || {
        to_stdout.write_all(&out).expect("written");
        to_stderr.write_all(&err).expect("written");
    });
    writer
        .pump(pipe(stdout), pipe(stderr), &Tap::new())
        .await
        .expect("pumped");
    feed.await.expect("fed");
    writer
}

async fn read(logs: &Logs, pod: &Path, options: LogOptions) -> String {
    let chunks = stream(logs, file(pod, "c", 0), &options, jiff::Timestamp::now());
    let chunks: Vec<_> = chunks.map(|chunk| chunk.expect("readable")).collect().await;
    String::from_utf8(chunks.concat()).expect("text")
}

#[tokio::test]
async fn both_outputs_are_read_back_by_tail_limit_and_time() {
    let dir = tempfile::tempdir().expect("temp dir");
    let logs = Logs::new(dir.path().to_owned());
    let pod = logs.of_pod("default", "p", "1");
    drop(written(&logs, &pod, b"one\ntwo\nthree", b"").await);
    assert_eq!(
        read(&logs, &pod, LogOptions::default()).await,
        "one\ntwo\nthree\n"
    );
    assert_eq!(
        read(
            &logs,
            &pod,
            LogOptions {
                tail_lines: Some(2),
                ..LogOptions::default()
            }
        )
        .await,
        "two\nthree\n"
    );
    assert_eq!(
        read(
            &logs,
            &pod,
            LogOptions {
                tail_lines: Some(0),
                ..LogOptions::default()
            }
        )
        .await,
        ""
    );
    assert_eq!(
        read(
            &logs,
            &pod,
            LogOptions {
                limit_bytes: Some(5),
                ..LogOptions::default()
            }
        )
        .await,
        "one\nt"
    );
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(9);
    assert_eq!(
        read(
            &logs,
            &pod,
            LogOptions {
                since_time: Some(later),
                ..LogOptions::default()
            }
        )
        .await,
        ""
    );
    let with_times = read(
        &logs,
        &pod,
        LogOptions {
            timestamps: true,
            ..LogOptions::default()
        },
    )
    .await;
    let first = with_times.split(' ').next().expect("a time");
    assert!(
        first.parse::<jiff::Timestamp>().is_ok()
            && first.len() == "2026-01-01T00:00:00.000000000Z".len(),
        "{first}"
    );
    drop(written(&logs, &pod, b"", b"err\n").await);
    assert_eq!(last_lines(&file(&pod, "c", 0), 2, 100), "three\nerr\n");
    assert_eq!(last_lines(&file(&pod, "c", 0), 80, 4), "err\n");
}

#[tokio::test]
async fn a_long_line_is_stored_in_parts_and_read_as_one() {
    let dir = tempfile::tempdir().expect("temp dir");
    let logs = Logs::new(dir.path().to_owned());
    let pod = logs.of_pod("default", "p", "1");
    let line = "x".repeat(100_000);
    drop(written(&logs, &pod, line.as_bytes(), b"").await);
    assert_eq!(read(&logs, &pod, LogOptions::default()).await, line + "\n");
}

#[tokio::test]
async fn a_full_file_is_rotated_and_no_more_than_five_are_kept() {
    let dir = tempfile::tempdir().expect("temp dir");
    let logs = Logs::new(dir.path().to_owned());
    let pod = logs.of_pod("default", "p", "1");
    let line = format!("{}\n", "x".repeat(9_999));
    drop(written(&logs, &pod, line.repeat(6_500).as_bytes(), b"last\n").await);
    let files = fs::read_dir(pod.join("c")).expect("a directory").count();
    assert_eq!(files, MOST_FILES);
    let text = read(&logs, &pod, LogOptions::default()).await;
    assert!(text.len() > 3 * LONGEST_FILE as usize && text.len() < 6 * LONGEST_FILE as usize);
    assert!(text.ends_with("last\n") || text.contains("\nlast\n"));
}

#[tokio::test]
async fn a_follower_sees_lines_as_they_come_and_ends_with_the_container() {
    let dir = tempfile::tempdir().expect("temp dir");
    let logs = Logs::new(dir.path().to_owned());
    let pod = logs.of_pod("default", "p", "1");
    let mut writer = logs.writer(&pod, "c", 0).expect("a writer");
    let options = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let mut follower = Box::pin(stream(
        &logs,
        file(&pod, "c", 0),
        &options,
        jiff::Timestamp::now(),
    ));
    let (stdout, mut to_stdout) = io::pipe().expect("a pipe");
    let (stderr, to_stderr) = io::pipe().expect("a pipe");
    drop(to_stderr);
    let pump = async {
        writer
            .pump(pipe(stdout), pipe(stderr), &Tap::new())
            .await
            .expect("pumped");
        drop(writer);
    };
    let follow = async {
        for line in ["one\n", "two\n"] {
            to_stdout.write_all(line.as_bytes()).expect("written");
            let chunk = follower.next().await.expect("a chunk").expect("readable");
            assert_eq!(chunk, line.as_bytes());
        }
        drop(to_stdout);
        assert!(follower.next().await.is_none());
    };
    tokio::join!(pump, follow);
}
