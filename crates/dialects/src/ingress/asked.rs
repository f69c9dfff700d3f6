//! Who is asked about the requests of an Ingress: a Service of the cluster, or a host outside.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::tls::{TlsVersion, TlsVersions, Trust, UpstreamTls};
use routing::model::{
    Action, AuthRequest, AuthorizationProtocol, Crypto, ExternalAuthorization, HostPattern,
    Protocol, Route,
};

use super::nginx;
use super::nginx::auth::Auth;
use super::translator::Translator;
use crate::diagnostic::{Diagnostic, Effect};
use crate::foreign::BackendSpec;
use crate::objects::Name;
use crate::overlay;
use crate::shared::upstream::{self, Place};

/// NGINX waits so long for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Translator<'_> {
    /// Has a service asked about every request of a route, if that is wanted; a route whose service
    /// cannot be asked is closed.
    pub(super) fn ask(&mut self, route: &mut Route) {
        let Some(auth) = self.wishes.auth.clone() else {
            return;
        };
        match self.asked(&auth, &route.hosts) {
            Ok(external) => {
                overlay::guards_of(&mut route.filters).external = Some(Arc::new(external));
            }
            Err((effect, reason, why)) => {
                let message = format!(
                    "annotation {}: {why}; its paths answer 503 until it can be served",
                    auth.key
                );
                let field = format!("metadata.annotations[{}]", auth.key);
                let finding = Diagnostic::new(effect, reason, &field, message);
                self.out.diagnostics.push(finding);
                route.action = Action::Respond(nginx::closed());
            }
        }
    }

    fn asked(
        &mut self,
        auth: &Auth,
        hosts: &[HostPattern],
    ) -> Result<ExternalAuthorization, upstream::Nowhere> {
        let host = match (&auth.host, hosts) {
            (Some(host), _) => Arc::clone(host),
            (None, [HostPattern::Exact(host)]) => Arc::clone(host),
            (None, _) => {
                let why = "$host is the host of the rule, and this one is for several: write the \
                           host that is asked";
                return Err((Effect::Refused, "AnnotationInvalid", why.to_owned()));
            }
        };
        let mut spec = BackendSpec::default();
        let place = match service(&host) {
            Some(name) => {
                let port = IntOrString::Int(i32::from(auth.port));
                let place = upstream::find(&self.reader, &name, &port)?;
                if let Place::Service { name, port } = &place {
                    spec = overlay::endpoints(&self.reader, name, *port, spec);
                }
                place
            }
            None => Place::Host {
                host: Arc::clone(&host),
                port: auth.port,
            },
        };
        spec.protocol = Some(Protocol::Http1);
        if auth.is_tls {
            spec.tls = Some(unverified(&host));
        }
        let own = Arc::clone(&self.name.namespace);
        let (reference, spec) = upstream::reference("ingress", &own, place, false, spec);
        let backend = reference.id();
        self.out.backends.insert(reference, spec);
        Ok(ExternalAuthorization {
            backend,
            protocol: AuthorizationProtocol::AuthRequest(Arc::new(AuthRequest {
                host,
                ..auth.request.clone()
            })),
            timeout: TIMEOUT,
            fail_open: false,
            status_on_error: 500,
            request_headers: Vec::new(),
            upstream_headers: auth.headers.clone(),
            client_headers: Vec::new(),
            reserved_headers: Vec::new(),
            when: Vec::new(),
            context: Vec::new(),
            body: None,
        })
    }
}

/// The Service that a name within the cluster stands for.
fn service(host: &str) -> Option<Name> {
    let name = host
        .strip_suffix(".svc.cluster.local")
        .or_else(|| host.strip_suffix(".svc"))?;
    let (service, namespace) = name.split_once('.')?;
    Some(Name::new(namespace, service))
}

/// As NGINX speaks TLS to whom it asks: with anybody who answers.
fn unverified(host: &str) -> Arc<UpstreamTls> {
    Arc::new(UpstreamTls {
        server_name: host.into(),
        accepted_names: Vec::new(),
        trust: Trust::Unverified,
        client: None,
        versions: TlsVersions {
            min: TlsVersion::V1_2,
            max: TlsVersion::V1_3,
        },
        crypto: Crypto::ANY,
    })
}
