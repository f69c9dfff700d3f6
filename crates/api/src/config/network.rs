//! `config-network`: how routes become hosts and which gateway serves them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ConfigError;
use super::reader::{self, Reader};
use super::template::{Field, Template, Values};
use crate::{names, validation};

/// What plain HTTP does for external hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpProtocol {
    /// It is served.
    Enabled,
    /// It answers with a redirect to HTTPS.
    Redirected,
}

/// Parsed `config-network`.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Class of Ingresses that Routes without the class annotation get.
    pub ingress_class: String,
    pub certificate_class: String,
    domain_template: Template,
    tag_template: Template,
    pub http_protocol: HttpProtocol,
    /// How long a gradual rollout takes; zero switches at once.
    pub rollout_duration: Duration,
    pub autocreate_cluster_domain_claims: bool,
    /// `http` or `https`: scheme of external URLs in status.
    pub default_external_scheme: String,
    pub external_domain_tls: bool,
    /// Whether hosts inside the cluster have certificates as well.
    pub cluster_local_domain_tls: bool,
}

impl Default for Network {
    /// Knative's defaults, with Suimon's classes of Ingresses and Certificates.
    fn default() -> Self {
        Self::parse(&BTreeMap::new()).expect("the defaults are well formed")
    }
}

impl Network {
    /// # Errors
    /// All values that do not parse; templates outside the supported subset.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, Vec<ConfigError>> {
        reader::parse(data, Self::read)
    }

    /// The public host of a route (or of a tag, with [`Network::tagged`] as `values.name`).
    ///
    /// # Errors
    /// When the template yields no valid host name for these values.
    pub fn host(&self, values: &Values<'_>) -> Result<String, String> {
        let host = self.domain_template.render(values);
        match validation::names::dns1123_subdomain(&host) {
            None => Ok(host),
            Some(problem) => Err(format!(
                "domain-template of config-network yields {host:?} for {}: {problem}",
                values.name
            )),
        }
    }

    /// The name that stands for tag `values.tag` of route `values.name` in host names.
    ///
    /// # Errors
    /// When the template yields no valid name for these values.
    pub fn tagged(&self, values: &Values<'_>) -> Result<String, String> {
        let name = self.tag_template.render(values);
        match validation::names::dns1123_subdomain(&name) {
            None => Ok(name),
            Some(problem) => Err(format!(
                "tag-template of config-network yields {name:?} for tag {} of {}: {problem}",
                values.tag, values.name
            )),
        }
    }

    pub(super) fn read(reader: &Reader<'_>) -> Self {
        const ON_OFF: &[(&str, bool)] = &[("Enabled", true), ("Disabled", false)];
        const SCHEMES: &[(&str, &str)] = &[("http", "http"), ("https", "https")];
        const HTTP: &[(&str, HttpProtocol)] = &[
            ("Enabled", HttpProtocol::Enabled),
            ("Redirected", HttpProtocol::Redirected),
        ];
        const HOST: &[Field] = &[Field::Name, Field::Namespace, Field::Domain];
        let oldest_tls = reader.word("autoTLS", false, ON_OFF);
        let older_tls = reader.word("auto-tls", oldest_tls, ON_OFF);
        let older_duration = reader.integer("rolloutDuration", 0);
        let config = Self {
            ingress_class: reader.string(
                "ingress-class",
                &reader.string("ingress.class", names::INGRESS_CLASS),
            ),
            certificate_class: reader.string(
                "certificate-class",
                &reader.string("certificate.class", names::CERTIFICATE_CLASS),
            ),
            domain_template: reader.template(
                "domain-template",
                &reader.string("domainTemplate", "{{.Name}}.{{.Namespace}}.{{.Domain}}"),
                HOST,
            ),
            tag_template: reader.template(
                "tag-template",
                &reader.string("tagTemplate", "{{.Tag}}-{{.Name}}"),
                &[Field::Tag, Field::Name],
            ),
            http_protocol: reader.word(
                "http-protocol",
                reader.word("httpProtocol", HttpProtocol::Enabled, HTTP),
                HTTP,
            ),
            rollout_duration: Duration::from_secs(
                u64::try_from(reader.integer("rollout-duration", older_duration)).unwrap_or_else(
                    |_| {
                        reader.error(
                            "rollout-duration",
                            "rollout-duration must be a positive integer, but was negative",
                        );
                        0
                    },
                ),
            ),
            autocreate_cluster_domain_claims: reader.boolean(
                "autocreate-cluster-domain-claims",
                reader.boolean("autocreateClusterDomainClaims", false),
            ),
            default_external_scheme: reader
                .word(
                    "default-external-scheme",
                    reader.word("defaultExternalScheme", "http", SCHEMES),
                    SCHEMES,
                )
                .to_owned(),
            external_domain_tls: reader.word("external-domain-tls", older_tls, ON_OFF),
            cluster_local_domain_tls: reader.word("cluster-local-domain-tls", false, ON_OFF),
        };
        Self::inner_tls(reader, ON_OFF);
        for key in ["enable-mesh-pod-addressability", "mesh-compatibility-mode"] {
            reader.without_effect(
                key,
                "the gateway addresses pods itself, no sidecar is involved",
            );
        }
        reader.without_effect(
            "namespace-wildcard-cert-selector",
            "certificates are not issued per namespace",
        );
        config.check(reader);
        config
    }

    /// Encryption between Knative's own parts, which is on there only where somebody asks for it.
    fn inner_tls(reader: &Reader<'_>, on_off: &[(&str, bool)]) {
        const OLDER: &[(&str, bool)] = &[("true", true), ("false", false)];
        let between =
            "the gateway speaks to the pods of revisions without a sidecar, in plain HTTP";
        for (key, words, why) in [
            ("internal-encryption", OLDER, between),
            ("system-internal-tls", on_off, between),
        ] {
            if reader.word(key, false, words) {
                reader.key_without_effect(key, why);
            }
        }
    }

    /// Templates must give valid names for an ordinary route, as Knative's own check demands.
    fn check(&self, reader: &Reader<'_>) {
        let sample = Values {
            name: "route",
            namespace: "default",
            domain: "example.com",
            tag: "v1",
            ..Values::default()
        };
        reader.ensure(!self.ingress_class.is_empty(), "ingress-class", || {
            "ingress-class must not be empty".to_owned()
        });
        // Annotations are not known here; a template that needs them is judged per route.
        if !self.domain_template.reads_metadata()
            && let Err(problem) = self.host(&sample)
        {
            reader.error("domain-template", problem);
        }
        if let Err(problem) = self.tagged(&sample) {
            reader.error("tag-template", problem);
        }
    }
}
