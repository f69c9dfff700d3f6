//! Logs of containers, as the API server asks the node for them.

use futures::StreamExt;
use node::{ContainerError, LogOptions};

use crate::harness::{Server, get, guest, host_port, shell, waiting};

async fn text(server: &Server, pod: &str, options: &LogOptions) -> String {
    let stream = server
        .node
        .logs("default", pod, None, options)
        .expect("logs");
    let chunks: Vec<_> = stream.map(|chunk| chunk.expect("readable")).collect().await;
    String::from_utf8(chunks.concat()).expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_gets_what_is_there_and_what_comes_and_ends_with_the_container() {
    let server = Server::start().await;
    server.create("talks", guest()).await;
    let port = host_port(&server.until_ready("talks").await, 8080);
    let options = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let mut logs = Box::pin(
        server
            .node
            .logs("default", "talks", None, &options)
            .expect("logs"),
    );
    let first = logs.next().await.expect("a line").expect("readable");
    assert_eq!(first, format!("listening on {port}\n"));
    assert!(get(port, "/exit/0").await.is_ok_and(|body| body.is_empty()));
    let second = logs.next().await.expect("a line").expect("readable");
    assert_eq!(second, "asked to exit with 0\n");
    assert!(logs.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_previous_run_can_be_read_and_errors_say_what_is_wrong() {
    let server = Server::start().await;
    server.create("crash", shell("echo run; exit 1")).await;
    server
        .until("crash", |pod| {
            waiting(pod).is_some_and(|(reason, _)| reason == "CrashLoopBackOff")
        })
        .await;
    assert_eq!(
        text(
            &server,
            "crash",
            &LogOptions {
                previous: true,
                ..LogOptions::default()
            }
        )
        .await,
        "run\n"
    );
    assert_eq!(
        text(&server, "crash", &LogOptions::default()).await,
        "run\n"
    );
    let error = |pod: &str, container: Option<&str>| {
        server
            .node
            .logs("default", pod, container, &LogOptions::default())
            .err()
            .expect("an error")
    };
    assert!(matches!(error("none", None), ContainerError::NoPod { .. }));
    assert!(matches!(
        error("crash", Some("other")),
        ContainerError::NoContainer { .. }
    ));
}
