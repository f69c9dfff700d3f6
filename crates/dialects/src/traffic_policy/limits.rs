//! `rateLimitService`: another Service keeps limits for all gateways together.

use std::sync::Arc;

use routing::model::{
    BackendId, DescriptorEntry, LimitDescriptor, LimitOverride, RateLimitService,
};

use super::load;
use super::read::time;
use crate::fields::Fields;
use crate::shared::descriptor;

/// Who is asked, and about what; the backend is found where the policy is in force.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Limits {
    /// In the policy's own namespace.
    pub(super) service: Option<(Arc<str>, u16)>,
    /// Without a backend.
    pub(super) settings: RateLimitService,
}

impl Limits {
    /// With the backend; without one nobody can be asked.
    pub(super) fn with(&self, backend: Option<BackendId>) -> RateLimitService {
        let mut settings = self.settings.clone();
        settings.backend = backend.unwrap_or(settings.backend);
        settings
    }
}

/// `None` if nothing could be counted by it.
pub(super) fn read(fields: &Fields<'_>) -> Option<Limits> {
    let service = fields.object("service").and_then(|service| {
        let port = service.number::<u16>("port").filter(|port| *port > 0);
        Some((Arc::from(service.text("name")?), port?))
    });
    if service.is_none() {
        let message = "a Service of the policy's namespace with name and port is needed: nobody \
                       can be asked, so nobody passes unless failOpen says so";
        fields.refuse("service", "ServiceInvalid", message);
    }
    let status = fields.number::<u16>("statusOnError");
    let is_one = |status: &u16| (200..600).contains(status);
    if status.is_some_and(|status| !is_one(&status)) {
        let message = "it is not the status of an answer";
        fields.refuse("statusOnError", "FieldInvalid", message);
    }
    let flag = |key| fields.bool(key).unwrap_or(false);
    let settings = RateLimitService {
        backend: BackendId("suimon/none".into()),
        domain: fields.text("domain").unwrap_or_default().into(),
        timeout: time(fields, "timeout").unwrap_or(descriptor::TIMEOUT),
        fail_open: flag("failOpen"),
        status_on_error: status.filter(is_one).unwrap_or(descriptor::STATUS_ON_ERROR),
        hits: fields.number("hits"),
        descriptors: descriptors(fields),
        quota_headers: flag("quotaHeaders"),
        resource_exhausted: flag("resourceExhausted"),
    };
    if settings.domain.is_empty() || settings.descriptors.is_empty() {
        let message = "domain and descriptors are needed: nothing is limited by it";
        let findings = fields.findings();
        findings.refuse("LimitInvalid", fields.path(), message);
        return None;
    }
    Some(Limits { service, settings })
}

/// One that cannot be read is left out: with less it would be another one.
fn descriptors(fields: &Fields<'_>) -> Vec<LimitDescriptor> {
    let all = fields.objects("descriptors");
    all.iter().filter_map(descriptor).collect()
}

fn descriptor(fields: &Fields<'_>) -> Option<LimitDescriptor> {
    let written = fields.objects("entries");
    let entries: Vec<_> = written.iter().map(entry).collect();
    let when = fields.object("match").map(|it| load::when(&it));
    let limit = fields.object("limit").map(|it| amount(&it));
    if entries.is_empty() {
        let message = "a descriptor without entries describes nothing";
        fields.refuse("entries", "EntriesMissing", message);
        return None;
    }
    Some(LimitDescriptor {
        entries: entries.into_iter().collect::<Option<_>>()?,
        when: when.unwrap_or_default(),
        unless: Vec::new(),
        limit: match limit {
            None => None,
            Some(limit) => Some(limit?),
        },
    })
}

fn amount(fields: &Fields<'_>) -> Option<LimitOverride> {
    let requests = fields.number("requests");
    let unit = fields.parse("unit", descriptor::unit);
    if requests.is_none() || !fields.has("unit") {
        let message = "requests and unit are needed: the descriptor is left out";
        fields.refuse("requests", "LimitInvalid", message);
    }
    Some(LimitOverride {
        requests: requests?,
        unit: unit?,
    })
}

fn entry(fields: &Fields<'_>) -> Option<DescriptorEntry> {
    let key = fields.text("key");
    let value = fields.str("value");
    let header = fields.text("header");
    let optional = fields.bool("optional").unwrap_or(false);
    let client = fields.bool("client") == Some(true);
    let network = fields.object("clientNetwork").map(|network| {
        let length = |key: &str| network.number::<u8>(key);
        (length("ipv4").unwrap_or(32), length("ipv6").unwrap_or(128))
    });
    let matched = fields.object("match").map(|it| load::when(&it));
    let expect = fields.bool("expect").unwrap_or(true);
    let or = |usual: &str| -> Arc<str> { key.unwrap_or(usual).into() };
    let found = match (header, value) {
        (Some(header), _) => match descriptor::header_name(header) {
            Ok(name) => Some(DescriptorEntry::Header {
                key: or(&name),
                name,
                optional,
            }),
            Err(error) => {
                fields.refuse("header", "HeaderInvalid", error);
                return None;
            }
        },
        (None, Some(value)) => Some(match matched {
            Some(when) => DescriptorEntry::Match {
                key: or("header_match"),
                value: value.into(),
                when,
                expect,
            },
            None => DescriptorEntry::Fixed {
                key: or(descriptor::GENERIC_KEY),
                value: value.into(),
            },
        }),
        (None, None) if client => Some(DescriptorEntry::Client {
            key: or("remote_address"),
        }),
        (None, None) => network.map(|(v4, v6)| DescriptorEntry::ClientNetwork {
            key: or("masked_remote_address"),
            v4: v4.min(32),
            v6: v6.min(128),
        }),
    };
    if found.is_none() {
        let message =
            "write value, header, client: true or clientNetwork: the descriptor is left out";
        let findings = fields.findings();
        findings.refuse("EntryInvalid", fields.path(), message);
    }
    found
}
