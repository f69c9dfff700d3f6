//! What the example serves, put together from words.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use routing::model::tls::{
    Alpn, Certificate, ClientCertificates, PrivateKey, Termination, TlsAction, TlsHost, TlsId,
    TlsVersion, TlsVersions,
};
use routing::model::{
    Action, Activation, Backend, Crypto, Endpoint, EndpointState, Filters, HeaderOps, HostPattern,
    Match, Origin, PathMatch, Protocol, Respond, RevisionId, Route, SortKey, Split, Timeouts,
};
use routing::{BackendId, Model, RouteId, Visibility};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::Error;

mod policies;

/// See [`World::parse`].
#[derive(Debug, Default)]
pub(crate) struct World {
    is_h2c: bool,
    hosts: usize,
    routes: usize,
    is_knative: bool,
    has_policies: bool,
    pub(crate) tls: Option<Arc<Certificate>>,
    /// Over HTTP/3, too.
    pub(crate) is_http3: bool,
    pub(crate) churn: u32,
}

impl World {
    /// `http1` or `h2c`: what the origin speaks. `hosts=N routes=N`: so many hosts `h0`, `h1`, … with so
    /// many path prefixes `/r0/`, `/r1/`, … each. `tls=FILE`: HTTPS with the key and the
    /// certificate in this PEM file. `http3`: over HTTP/3, too, in a build that has it. `knative`: the origin is a revision's pod, with a concurrency
    /// limit and all timeouts. `policies`: a policy of every kind that asks nobody else.
    /// `churn=N`: so many changes of a route a second.
    pub(crate) fn parse(words: &[String]) -> Result<Self, Error> {
        let mut world = Self::default();
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name {
                "http1" => world.is_h2c = false,
                "h2c" => world.is_h2c = true,
                "hosts" => world.hosts = value.parse()?,
                "routes" => world.routes = value.parse()?,
                "knative" => world.is_knative = true,
                "policies" => world.has_policies = true,
                "tls" => world.tls = Some(Arc::new(certificate(value)?)),
                "http3" if cfg!(feature = "http3") => world.is_http3 = true,
                "churn" => world.churn = value.parse()?,
                _ => return Err(format!("{word}: no such word").into()),
            }
        }
        Ok(world)
    }

    /// Everything, with requests sent to `origin` or answered here.
    pub(crate) fn model(&self, origin: Option<SocketAddr>) -> Model {
        let mut model = Model::default();
        let action = match origin {
            Some(origin) => {
                let backend = self.backend(origin);
                let split = Split::one(backend.id.clone());
                model.backends.insert(backend.id.clone(), Arc::new(backend));
                Action::Forward(split)
            }
            None => Action::Respond(answer()),
        };
        let any = self.route(HostPattern::Any, None, action.clone());
        model.routes.insert(RouteId("any".into()), Arc::new(any));
        for host in 0..self.hosts {
            for route in 0..self.routes {
                let name = HostPattern::Exact(format!("h{host}").into());
                let made = self.route(name, Some(format!("/r{route}/")), action.clone());
                let id = RouteId(format!("h{host}/r{route}").into());
                model.routes.insert(id, Arc::new(made));
            }
        }
        if let Some(certificate) = &self.tls {
            let host = Arc::new(https(certificate));
            model.tls.insert(TlsId("any".into()), host);
        }
        model
    }

    /// Changes the answer of a route that nobody asks for.
    pub(crate) fn change(&self, model: &mut Model, number: u64) {
        let respond = Respond {
            body: number.to_string().into(),
            ..answer()
        };
        let name = HostPattern::Exact("changing.example".into());
        let route = self.route(name, None, Action::Respond(respond));
        let id = RouteId("changing".into());
        model.routes.insert(id, Arc::new(route));
    }

    fn backend(&self, origin: SocketAddr) -> Backend {
        let limit = |seconds| self.is_knative.then(|| Duration::from_secs(seconds));
        Backend {
            id: BackendId("origin".into()),
            protocol: if self.is_h2c {
                Protocol::H2c
            } else {
                Protocol::Http1
            },
            endpoints: vec![Endpoint {
                address: origin,
                state: EndpointState::Ready,
                pod: self.is_knative.then(|| "default/pod".into()),
                weight: 1,
                locality: None,
            }],
            concurrency: if self.is_knative { 10_000 } else { 0 },
            activation: self.is_knative.then(|| Activation {
                revision: RevisionId {
                    namespace: "default".into(),
                    name: "bench-00001".into(),
                },
                service: "bench".into(),
                configuration: "bench".into(),
            }),
            timeouts: Timeouts {
                request: Some(Duration::from_secs(300)),
                response_start: limit(300),
                idle: limit(60),
                ends_answer: true,
            },
            tls: None,
            policy: self.has_policies.then(|| Arc::new(policies::backend())),
        }
    }

    fn route(&self, host: HostPattern, path: Option<String>, action: Action) -> Route {
        let matches = path.iter().map(|path| Match {
            path: Some(PathMatch::StringPrefix(path.as_str().into())),
            ..Match::default()
        });
        let mut set = vec![("x-gateway".into(), "suimon".into())];
        if self.is_knative {
            set.push(("knative-serving-revision".into(), "bench-00001".into()));
            set.push(("knative-serving-namespace".into(), "default".into()));
        }
        Route {
            origin: place(),
            bind: None,
            visibility: Visibility::External,
            hosts: vec![host],
            sort_key: SortKey::default(),
            matches: matches.collect(),
            request_headers: HeaderOps {
                set,
                ..HeaderOps::default()
            },
            rewrite_host: None,
            filters: if self.has_policies {
                policies::filters()
            } else {
                Filters::default()
            },
            action,
        }
    }
}

fn place() -> Origin {
    Origin {
        dialect: "example",
        kind: "Example".into(),
        namespace: "default".into(),
        name: "example".into(),
        uid: "1".into(),
        generation: 1,
        field: "spec".into(),
    }
}

fn answer() -> Respond {
    Respond {
        status: 200,
        headers: vec![("content-type".into(), "text/plain".into())],
        body: "x".repeat(1024).into(),
    }
}

fn certificate(file: &str) -> Result<Certificate, Error> {
    let pem = std::fs::read(file)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .map(|certificate| certificate.map(|der| Box::from(der.as_ref())))
        .collect::<Result<Vec<Box<[u8]>>, rustls::pki_types::pem::Error>>()?;
    let key = PrivateKeyDer::from_pem_slice(&pem)?;
    Ok(Certificate {
        name: file.into(),
        chain,
        key: PrivateKey::new(key.secret_der().into()),
        staple: None,
    })
}

fn https(certificate: &Arc<Certificate>) -> TlsHost {
    TlsHost {
        origin: place(),
        bind: None,
        visibility: Visibility::External,
        names: vec![HostPattern::Any],
        sort_key: SortKey::default(),
        action: TlsAction::Terminate(Termination {
            certificates: vec![Arc::clone(certificate)],
            versions: TlsVersions {
                min: TlsVersion::V1_2,
                max: TlsVersion::V1_3,
            },
            crypto: Crypto::ANY,
            protocols: vec![Alpn::Http2, Alpn::Http1],
            client: ClientCertificates::None,
        }),
    }
}
