//! The RateLimitService: asked about requests of Mappings that have labels of its domain.
//!
//! A label group is a descriptor. As in Emissary, a group whose header is not there is left out as
//! a whole, whatever `omit_if_not_present` says, and the Module's default labels come first in
//! every group. Alone they describe only requests of Mappings without labels, and only to the
//! service of the default domain.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{DescriptorEntry, LimitDescriptor, RateLimitService};
use serde_json::Value;

use super::mapping::Backends;
use super::module::{LABEL_DOMAIN, Settings};
use super::{RATE_LIMIT_SERVICE, auth, cluster, instance, sole};
use crate::fields::{self, Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::objects::{Objects, Reader};
use crate::shared::descriptor;

/// Who is asked about the requests of a Mapping, if it has labels and anybody is asked.
pub(super) fn service(
    spec: &Fields<'_>,
    namespace: &str,
    settings: &Settings,
    reader: &Reader<'_>,
    backends: &mut Backends,
) -> Option<Arc<RateLimitService>> {
    let labels = spec.raw("labels").is_some();
    if !labels && settings.labels.is_null() {
        return None;
    }
    let Some(object) = sole::first(&RATE_LIMIT_SERVICE, reader) else {
        if labels {
            let message = "they describe requests to a RateLimitService, and there is none: \
                           nothing is limited";
            spec.refuse("labels", "RateLimitServiceMissing", message);
        }
        return None;
    };
    let domain = domain(object, &settings.label_domain);
    let descriptors = descriptors(spec, namespace, settings, &domain);
    if descriptors.is_empty() {
        return None;
    }
    let read = |spec: &Fields<'_>| read(spec, object, reader, backends);
    let service = fields::quietly(object.spec(), read);
    Some(Arc::new(RateLimitService {
        domain,
        descriptors,
        ..service
    }))
}

/// Whose labels count.
fn domain(object: &Object, usual: &str) -> Arc<str> {
    let own = object.spec()["domain"].as_str();
    own.filter(|own| !own.is_empty()).unwrap_or(usual).into()
}

/// Without its domain and without descriptors.
fn read(
    spec: &Fields<'_>,
    object: &Object,
    reader: &Reader<'_>,
    backends: &mut Backends,
) -> RateLimitService {
    if !spec.has("service") {
        let message = "service is missing: nobody can be asked";
        spec.refuse("service", "ServiceMissing", message);
    }
    let (reference, found) = auth::backend(spec, "service", object, reader, true);
    let backend = reference.id();
    backends.insert(reference, found);
    let timeout = spec.number::<u32>("timeout_ms");
    let grpc = spec.object("grpc");
    let exhausted = grpc.and_then(|grpc| grpc.bool("use_resource_exhausted_code"));
    RateLimitService {
        backend,
        domain: "".into(),
        timeout: timeout.map_or(descriptor::TIMEOUT, |timeout| {
            Duration::from_millis(timeout.into())
        }),
        fail_open: !spec.bool("failure_mode_deny").unwrap_or(false),
        status_on_error: descriptor::STATUS_ON_ERROR,
        hits: None,
        descriptors: Vec::new(),
        quota_headers: false,
        resource_exhausted: exhausted.unwrap_or(false),
    }
}

/// What of a Mapping's labels is for the service.
fn descriptors(
    spec: &Fields<'_>,
    namespace: &str,
    settings: &Settings,
    domain: &str,
) -> Vec<LimitDescriptor> {
    let cluster = cluster::name(spec, &settings.defaults, namespace);
    let scratch = Findings::default();
    let defaults = Fields::new(&settings.labels[domain], String::new(), &scratch);
    defaults.pass_over();
    let defaults = specifiers(&defaults, "defaults", &cluster).unwrap_or_default();
    let mut groups = Vec::new();
    let labels = spec.object("labels");
    let is_silent = labels.as_ref().is_none_or(|it| it.keys().next().is_none());
    if is_silent && domain == &*settings.label_domain {
        groups.push(Vec::new());
    }
    if let Some(labels) = labels {
        for other in labels.keys().filter(|other| *other != domain) {
            labels.ignore(other);
            let message = format!("the RateLimitService is for domain {domain:?}");
            labels.refuse(other, "OtherDomain", message);
        }
        for group in labels.objects(domain) {
            let names: Vec<_> = group.keys().collect();
            for name in names {
                groups.extend(specifiers(&group, name, &cluster));
            }
        }
    }
    let groups = groups.into_iter().map(|group| LimitDescriptor {
        entries: defaults.iter().cloned().chain(group).collect(),
        when: Vec::new(),
        unless: Vec::new(),
        limit: None,
    });
    groups.filter(|group| !group.entries.is_empty()).collect()
}

/// The Module's own labels: what is wrong with them, and those that nobody gets.
pub(super) fn judge_defaults(config: &Fields<'_>, reader: &Reader<'_>) {
    let usual = config.text("default_label_domain").unwrap_or(LABEL_DOMAIN);
    let Some(labels) = config.object("default_labels") else {
        return;
    };
    let asked = sole::first(&RATE_LIMIT_SERVICE, reader).map(|object| domain(object, usual));
    for other in labels.keys() {
        if let Some(own) = labels.object(other) {
            specifiers(&own, "defaults", "");
        }
        match &asked {
            None => {
                let message = "there is no RateLimitService that they could be sent to";
                labels.refuse(other, "RateLimitServiceMissing", message);
            }
            Some(asked) if **asked != *other => {
                let message = format!("the RateLimitService is for domain {asked:?}");
                labels.refuse(other, "OtherDomain", message);
            }
            Some(_) => {}
        }
    }
}

/// A label group. `None` if one of it cannot be read: with less it would be another one.
fn specifiers(fields: &Fields<'_>, key: &str, cluster: &str) -> Option<Vec<DescriptorEntry>> {
    let mut entries = Some(Vec::new());
    for (at, value) in fields.list(key).into_iter().enumerate() {
        let place = format!("{}[{at}]", fields.at(key));
        let entry = match value {
            Value::String(word) => Ok(by_word(word, cluster)),
            Value::Object(_) => {
                let entry = Fields::new(value, place.clone(), fields.findings());
                specifier(&entry, cluster)
            }
            _ => Err("a label is a word or an object with one key".to_owned()),
        };
        match entry {
            Ok(entry) => entries.iter_mut().for_each(|all| all.push(entry.clone())),
            Err(error) => {
                let message = format!("{error}; the label group is left out");
                fields.findings().refuse("LabelInvalid", &place, message);
                entries = None;
            }
        }
    }
    entries
}

/// The short form of v2; other words stand for themselves.
fn by_word(word: &str, cluster: &str) -> DescriptorEntry {
    match word {
        "source_cluster" => descriptor::generic(Some(word), cluster::SOURCE),
        "destination_cluster" => descriptor::generic(Some(word), cluster),
        "remote_address" => descriptor::remote_address(),
        _ => descriptor::generic(None, word),
    }
}

fn specifier(entry: &Fields<'_>, cluster: &str) -> Result<DescriptorEntry, String> {
    let keys: Vec<_> = entry.keys().collect();
    let [key] = keys[..] else {
        entry.pass_over();
        return Err("a label is a word or an object with one key".to_owned());
    };
    if key == "generic_key"
        && let Some(Value::String(value)) = entry.raw(key)
    {
        return Ok(descriptor::generic(None, value));
    }
    let Some(own) = entry.object(key) else {
        return Err(format!("{key} is not an object"));
    };
    match key {
        "source_cluster" | "destination_cluster" | "remote_address" => {
            if own.text("key").is_some_and(|other| other != key) {
                own.refuse("key", "FieldDiffers", format!("it is always {key}"));
            }
            Ok(by_word(key, cluster))
        }
        "generic_key" => {
            let value = own.text("value").ok_or("generic_key has no value")?;
            Ok(descriptor::generic(own.text("key"), value))
        }
        "request_headers" => header(&own, "header_name", own.text("key")),
        // v2: the key is the label's.
        _ => header(&own, "header", Some(key)),
    }
}

fn header(own: &Fields<'_>, name: &str, key: Option<&str>) -> Result<DescriptorEntry, String> {
    if own.bool("omit_if_not_present") == Some(false) {
        let message = "without the header the whole label group is left out, as in Emissary";
        own.refuse("omit_if_not_present", "FieldDiffers", message);
    }
    let written = own.text(name).unwrap_or_default();
    Ok(DescriptorEntry::Header {
        key: key.ok_or("request_headers has no key")?.into(),
        name: descriptor::header_name(written)?,
        optional: false,
    })
}

/// A RateLimitService by itself.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, reader, _| {
        spec.ignore("stats_name");
        spec.ignore("v2ExplicitTLS");
        spec.str("domain");
        let asked = "asked as envoy.service.ratelimit.v3";
        sole::version(spec, "protocol_version", asked);
        let so = "is in force; one service is asked, not several";
        let first = sole::first(&RATE_LIMIT_SERVICE, reader);
        sole::told(spec, object, first, ("RateLimitServiceTwice", so));
        read(spec, object, reader, &mut Backends::new());
    })
}
