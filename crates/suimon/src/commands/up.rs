//! `suimon up`: run everything in the foreground until a signal, then drain.

use std::process::ExitCode;
use std::time::Duration;

use lifecycle::{Outcome, Tasks};
use tokio::signal::unix::{SignalKind, signal};

use super::apply;
use crate::cli;
use crate::heap;
use crate::manifest;
use crate::output;
use crate::roles::{self, standalone};
use crate::settings::Settings;

/// Longest time that each stage of the drain may take.
const STAGE_LIMIT: Duration = Duration::from_secs(30);
/// Longest time to wait for the Services of `-f`.
const READY_LIMIT: Duration = Duration::from_secs(600);

pub async fn run(flags: cli::Up, access: &cli::Access) -> anyhow::Result<ExitCode> {
    roles::start_logging(access.log.as_deref().unwrap_or("warn"))?;
    heap::give_back_at_rest();
    let settings = Settings::resolve(flags, access)?;
    // Read before anything starts: a typo in a manifest should not leave a running server.
    let documents = if settings.files.is_empty() {
        Vec::new()
    } else {
        manifest::read(&settings.files)?
    };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let tasks = Tasks::new();
    let namespace = access
        .namespace
        .clone()
        .unwrap_or_else(|| "default".to_owned());

    let serve = async {
        let running = standalone::start(settings, &tasks).await?;
        output::note(&running.banner);
        if !documents.is_empty() {
            let services = apply::documents_of(&running.client, &namespace, documents).await?;
            apply::wait_for(&running.client, &services, READY_LIMIT).await?;
        }
        anyhow::Ok(())
    };
    let code = tokio::select! {
        failed = async {
            if let Err(error) = serve.await {
                // A refused manifest is told and the rest keeps running; a failed start is not.
                if tasks_started(&error) { output::error(&error) } else { return error }
            }
            anyhow::anyhow!(tasks.failed().await)
        } => {
            output::error(&failed);
            ExitCode::FAILURE
        }
        _ = interrupt.recv() => ExitCode::SUCCESS,
        _ = terminate.recv() => ExitCode::SUCCESS,
    };
    output::note(
        "draining: finishing requests, stopping pods (press Ctrl-C again to stop at once)",
    );
    tokio::select! {
        outcome = tasks.drain(STAGE_LIMIT) => {
            if let Outcome::Forced(names) = outcome {
                output::note(&format!("stopped before they were done: {}", names.join(", ")));
            }
            Ok(code)
        }
        _ = interrupt.recv() => Ok(ExitCode::from(130)),
    }
}

/// Whether an error came after the start, from applying manifests.
fn tasks_started(error: &anyhow::Error) -> bool {
    error.downcast_ref::<standalone::StartError>().is_none()
}
