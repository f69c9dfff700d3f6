//! Global rate limits: `rateLimitPolicy.global` of hosts and routes, and the service that a
//! ContourConfiguration names for them.

use std::sync::Arc;

use routing::model::{BackendId, DescriptorEntry, LimitDescriptor, RateLimitService};

use super::condition;
use super::extension;
use super::service::Backends;
use crate::fields::Fields;
use crate::objects::{Name, Reader};
use crate::shared::descriptor;

/// `global` of a policy.
#[derive(Clone, Debug, Default)]
pub(super) enum Global {
    /// As others say.
    #[default]
    Unsaid,
    Disabled,
    Said {
        field: String,
        descriptors: Vec<LimitDescriptor>,
    },
}

impl Global {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, String> {
        if fields.bool("disabled").unwrap_or(false) {
            fields.ignore("descriptors");
            return Ok(Self::Disabled);
        }
        let written = fields.objects("descriptors");
        // Each is read for what is wrong with it.
        let descriptors: Vec<_> = written.iter().map(read).collect();
        let descriptors: Result<Vec<_>, _> = descriptors.into_iter().collect();
        let descriptors = descriptors?;
        if descriptors.is_empty() {
            return Ok(Self::Unsaid);
        }
        Ok(Self::Said {
            field: fields.at("descriptors"),
            descriptors,
        })
    }

    /// A route's own, in place of its host's.
    pub(super) fn or<'a>(&'a self, of_host: &'a Self) -> &'a Self {
        match self {
            Self::Unsaid => of_host,
            own => own,
        }
    }

    pub(super) fn descriptors(&self) -> &[LimitDescriptor] {
        match self {
            Self::Said { descriptors, .. } => descriptors,
            Self::Unsaid | Self::Disabled => &[],
        }
    }
}

fn read(fields: &Fields<'_>) -> Result<LimitDescriptor, String> {
    let entries = fields.objects("entries");
    let entries: Vec<_> = entries.iter().map(entry).collect();
    let entries: Result<Vec<_>, _> = entries.into_iter().collect();
    let entries = entries?;
    if entries.is_empty() {
        return Err("rate limit descriptor must have at least one entry".to_owned());
    }
    Ok(LimitDescriptor {
        entries,
        when: Vec::new(),
        unless: Vec::new(),
        limit: None,
    })
}

fn entry(fields: &Fields<'_>) -> Result<DescriptorEntry, String> {
    let generic = fields.object("genericKey").map(|it| generic(&it));
    let header = fields.object("requestHeader").map(|it| header(&it));
    let matched = fields.object("requestHeaderValueMatch");
    let matched = matched.map(|it| value_match(&it));
    let address = fields.object("remoteAddress");
    let address = address.map(|_| Ok(descriptor::remote_address()));
    let all = [generic, header, matched, address];
    let mut all = all.into_iter().flatten();
    match (all.next(), all.next()) {
        (Some(only), None) => only,
        _ => Err("rate limit descriptor entry must have exactly one field set".to_owned()),
    }
}

fn generic(fields: &Fields<'_>) -> Result<DescriptorEntry, String> {
    let (key, value) = (fields.text("key"), fields.text("value"));
    let value = value.ok_or("rate limit descriptor: genericKey has no value")?;
    Ok(descriptor::generic(key, value))
}

fn header(fields: &Fields<'_>) -> Result<DescriptorEntry, String> {
    let (key, name) = (fields.text("descriptorKey"), fields.text("headerName"));
    let key = key.ok_or("rate limit descriptor: requestHeader has no descriptorKey")?;
    Ok(DescriptorEntry::Header {
        key: key.into(),
        name: descriptor::header_name(name.unwrap_or_default())?,
        optional: false,
    })
}

fn value_match(fields: &Fields<'_>) -> Result<DescriptorEntry, String> {
    let value = fields.text("value");
    let expect = fields.bool("expectMatch").unwrap_or(true);
    let when = condition::of_headers(fields, "headers");
    let value = value.ok_or("rate limit descriptor: requestHeaderValueMatch has no value")?;
    Ok(DescriptorEntry::Match {
        key: descriptor::HEADER_MATCH.into(),
        value: value.into(),
        when: when.map_err(|text| format!("rate limit descriptor: {text}"))?,
        expect,
    })
}

/// `rateLimitService`.
pub(super) struct Service {
    name: Option<Name>,
    domain: Arc<str>,
    fail_open: bool,
    quota_headers: bool,
    resource_exhausted: bool,
    /// Of hosts that do not say their own.
    pub(super) default: Global,
}

impl Service {
    pub(super) fn read(fields: &Fields<'_>, reader: &Reader<'_>) -> Self {
        let written = fields.object("extensionService");
        let part = |key| written.as_ref().and_then(|it| it.text(key));
        let name = part("name").zip(part("namespace"));
        let name = name.map(|(name, namespace)| Name::new(namespace, name));
        let is_there = |name: &Name| extension::is_there(reader, name);
        if !name.as_ref().is_some_and(is_there) {
            let text = "no ExtensionService of this name and namespace: nobody can be asked";
            fields.refuse("extensionService", "ExtensionServiceNotFound", text);
        }
        let policy = fields.object("defaultGlobalRateLimitPolicy");
        let default = policy.map_or(Ok(Global::Unsaid), |it| Global::read(&it));
        let default = default.unwrap_or_else(|text| {
            let key = "defaultGlobalRateLimitPolicy";
            fields.refuse(key, "RateLimitPolicyNotValid", text);
            Global::Unsaid
        });
        let flag = |key| fields.bool(key).unwrap_or(false);
        Self {
            name,
            domain: fields.text("domain").unwrap_or("contour").into(),
            fail_open: flag("failOpen"),
            quota_headers: flag("enableXRateLimitHeaders"),
            resource_exhausted: flag("enableResourceExhaustedCode"),
            default,
        }
    }

    /// Who is asked; the descriptors are each route's own.
    pub(super) fn resolve(&self, backends: &mut Backends<'_, '_>) -> RateLimitService {
        let nobody = || BackendId("contour/rateLimitService".into());
        let name = self.name.as_ref();
        let found = name.and_then(|name| extension::asked(name, descriptor::TIMEOUT, backends));
        let (backend, timeout) = found.unwrap_or_else(|| (nobody(), descriptor::TIMEOUT));
        RateLimitService {
            backend,
            domain: Arc::clone(&self.domain),
            timeout,
            fail_open: self.fail_open,
            status_on_error: descriptor::STATUS_ON_ERROR,
            hits: None,
            descriptors: Vec::new(),
            quota_headers: self.quota_headers,
            resource_exhausted: self.resource_exhausted,
        }
    }
}
