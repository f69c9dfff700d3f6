//! `virtualhost` of a root: whom it is for, and the policies of all of its routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::tls::Termination;
use routing::model::{Authorization, Cors, ExternalAuthorization, HostPattern, TokenProvider};

use super::configuration::Settings;
use super::extension::Asked;
use super::guard::{self, Limits, Provider};
use super::service::Backends;
use super::spec::Spec;
use super::status::{Judgement, Problem, Told, kind};
use super::tls::{self, Others};
use super::{DIALECT, HTTP_PROXY, cors, fqdn_key, spec};
use crate::fields::Fields;
use crate::foreign::Object;
use crate::objects::{Name, Reader};
use crate::shared::host;

/// Label on objects that Knative's controller made: the Ingress that they are for.
const KNATIVE_PARENT: &str = "contour.networking.knative.dev/parent";

/// As it is written.
pub(super) struct VirtualHost {
    pub(super) field: String,
    pub(super) fqdn: String,
    pub(super) tls: Option<tls::Spec>,
    pub(super) authorization: Option<Asked>,
    cors: Option<Result<Arc<Cors>, String>>,
    limits: Result<Limits, String>,
    providers: Vec<Provider>,
    addresses: Told<Option<Authorization>>,
}

/// What was found of it before its routes are.
#[derive(Default)]
pub(super) struct Prepared {
    /// How TLS is ended.
    pub(super) termination: Option<Termination>,
    pub(super) external: Option<ExternalAuthorization>,
    pub(super) providers: BTreeMap<String, TokenProvider>,
    pub(super) default_provider: Option<String>,
}

/// Policies of all routes that do not have their own.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) cors: Option<Arc<Cors>>,
    pub(super) limits: Limits,
    pub(super) addresses: Option<Authorization>,
}

impl VirtualHost {
    pub(super) fn read(fields: &Fields<'_>, object: &Object, reader: &Reader<'_>) -> Self {
        let namespace = &object.name.namespace;
        let limit_id = format!("{DIALECT}/{}/{}", object.name, fields.at("rateLimitPolicy"));
        let limit = fields.object("rateLimitPolicy");
        let providers = fields.objects("jwtProviders").into_iter();
        Self {
            field: fields.path().to_owned(),
            fqdn: fields
                .str("fqdn")
                .unwrap_or_default()
                .trim()
                .to_ascii_lowercase(),
            tls: fields.object("tls").map(|it| tls::Spec::read(&it)),
            authorization: fields
                .object("authorization")
                .map(|it| Asked::read(&it, namespace)),
            cors: fields.object("corsPolicy").map(|it| cors::read(&it)),
            limits: limit.map_or_else(|| Ok(Limits::default()), |it| guard::limits(&it, &limit_id)),
            providers: providers
                .map(|it| guard::provider(&it, reader, namespace))
                .collect(),
            addresses: guard::addresses(fields, &object.name),
        }
    }

    fn problem(&self, reason: &'static str, text: impl Into<String>) -> Problem {
        Problem::new(kind::VIRTUAL_HOST, reason, &self.field, text)
    }

    /// Whom it is for, if nobody else is.
    pub(super) fn pattern(&self, object: &Object, reader: &Reader<'_>) -> Told<HostPattern> {
        let fqdn = &self.fqdn;
        if fqdn.is_empty() {
            let text = "Spec.VirtualHost.Fqdn must be specified";
            return Err(self.problem("FQDNNotSpecified", text));
        }
        let key = fqdn_key(fqdn, spec::is_internal(object));
        let same = reader.foreign_by_key(object.kind, &key);
        let mut same: Vec<_> = same.map(|other| other.name.to_string()).collect();
        if spec::is_legacy(object) {
            let newer = reader.foreign_by_key(&HTTP_PROXY, &key);
            same.extend(newer.map(|other| other.name.to_string()));
        }
        if same.len() > 1 {
            let all = same.join(", ");
            let text = format!("fqdn {fqdn:?} is used in multiple HTTPProxies: {all}");
            return Err(self.problem("DuplicateVhost", text));
        }
        let pattern = match fqdn.strip_prefix("*.") {
            Some(suffix) if host::is_name(suffix) => HostPattern::Label(suffix.into()),
            None if host::is_name(fqdn) => HostPattern::Exact(fqdn.as_str().into()),
            _ => {
                let text = format!("Spec.VirtualHost.Fqdn {fqdn:?} is not a host name");
                return Err(self.problem("FQDNNotValid", text));
            }
        };
        let parent = object.labels.get(KNATIVE_PARENT);
        let parent = parent.map(|parent| Name::new(&object.name.namespace, parent));
        let parent = parent.or_else(|| object.maker.clone());
        match reader.host_owner(&pattern) {
            Some(owner) if Some(&owner.owner) != parent.as_ref() => {
                let text = format!("host {fqdn} belongs to the Knative Ingress {}", owner.owner);
                Err(self.problem("DomainConflict", text))
            }
            _ => Ok(pattern),
        }
    }

    /// Everything that must be right before routes are looked at.
    pub(super) fn prepare(
        &self,
        object: &Object,
        spec: &Spec,
        settings: &Settings,
        backends: &mut Backends<'_, '_>,
    ) -> Told<Prepared> {
        self.check(object, spec, settings)?;
        let mut out = Prepared::default();
        let namespace = &object.name.namespace;
        let own = self.authorization.as_ref().filter(|asked| asked.is_named());
        if let Some(tls) = &self.tls {
            let others = Others {
                authorization: own.is_some(),
                tokens: !self.providers.is_empty(),
            };
            out.termination = tls.resolve(backends.reader, namespace, &others, settings)?;
        }
        if let Some(asked) = own.or(settings.authorization.as_ref()) {
            out.external = asked.resolve(backends)?;
        }
        for provider in &self.providers {
            let problem =
                |reason, text: String| Problem::new(kind::JWT, reason, &provider.field, text);
            let name = &provider.name;
            if out.providers.contains_key(name) {
                let text =
                    format!("Spec.VirtualHost.JWTProviders is invalid: duplicate name {name}");
                return Err(problem("DuplicateProviderName", text));
            }
            if provider.is_default && out.default_provider.replace(name.clone()).is_some() {
                let text = "Spec.VirtualHost.JWTProviders is invalid: at most one provider can \
                            be set as the default";
                return Err(problem(
                    "MultipleDefaultProvidersSpecified",
                    text.to_owned(),
                ));
            }
            out.providers.insert(name.clone(), provider.tokens.clone()?);
        }
        Ok(out)
    }

    fn check(&self, object: &Object, spec: &Spec, settings: &Settings) -> Told<()> {
        if !settings.is_root_namespace(&object.name.namespace) {
            let text = "root HTTPProxy cannot be defined in this namespace";
            let reason = "RootProxyNotAllowedInNamespace";
            return Err(Problem::new(
                kind::ROOT_NAMESPACE,
                reason,
                &self.field,
                text,
            ));
        }
        if spec.routes.is_empty() && spec.includes.is_empty() && spec.tcp.is_none() {
            let text = "HTTPProxy.Spec must have at least one Route, Include, or a TCPProxy";
            return Err(Problem::new(kind::SPEC, "NothingDefined", "spec", text));
        }
        let terminates = self.tls.as_ref().is_some_and(tls::Spec::terminates);
        if !self.providers.is_empty() && !terminates {
            let text = "Spec.VirtualHost.JWTProviders can only be defined for root HTTPProxies \
                        that terminate TLS";
            let field = format!("{}.jwtProviders", self.field);
            return Err(Problem::new(
                kind::JWT,
                "JWTVerificationNotPermitted",
                &field,
                text,
            ));
        }
        let asks = self.authorization.as_ref().is_some_and(Asked::is_named);
        if asks && self.tls.is_none() {
            let text = "Spec.VirtualHost.Authorization.ExtensionServiceRef can only be defined \
                        for root HTTPProxies that terminate TLS";
            let field = format!("{}.authorization", self.field);
            return Err(Problem::new(kind::AUTH, "AuthNotPermitted", &field, text));
        }
        match &self.addresses {
            Err(problem) if problem.reason == "IncompatibleIPAddressFilters" => {
                let text = "Spec.VirtualHost.IPAllowFilterPolicy and \
                            Spec.VirtualHost.IPDenyFilterPolicy cannot both be defined.";
                let problem = problem.clone();
                Err(Problem {
                    message: text.to_owned(),
                    ..problem
                })
            }
            _ => Ok(()),
        }
    }

    /// What is looked at after the routes.
    pub(super) fn shared(&self, judgement: &mut Judgement) -> Told<Shared> {
        let cors = self.cors.clone().transpose().map_err(|text| {
            let text = format!("Spec.VirtualHost.CORSPolicy: {text}");
            let field = format!("{}.corsPolicy", self.field);
            Problem::new(kind::CORS, "PolicyDidNotParse", &field, text)
        })?;
        let limits = self.limits.clone().map_err(|text| {
            let text = format!("Spec.VirtualHost.RateLimitPolicy is invalid: {text}");
            self.problem("RateLimitPolicyNotValid", text)
        })?;
        let addresses = self.addresses.clone().map_err(|problem| {
            let text = format!(
                "Spec.VirtualHost.IPAllowFilterPolicy or Spec.VirtualHost.IPDenyFilterPolicy is invalid: {}",
                problem.message
            );
            let field = problem.field.clone();
            judgement.error(problem);
            Problem::new(kind::IP_FILTER, "IPFilterPolicyNotValid", &field, text)
        })?;
        Ok(Shared {
            cors,
            limits,
            addresses,
        })
    }
}
