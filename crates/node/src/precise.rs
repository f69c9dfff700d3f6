//! Sleeps shorter than a millisecond, for the one path where they matter: waking a pod.

use std::time::Duration;

/// Waits for `pause`, with the kernel's resolution where the system has it.
pub(crate) async fn sleep(pause: Duration) {
    #[cfg(target_os = "linux")]
    if pause < Duration::from_millis(10) {
        let timer = crate::sys::timer::one_shot(pause).and_then(crate::sys::event::watch);
        if let Ok(timer) = timer
            && timer.readable().await.is_ok()
        {
            return;
        }
    }
    tokio::time::sleep(pause).await;
}
