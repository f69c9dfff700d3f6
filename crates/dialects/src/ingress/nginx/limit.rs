//! How much and how often: bodies, requests of a client, and origins of browsers.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    Cors, LimitKey, Network, Origins, Predicate, RateLimit, Respond, Subject, Test,
};

use super::{Annotations, words};

impl Annotations<'_> {
    /// Bytes, or with k, m or g; zero is without bounds.
    pub(super) fn body(&mut self) -> Option<u64> {
        let (key, value) = self.take("proxy-body-size")?;
        let (number, unit) = match value.char_indices().last() {
            Some((at, 'k' | 'K')) => (&value[..at], 1 << 10),
            Some((at, 'm' | 'M')) => (&value[..at], 1 << 20),
            Some((at, 'g' | 'G')) => (&value[..at], 1 << 30),
            _ => (value, 1),
        };
        let bytes = number.parse::<u64>().ok();
        let Some(bytes) = bytes.and_then(|number| number.checked_mul(unit)) else {
            self.refuse(key, &format!("{value:?} is no size; write for example 8m"));
            return None;
        };
        (bytes > 0).then_some(bytes)
    }

    /// Requests of one client in a second and in a minute.
    pub(super) fn limits(&mut self) -> Vec<Arc<RateLimit>> {
        const BURST: u64 = 5;
        let rates = [("limit-rps", 1), ("limit-rpm", 60)];
        let rates = rates.map(|(short, seconds)| (short, seconds, self.number(short)));
        if rates.iter().all(|(_, _, rate)| rate.is_none()) {
            return Vec::new();
        }
        let burst = self.number("limit-burst-multiplier").unwrap_or(BURST);
        let mut when = Vec::new();
        let old = self.take("limit-whitelist");
        if let Some((key, value)) = self.take("limit-allowlist").or(old) {
            let networks: Vec<_> = words(value).filter_map(Network::parse).collect();
            if networks.len() != words(value).count() {
                self.refuse(
                    key,
                    "some of it is no network, and is counted as everybody is",
                );
            }
            when.push(Predicate {
                subject: Subject::Client,
                test: Test::Network(networks.into()),
                negate: true,
                missing_is_empty: false,
            });
        }
        let limit = |(short, seconds, rate): (&str, u64, Option<u64>)| {
            let rate = rate.filter(|rate| *rate > 0)?;
            Some(Arc::new(RateLimit {
                id: format!("ingress/{}/{short}", self.name).into(),
                when: when.clone(),
                keys: vec![LimitKey::Client],
                capacity: rate.saturating_mul(burst).saturating_add(1),
                fill: rate,
                interval: Duration::from_secs(seconds),
                per_connection: false,
                respond: Respond {
                    status: 503,
                    headers: Vec::new(),
                    body: "".into(),
                },
            }))
        };
        rates.into_iter().filter_map(limit).collect()
    }

    pub(super) fn cors(&mut self) -> Option<Arc<Cors>> {
        const METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
        const HEADERS: &str = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,\
                               Cache-Control,Content-Type,Range,Authorization";
        const AGE: u64 = 1_728_000;
        let is_on = self.flag("enable-cors") == Some(true);
        let origins = self.text("cors-allow-origin").unwrap_or("*");
        let methods = self.text("cors-allow-methods").unwrap_or(METHODS);
        let names = self.text("cors-allow-headers").unwrap_or(HEADERS);
        let expose = self.text("cors-expose-headers").unwrap_or_default();
        let credentials = self.flag("cors-allow-credentials").unwrap_or(true);
        let age = self.number("cors-max-age").unwrap_or(AGE);
        let list = |text: &str| words(text).map(Into::into).collect::<Vec<Arc<str>>>();
        let origin = |word: &str| match (word, word.split_once("://*.")) {
            ("*", _) => Origins::Any,
            (_, Some((scheme, rest))) => Origins::Wildcard {
                scheme: scheme.into(),
                suffix: format!(".{rest}").into(),
            },
            _ => Origins::Exact(word.into()),
        };
        is_on.then(|| {
            Arc::new(Cors {
                origins: words(origins).map(origin).collect(),
                methods: list(methods),
                headers: list(names),
                expose: list(expose),
                credentials,
                max_age: Duration::from_secs(age),
            })
        })
    }
}
