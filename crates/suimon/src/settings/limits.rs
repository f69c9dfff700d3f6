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
    head_fields: Option<usize>,
    head_time: Option<String>,
    keep_alive_time: Option<String>,
    stall_time: Option<String>,
    body_rate: Option<u32>,
    body_bytes: Option<u64>,
    connect_time: Option<String>,
    probe_time: Option<String>,
    handshake_time: Option<String>,
    handshakes: Option<usize>,
    relay_idle_time: Option<String>,
    tunnel_idle_time: Option<String>,
    datagram_idle_time: Option<String>,
    datagram_clients: Option<usize>,
    requests: Option<usize>,
    connections: Option<usize>,
    listener_connections: Option<usize>,
    client_connections: Option<usize>,
    memory_bytes: Option<u64>,
    object_bytes: Option<u64>,
    revision_queue: Option<usize>,
    upstream_idle_time: Option<String>,
    upstream_idle_connections: Option<usize>,
    upstream_connects: Option<usize>,
    streams: Option<u32>,
    stream_resets: Option<u32>,
    idle_frames: Option<u32>,
    stream_window: Option<u32>,
    window_growth: Option<usize>,
    dns_time: Option<String>,
}

/// What was made of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) gateway: proxy::Limits,
    pub(super) revision_queue: usize,
    pub(super) memory_bytes: Option<u64>,
    pub(super) object_bytes: Option<u64>,
    pub(super) dns_time: Duration,
}

/// Most of anything that is counted.
const MANY: RangeInclusive<usize> = 1..=10_000_000;
const MIB: usize = 1024 * 1024;

impl Limits {
    /// These over the standard ones; what cannot be used is added to `mistakes`.
    pub(super) fn resolve(self, mistakes: &mut Vec<String>) -> Resolved {
        let mut limits = proxy::Limits::STANDARD;
        let mut within = Within(mistakes);
        let mut revision_queue = scaling::Settings::KNATIVE.queue_depth;
        let (mut client, mut listener, mut memory) = (usize::MAX, usize::MAX, u64::MAX);
        for (key, given, range, place) in [
            (
                "head-bytes",
                self.head_bytes,
                1024..=MIB,
                &mut limits.head_bytes,
            ),
            (
                "head-fields",
                self.head_fields,
                16..=1_000,
                &mut limits.head_fields,
            ),
            ("handshakes", self.handshakes, MANY, &mut limits.handshakes),
            (
                "datagram-clients",
                self.datagram_clients,
                MANY,
                &mut limits.datagram_clients,
            ),
            ("requests", self.requests, MANY, &mut limits.requests),
            (
                "connections",
                self.connections,
                MANY,
                &mut limits.connections,
            ),
            (
                "listener-connections",
                self.listener_connections,
                MANY,
                &mut listener,
            ),
            (
                "client-connections",
                self.client_connections,
                MANY,
                &mut client,
            ),
            (
                "revision-queue",
                self.revision_queue,
                MANY,
                &mut revision_queue,
            ),
            (
                "upstream-idle-connections",
                self.upstream_idle_connections,
                0..=1_000_000,
                &mut limits.pool_connections,
            ),
            (
                "upstream-connects",
                self.upstream_connects,
                MANY,
                &mut limits.connects,
            ),
            (
                "window-growth",
                self.window_growth,
                0..=1024 * MIB,
                &mut limits.window_growth,
            ),
        ] {
            within.number(key, given, range, place);
        }
        for (key, given, range, place) in [
            ("streams", self.streams, 1..=10_000, &mut limits.streams),
            (
                "stream-resets",
                self.stream_resets,
                1..=1_000_000,
                &mut limits.stream_resets,
            ),
            (
                "idle-frames",
                self.idle_frames,
                100..=1_000_000,
                &mut limits.idle_frames,
            ),
            (
                "body-rate",
                self.body_rate,
                0..=1_000_000_000,
                &mut limits.body_rate,
            ),
            (
                "stream-window",
                self.stream_window,
                65_535..=(64 << 20),
                &mut limits.stream_window,
            ),
        ] {
            within.number(key, given, range, place);
        }
        for (key, given, place) in [
            ("head-time", self.head_time, &mut limits.head),
            (
                "keep-alive-time",
                self.keep_alive_time,
                &mut limits.keep_alive,
            ),
            ("stall-time", self.stall_time, &mut limits.stall),
            ("connect-time", self.connect_time, &mut limits.connect),
            ("probe-time", self.probe_time, &mut limits.probe),
            ("handshake-time", self.handshake_time, &mut limits.handshake),
            (
                "relay-idle-time",
                self.relay_idle_time,
                &mut limits.relay_idle,
            ),
            (
                "tunnel-idle-time",
                self.tunnel_idle_time,
                &mut limits.tunnel_idle,
            ),
            (
                "datagram-idle-time",
                self.datagram_idle_time,
                &mut limits.datagram_idle,
            ),
            (
                "upstream-idle-time",
                self.upstream_idle_time,
                &mut limits.pool_idle,
            ),
        ] {
            within.time(key, given, place);
        }
        let mut dns_time = publisher::LOOK_UP_EVERY;
        within.time_from("1s", "dns-time", self.dns_time, &mut dns_time);
        within.number(
            "memory-bytes",
            self.memory_bytes,
            (64 << 20)..=(1 << 50),
            &mut memory,
        );
        let mut objects = u64::MAX;
        within.number(
            "object-bytes",
            self.object_bytes,
            (8 << 20)..=(1 << 50),
            &mut objects,
        );
        if self.memory_bytes.is_some() && cfg!(not(target_os = "linux")) {
            mistakes.push("limits.memory-bytes: only Linux tells how much memory is in use".into());
        }
        let some = |most: usize| NonZeroUsize::new(most).filter(|most| most.get() < usize::MAX);
        limits.client_connections = some(client);
        limits.listener_connections = some(listener);
        limits.body_bytes = self.body_bytes;
        Resolved {
            gateway: limits,
            revision_queue,
            memory_bytes: Some(memory).filter(|most| *most < u64::MAX),
            object_bytes: Some(objects).filter(|most| *most < u64::MAX),
            dns_time,
        }
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
        self.time_from("1ns", key, given, place);
    }

    fn time_from(&mut self, least: &str, key: &str, given: Option<String>, place: &mut Duration) {
        let Some(text) = given else { return };
        let from = api::duration::parse(least).unwrap_or_default();
        match api::duration::parse(&text) {
            Ok(time) if (from..=DAY).contains(&time) => *place = time,
            Ok(_) => self
                .0
                .push(format!("limits.{key}: {text} is not within {least} to 24h")),
            Err(error) => self.0.push(format!("limits.{key}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<Resolved, Vec<String>> {
        let limits: Limits = serde_saphyr::from_str(text).expect("known keys");
        let mut mistakes = Vec::new();
        let resolved = limits.resolve(&mut mistakes);
        if mistakes.is_empty() {
            Ok(resolved)
        } else {
            Err(mistakes)
        }
    }

    fn standard() -> Resolved {
        Resolved {
            gateway: proxy::Limits::STANDARD,
            revision_queue: 10_000,
            memory_bytes: None,
            object_bytes: None,
            dns_time: Duration::from_secs(30),
        }
    }

    #[test]
    fn what_is_not_given_is_standard() {
        assert_eq!(resolve("{}"), Ok(standard()));
        let text = "head-time: 1m30s\nclient-connections: 100\nbody-bytes: 0\nstreams: 10\n\
                    requests: 5\nlistener-connections: 7\nbody-rate: 0\nupstream-idle-time: 5s\n\
                    revision-queue: 3\nmemory-bytes: 1073741824\nobject-bytes: 9000000\ntunnel-idle-time: 2h\n\
                    dns-time: 1s\n";
        let gateway = proxy::Limits {
            head: Duration::from_secs(90),
            client_connections: NonZeroUsize::new(100),
            listener_connections: NonZeroUsize::new(7),
            body_bytes: Some(0),
            streams: 10,
            requests: 5,
            body_rate: 0,
            pool_idle: Duration::from_secs(5),
            tunnel_idle: Duration::from_secs(7200),
            ..proxy::Limits::STANDARD
        };
        let expected = Resolved {
            gateway,
            revision_queue: 3,
            memory_bytes: Some(1 << 30),
            object_bytes: Some(9_000_000),
            dns_time: Duration::from_secs(1),
        };
        assert_eq!(resolve(text), Ok(expected));
    }

    /// Keys whose values are within no range, and what they say.
    const OUT_OF_RANGE: &str = "head-bytes: 10\nhead-fields: 5\nhandshakes: 0\n\
        datagram-clients: 0\nrequests: 0\nconnections: 0\nlistener-connections: 0\n\
        client-connections: 0\nrevision-queue: 0\nupstream-idle-connections: 1000001\n\
        upstream-connects: 0\n\
        window-growth: 2000000000\nstreams: 0\nstream-resets: 0\nidle-frames: 1\n\
        body-rate: 2000000000\nstream-window: 1\nmemory-bytes: 1\nobject-bytes: 1\nhead-time: 0s\n\
        keep-alive-time: 25h\nstall-time: 0s\nconnect-time: 0s\n\
        probe-time: 0s\nhandshake-time: 0s\n\
        relay-idle-time: 0s\ntunnel-idle-time: 0s\ndatagram-idle-time: 0s\n\
        upstream-idle-time: 0s\ndns-time: 999ms\n";

    #[test]
    fn every_mistake_is_told_with_its_key_and_what_would_do() {
        let mistakes = resolve(OUT_OF_RANGE).expect_err("mistakes");
        let lines: Vec<&str> = OUT_OF_RANGE.lines().collect();
        assert_eq!(mistakes.len(), lines.len(), "{mistakes:?}");
        for line in lines {
            let start = format!("limits.{line} is not within ");
            let is_told = mistakes.iter().any(|mistake| mistake.starts_with(&start));
            assert!(is_told, "{line} is not in {mistakes:?}");
        }
        let text = "stall-time: soon\n";
        let mistakes = resolve(text).expect_err("no duration").join("");
        assert!(mistakes.starts_with("limits.stall-time: "), "{mistakes}");
    }

    #[test]
    fn operators_can_read_of_every_key() {
        let text = include_str!("../../../../docs/operations.md");
        let keys = OUT_OF_RANGE
            .lines()
            .filter_map(|line| line.split(':').next());
        for key in keys.chain(["body-bytes"]) {
            assert!(text.contains(&format!("| `{key}` |")), "{key}");
        }
    }
}
