//! The data plane alone, with one thread, for measurements and conformance suites:
//! `gateway LISTEN ORIGIN [WHAT…]`.
//!
//! Sends any request of any host to ORIGIN; `none` instead answers every request with 1 KB. What
//! else it serves is said by words: see [`world::World::parse`]. With `copy` it forwards bytes
//! without looking at them: the floor that the gateway's cost is compared with.

mod copy;
mod world;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::{Publish, Tasks, snapshot_channel};
use proxy::{Address, Limits, ListenerSettings, Settings};
use routing::{Model, Snapshot, Visibility};
use scaling::Activator;

use world::World;

type Error = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, origin, words @ ..] = arguments.as_slice() else {
        return Err("usage: gateway LISTEN ORIGIN [WHAT…]".into());
    };
    let listen = listen.parse()?;
    if words == ["copy"] {
        let local = tokio::task::LocalSet::new();
        return local.run_until(copy::serve(listen, origin.parse()?)).await;
    }
    let world = World::parse(words)?;
    let origin = (origin != "none")
        .then(|| origin.parse::<SocketAddr>())
        .transpose()?;
    gateway(listen, origin, &world).await
}

async fn gateway(
    listen: SocketAddr,
    origin: Option<SocketAddr>,
    world: &World,
) -> Result<(), Error> {
    let tasks = Tasks::new();
    let (publish, snapshots) = snapshot_channel(Snapshot::default());
    let (reports, mut received) = scaling::reports();
    let activator: Activator = scaling::start(
        scaling::Settings::KNATIVE,
        snapshots.clone(),
        reports,
        &tasks,
    );
    let model = world.model(origin);
    publish.publish(Arc::new(routing::compile(&model, None).0));
    let settings = Settings {
        listeners: vec![ListenerSettings {
            address: Address::Bind(vec![listen]),
            visibility: Visibility::External,
            tls: world.tls.is_some(),
            proxy_protocol: false,
        }],
        threads: NonZeroUsize::new(1),
        server: None,
        client: None,
        limits: Limits::STANDARD,
        https_port: None,
        issuer: None,
        callers: None,
        access_log: None,
        #[cfg(feature = "http3")]
        http3: world.is_http3,
    };
    let _gateway = proxy::start(settings, snapshots, activator, &tasks)?;
    let reports = async { while received.recv().await.is_some() {} };
    tokio::join!(reports, churn(&publish, model, world));
    Ok(())
}

/// Changes one route so many times a second.
async fn churn(publish: &Publish<Snapshot>, mut model: Model, world: &World) {
    if world.churn == 0 {
        return;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / world.churn);
    for number in 0u64.. {
        ticks.tick().await;
        world.change(&mut model, number);
        let current = publish.current();
        publish.publish(Arc::new(routing::compile(&model, Some(&current)).0));
    }
}
