//! The spawner: programs start, end, and never outlive their makers.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use lifecycle::Tasks;
use node::spawner::{Exit, Launch, LaunchError, Process, Spawner, SpawnerCommand};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

const SPAWNER: &str = env!("CARGO_BIN_EXE_node-test-spawner");

pub(crate) fn command() -> SpawnerCommand {
    SpawnerCommand {
        program: SPAWNER.into(),
        args: Vec::new(),
    }
}

fn shell(script: &str) -> Launch {
    Launch {
        program: "/bin/sh".into(),
        args: ["sh", "-c", script].map(String::from).to_vec(),
        env: vec!["GREETING=hello".into(), "PATH=/usr/bin:/bin".into()],
        ..Launch::default()
    }
}

async fn run(spawner: &Spawner, launch: Launch) -> Result<(Process, Receiver), LaunchError> {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let stderr = OwnedFd::from(writer.try_clone().expect("a copy"));
    let stdio = node::spawner::Stdio::Fds {
        stdin: None,
        stdout: OwnedFd::from(writer),
        stderr,
    };
    let process = spawner.launch(launch, stdio).await?;
    Ok((
        process,
        Receiver::from_owned_fd(OwnedFd::from(reader)).expect("a pipe"),
    ))
}

async fn first_line(output: &mut Receiver) -> String {
    let mut line = Vec::new();
    while let Ok(byte) = output.read_u8().await {
        if byte == b'\n' {
            break;
        }
        line.push(byte);
    }
    String::from_utf8(line).expect("text")
}

/// Whether the process runs; a zombie does not.
fn runs(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit_once(") ")
            .expect("a state")
            .1
            .starts_with(['Z', 'X'])
    })
}

async fn until_gone(pid: i32) {
    while runs(pid) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_program_gets_its_environment_an_empty_input_and_reports_its_exit_code() {
    let tasks = Tasks::new();
    for spawner in [
        Spawner::start(command(), &tasks).expect("started"),
        Spawner::local(),
    ] {
        let (process, mut output) = run(&spawner, shell("cat; echo $GREETING; pwd; exit 7"))
            .await
            .expect("started");
        let mut text = String::new();
        output.read_to_string(&mut text).await.expect("text");
        assert_eq!(text, "hello\n/\n");
        assert_eq!(
            process.exited().await,
            Exit {
                code: 7,
                signal: None
            }
        );
    }
}

#[tokio::test]
async fn a_signal_reaches_the_program_and_is_reported() {
    let tasks = Tasks::new();
    for spawner in [
        Spawner::start(command(), &tasks).expect("started"),
        Spawner::local(),
    ] {
        let (process, mut output) = run(&spawner, shell("echo up; exec cat /dev/zero >/dev/null"))
            .await
            .expect("started");
        assert_eq!(first_line(&mut output).await, "up");
        process.signal(libc::SIGTERM).await;
        assert_eq!(
            process.exited().await,
            Exit {
                code: 143,
                signal: Some(libc::SIGTERM)
            }
        );
        process.signal(libc::SIGTERM).await;
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_executed_says_why() {
    let tasks = Tasks::new();
    let dir = tempfile::tempdir().expect("temp dir");
    let text = dir.path().join("text");
    fs::write(&text, "no program").expect("written");
    Command::new("chmod")
        .arg("755")
        .arg(&text)
        .status()
        .expect("changed");
    let spawner = Spawner::start(command(), &tasks).expect("started");
    for (program, expected) in [
        ("/does/not/exist".to_owned(), "No such file or directory"),
        (text.display().to_string(), "not a program for this machine"),
        ("relative".to_owned(), "not absolute"),
    ] {
        let launch = Launch {
            program,
            ..Launch::default()
        };
        let error = run(&spawner, launch)
            .await
            .err()
            .expect("refused")
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_long_environment_arrives_whole() {
    let tasks = Tasks::new();
    let spawner = Spawner::start(command(), &tasks).expect("started");
    let mut launch = shell("echo ${#A} ${#B}");
    launch.env = vec![
        format!("A={}", "x".repeat(100_000)),
        format!("B={}", "y".repeat(100_001)),
    ];
    let (_, mut output) = run(&spawner, launch).await.expect("started");
    assert_eq!(first_line(&mut output).await, "100000 100001");
}

#[tokio::test]
async fn what_a_program_leaves_behind_ends_with_it_even_in_another_session() {
    let tasks = Tasks::new();
    let spawner = Spawner::start(command(), &tasks).expect("started");
    let script = "(setsid sleep 1000 & echo $!); sleep 1000 & echo $!; read line </dev/zero";
    let (process, mut output) = run(&spawner, shell(script)).await.expect("started");
    let pids = [first_line(&mut output).await, first_line(&mut output).await]
        .map(|pid| pid.parse::<i32>().expect("a pid"));
    process.signal(libc::SIGKILL).await;
    assert_eq!(process.exited().await.signal, Some(libc::SIGKILL));
    for pid in pids {
        until_gone(pid).await;
    }
}

#[tokio::test]
async fn programs_die_with_a_killed_spawner_and_the_next_one_starts_programs_again() {
    let tasks = Tasks::new();
    let spawner = Spawner::start(command(), &tasks).expect("started");
    let (process, mut output) = run(&spawner, shell("sleep 1000 & echo $!; echo $PPID; wait"))
        .await
        .expect("started");
    let descendant: i32 = first_line(&mut output).await.parse().expect("a pid");
    let parent: i32 = first_line(&mut output).await.parse().expect("a pid");
    Command::new("kill")
        .args(["-9", &parent.to_string()])
        .status()
        .expect("killed");
    assert_eq!(process.exited().await.signal, Some(libc::SIGKILL));
    until_gone(process.pid()).await;
    until_gone(descendant).await;
    let (process, _output) = loop {
        match run(&spawner, shell("exit 3")).await {
            Ok(started) => break started,
            Err(LaunchError::SpawnerGone { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(process.exited().await.code, 3);
}

/// The role of a main process that is killed: started by the test below as a process of its own.
#[tokio::test]
#[allow(clippy::disallowed_methods)] // It is a process of its own, and this is its flag.
async fn role_of_a_main_process() {
    if std::env::var_os("NODE_TEST_MAIN_PROCESS").is_none() {
        return;
    }
    let tasks = Tasks::new();
    let spawner = Spawner::start(command(), &tasks).expect("started");
    let (process, mut output) = run(&spawner, shell("sleep 1000 & echo $! $$ $PPID; wait"))
        .await
        .expect("started");
    use std::io::Write;
    writeln!(std::io::stderr(), "pids {}", first_line(&mut output).await).expect("written");
    process.exited().await;
}

#[tokio::test]
async fn nothing_survives_a_killed_main_process() {
    let mut main = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "spawner::role_of_a_main_process", "--nocapture"])
        .env("NODE_TEST_MAIN_PROCESS", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut stderr = main.stderr.take().expect("piped");
    let mut text = String::new();
    let mut byte = [0];
    while !(text.contains("pids ") && text.ends_with('\n')) {
        assert_eq!(stderr.read(&mut byte).expect("readable"), 1, "{text}");
        text.push(char::from(byte[0]));
    }
    main.kill().expect("killed");
    main.wait().expect("ended");
    let pids = text.rsplit_once("pids ").expect("three pids").1;
    for pid in pids.split_whitespace() {
        until_gone(pid.parse().expect("a pid")).await;
    }
}
