//! The gateway's limits in the settings file: `limits`, every one optional. What each is for, and
//! why its default is what it is, stands in `docs/operations.md`.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// As written. Times are Go durations, as in the rest of Kubernetes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Limits {
    head_bytes: Option<usize>,
    head_time: Option<String>,
    keep_alive_time: Option<String>,
    stall_time: Option<String>,
    connect_time: Option<String>,
    probe_time: Option<String>,
    handshake_time: Option<String>,
    handshakes: Option<usize>,
    relay_idle_time: Option<String>,
    datagram_idle_time: Option<String>,
    datagram_clients: Option<usize>,
    connections: Option<usize>,
    client_connections: Option<usize>,
    body_bytes: Option<u64>,
    streams: Option<u32>,
    stream_resets: Option<u32>,
    idle_frames: Option<u32>,
}

impl Limits {
    /// These over the standard ones; what cannot be used is added to `mistakes`.
    pub(super) fn resolve(self, mistakes: &mut Vec<String>) -> proxy::Limits {
        let mut limits = proxy::Limits::STANDARD;
        let mut within = Within(mistakes);
        within.number(
            "head-bytes",
            self.head_bytes,
            1024..=1024 * 1024,
            &mut limits.head_bytes,
        );
        within.time("head-time", self.head_time, &mut limits.head);
        within.time(
            "keep-alive-time",
            self.keep_alive_time,
            &mut limits.keep_alive,
        );
        within.time("stall-time", self.stall_time, &mut limits.stall);
        within.time("connect-time", self.connect_time, &mut limits.connect);
        within.time("probe-time", self.probe_time, &mut limits.probe);
        within.time("handshake-time", self.handshake_time, &mut limits.handshake);
        within.time(
            "relay-idle-time",
            self.relay_idle_time,
            &mut limits.relay_idle,
        );
        within.time(
            "datagram-idle-time",
            self.datagram_idle_time,
            &mut limits.datagram_idle,
        );
        let many = 1..=10_000_000;
        within.number(
            "handshakes",
            self.handshakes,
            many.clone(),
            &mut limits.handshakes,
        );
        within.number(
            "datagram-clients",
            self.datagram_clients,
            many.clone(),
            &mut limits.datagram_clients,
        );
        within.number(
            "connections",
            self.connections,
            many.clone(),
            &mut limits.connections,
        );
        let mut most = usize::MAX;
        within.number(
            "client-connections",
            self.client_connections,
            many,
            &mut most,
        );
        limits.client_connections = NonZeroUsize::new(most).filter(|most| most.get() < usize::MAX);
        limits.body_bytes = self.body_bytes;
        within.number("streams", self.streams, 1..=10_000, &mut limits.streams);
        within.number(
            "stream-resets",
            self.stream_resets,
            1..=1_000_000,
            &mut limits.stream_resets,
        );
        within.number(
            "idle-frames",
            self.idle_frames,
            100..=1_000_000,
            &mut limits.idle_frames,
        );
        limits
    }
}

/// Takes what is within bounds and notes what is not.
struct Within<'m>(&'m mut Vec<String>);

impl Within<'_> {
    fn number<T: Display + PartialOrd>(
        &mut self,
        key: &str,
        given: Option<T>,
        range: RangeInclusive<T>,
        place: &mut T,
    ) {
        match given {
            None => {}
            Some(value) if range.contains(&value) => *place = value,
            Some(value) => self.0.push(format!(
                "limits.{key}: {value} is not within {} to {}",
                range.start(),
                range.end()
            )),
        }
    }

    fn time(&mut self, key: &str, given: Option<String>, place: &mut Duration) {
        let Some(text) = given else { return };
        match api::duration::parse(&text) {
            Ok(time) if !time.is_zero() && time <= DAY => *place = time,
            Ok(_) => self
                .0
                .push(format!("limits.{key}: {text} is not within 1ns to 24h")),
            Err(error) => self.0.push(format!("limits.{key}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<proxy::Limits, Vec<String>> {
        let limits: Limits = serde_saphyr::from_str(text).expect("known keys");
        let mut mistakes = Vec::new();
        let resolved = limits.resolve(&mut mistakes);
        if mistakes.is_empty() {
            Ok(resolved)
        } else {
            Err(mistakes)
        }
    }

    #[test]
    fn what_is_not_given_is_standard() {
        assert_eq!(resolve("{}"), Ok(proxy::Limits::STANDARD));
        let text = "head-time: 1m30s\nclient-connections: 100\nbody-bytes: 0\nstreams: 10\n";
        let expected = proxy::Limits {
            head: Duration::from_secs(90),
            client_connections: NonZeroUsize::new(100),
            body_bytes: Some(0),
            streams: 10,
            ..proxy::Limits::STANDARD
        };
        assert_eq!(resolve(text), Ok(expected));
    }

    #[test]
    fn every_mistake_is_told_with_its_key() {
        let text = "head-bytes: 10\nstall-time: soon\nconnect-time: 0s\nclient-connections: 0\n";
        let mistakes = resolve(text).expect_err("four mistakes").join("\n");
        for key in [
            "head-bytes: 10 is",
            "stall-time: ",
            "connect-time: 0s",
            "client-connections: 0",
        ] {
            assert!(mistakes.contains(key), "{mistakes}");
        }
    }
}
