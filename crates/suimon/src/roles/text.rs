//! The memory that the program itself takes (docs/decisions/013-memory.md).

use lifecycle::Tasks;

/// What is started is over so long after it was begun.
#[cfg(target_os = "linux")]
const START: std::time::Duration = std::time::Duration::from_secs(15);

/// Gives the code back that only the start has run.
#[cfg(target_os = "linux")]
pub fn forget_start(tasks: &Tasks) {
    use lifecycle::Stage;

    let mut stop = tasks.shutdown(Stage::Controllers);
    tasks.spawn("forget-start", Stage::Controllers, async move {
        tokio::select! {
            () = tokio::time::sleep(START) => {}
            () = stop.requested() => return Ok(()),
        }
        if let Err(error) = node::forget_text() {
            tracing::debug!(%error, "the code that only the start has run stays in memory");
        }
        Ok::<(), std::convert::Infallible>(())
    });
}

/// Elsewhere the kernel decides by itself.
#[cfg(not(target_os = "linux"))]
pub fn forget_start(_: &Tasks) {}
