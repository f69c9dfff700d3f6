//! The data plane alone, for measurements and conformance suites:
//! `gateway LISTEN ORIGIN [h2c | HOSTS ROUTES | copy]`.
//!
//! Serves HOSTS hosts `h0`, `h1`, … with ROUTES path prefixes `/r0/`, `/r1/`, … each, and any
//! other request of any host, with one thread, from ORIGIN, over HTTP/2 with `h2c`. ORIGIN `none`
//! answers every request with 1 KB. With `copy` it forwards bytes without looking at them: the
//! floor that the gateway's cost is compared with.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lifecycle::{Tasks, snapshot_channel};
use proxy::{Address, Limits, ListenerSettings, Settings};
use routing::model::{
    Action, Arm, Backend, Endpoint, EndpointState, HeaderOps, HostPattern, Match, Origin,
    PathMatch, Protocol, Respond, Route, SortKey, Split, Timeouts,
};
use routing::{BackendId, Model, RouteId, Snapshot, Visibility};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Error = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, origin, rest @ ..] = arguments.as_slice() else {
        return Err("usage: gateway LISTEN ORIGIN [h2c | HOSTS ROUTES | copy]".into());
    };
    let listen = listen.parse()?;
    if origin == "none" {
        return gateway(listen, answers()).await;
    }
    let origin = origin.parse()?;
    let http1 = Protocol::Http1;
    match rest {
        [mode] if mode == "copy" => {
            tokio::task::LocalSet::new()
                .run_until(copy(listen, origin))
                .await
        }
        [mode] if mode == "h2c" => gateway(listen, model((origin, Protocol::H2c), 0, 0)).await,
        [hosts, routes] => {
            let model = model((origin, http1), hosts.parse()?, routes.parse()?);
            gateway(listen, model).await
        }
        _ => gateway(listen, model((origin, http1), 0, 0)).await,
    }
}

async fn gateway(listen: SocketAddr, model: Model) -> Result<(), Error> {
    let tasks = Tasks::new();
    let (publish, snapshots) = snapshot_channel(Snapshot::default());
    let (reports, mut received) = scaling::reports();
    let activator = scaling::start(
        scaling::Settings::KNATIVE,
        snapshots.clone(),
        reports,
        &tasks,
    );
    publish.publish(Arc::new(routing::compile(&model, None).0));
    let settings = Settings {
        listeners: vec![ListenerSettings {
            address: Address::Bind(listen),
            visibility: Visibility::External,
            tls: false,
            proxy_protocol: false,
        }],
        threads: NonZeroUsize::new(1),
        server: None,
        limits: Limits::STANDARD,
        https_port: None,
        issuer: None,
        access_log: None,
    };
    let _gateway = proxy::start(settings, snapshots, activator, &tasks)?;
    while received.recv().await.is_some() {}
    Ok(())
}

/// Answers everything itself.
fn answers() -> Model {
    let respond = Respond {
        status: 200,
        headers: vec![("content-type".into(), "text/plain".into())],
        body: "x".repeat(1024).into(),
    };
    let mut model = Model::default();
    let route = route(HostPattern::Any, Vec::new(), Action::Respond(respond));
    model.routes.insert(RouteId("all".into()), Arc::new(route));
    model
}

fn route(host: HostPattern, matches: Vec<Match>, action: Action) -> Route {
    Route {
        origin: Origin {
            dialect: "example",
            kind: "Example".into(),
            namespace: "default".into(),
            name: "example".into(),
            uid: "1".into(),
            generation: 1,
            field: "spec".into(),
        },
        bind: None,
        visibility: Visibility::External,
        hosts: vec![host],
        sort_key: SortKey::default(),
        matches,
        request_headers: HeaderOps {
            set: vec![("x-gateway".into(), "suimon".into())],
            ..HeaderOps::default()
        },
        rewrite_host: None,
        filters: routing::model::Filters::default(),
        action,
    }
}

fn model((origin, protocol): (SocketAddr, Protocol), hosts: usize, routes: usize) -> Model {
    let mut model = Model::default();
    let id = BackendId("origin".into());
    let backend = Backend {
        id: id.clone(),
        protocol,
        endpoints: vec![Endpoint {
            address: origin,
            state: EndpointState::Ready,
            pod: None,
            weight: 1,
            locality: None,
        }],
        concurrency: 0,
        activation: None,
        timeouts: Timeouts {
            request: Some(std::time::Duration::from_secs(300)),
            ..Timeouts::default()
        },
        tls: None,
        policy: None,
    };
    model.backends.insert(id.clone(), Arc::new(backend));
    let mut add = |host: HostPattern, path: Option<String>| {
        let arm = Arm::new(1, id.clone());
        let matches = path.iter().map(|path| Match {
            path: Some(PathMatch::StringPrefix(path.as_str().into())),
            ..Match::default()
        });
        let name = format!("{host:?}{path:?}");
        let action = Action::Forward(Split::new(vec![arm]).expect("a weight"));
        let route = route(host, matches.collect(), action);
        model.routes.insert(RouteId(name.into()), Arc::new(route));
    };
    add(HostPattern::Any, None);
    for host in 0..hosts {
        for route in 0..routes {
            add(
                HostPattern::Exact(format!("h{host}").into()),
                Some(format!("/r{route}/")),
            );
        }
    }
    model
}

async fn copy(listen: SocketAddr, origin: SocketAddr) -> Result<(), Error> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (mut client, _) = listener.accept().await?;
        tokio::task::spawn_local(async move {
            let mut server = TcpStream::connect(origin).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let (mut from_client, mut to_client) = client.split();
            let (mut from_server, mut to_server) = server.split();
            let up = async {
                let mut buffer = vec![0; 16 * 1024];
                loop {
                    let count = from_client.read(&mut buffer).await?;
                    if count == 0 {
                        return to_server.shutdown().await;
                    }
                    to_server.write_all(&buffer[..count]).await?;
                }
            };
            let down = async {
                let mut buffer = vec![0; 16 * 1024];
                loop {
                    let count = from_server.read(&mut buffer).await?;
                    if count == 0 {
                        return to_client.shutdown().await;
                    }
                    to_client.write_all(&buffer[..count]).await?;
                }
            };
            tokio::try_join!(up, down)?;
            Ok::<(), std::io::Error>(())
        });
    }
}
