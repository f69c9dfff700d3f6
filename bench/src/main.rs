//! `cargo run --release -p bench -- <what>`: each measurement runs us and a peer in one run on
//! one machine and prints ratios. `bench/README.md` says how to read them.

#![allow(clippy::disallowed_methods)] // A development tool, not the product.
#![allow(unreachable_pub)] // A binary has no public API.
#![allow(clippy::print_stdout)]

mod client;
mod cold;
mod copy;
mod drive;
mod endpoints;
mod http2;
#[cfg(feature = "http3")]
mod http3;
mod idle;
mod machine;
mod memory;
mod objects;
mod origin;
mod origin_echo;
mod origin_http2;
mod overload;
mod peers;
mod policies;
mod proxy;
mod ready;
mod routes;
mod stats;
mod store;
mod suimon;

use clap::Parser;

#[derive(Parser)]
enum Bench {
    /// First byte from zero, against a bare start of the same program
    Cold(cold::Flags),
    /// CPU and latency of what is proxied, against a raw copy, nginx, HAProxy and Envoy
    Proxy(proxy::Flags),
    /// CPU per proxied request over HTTP/2 and gRPC, against nginx, HAProxy and Envoy
    Http2(http2::Flags),
    /// CPU per proxied request over HTTP/3, against HTTP/2 with TLS and Envoy
    #[cfg(feature = "http3")]
    Http3(http3::Flags),
    /// Memory of an idle client connection, against nginx, HAProxy and Envoy
    Idle(idle::Flags),
    /// Ten times as many requests, and connections, as the gateway may have
    Overload(overload::Flags),
    /// CPU per request with each policy in force, and with all of them, against the plain route
    Policies(policies::Flags),
    /// Service applied → Ready → first 200
    Ready(ready::Flags),
    /// Memory of the idle product, and per idle Service
    Memory(memory::Flags),
    /// One change among thousands of routes, under load; memory, and time to attach them
    Routes(routes::Flags),
    /// Endpoints that come and go under load
    Endpoints(endpoints::Flags),
    /// Memory of the API server for the objects of many Services
    Objects(objects::Flags),
    /// Durable writes, reads, lists and watches of the API, against etcd
    Store(store::Flags),
    /// The origin behind every proxy of `proxy` (runs until killed)
    #[command(hide = true)]
    Origin {
        port: u16,
        #[arg(default_value = "http1")]
        protocol: String,
    },
    /// Bytes to an origin and back, unread (runs until killed)
    #[command(hide = true)]
    Copy { port: u16, origin: u16 },
    /// Load of `proxy` that no other program makes
    #[command(hide = true)]
    Drive(drive::Flags),
}

fn main() -> anyhow::Result<()> {
    let bench = Bench::parse();
    // Fails only if a provider is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match &bench {
        Bench::Origin { port, protocol } => return serve(*port, protocol),
        Bench::Copy { port, origin } => return copy::serve(*port, *origin),
        Bench::Drive(flags) => return drive::run(flags),
        _ => {}
    }
    machine::print()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match bench {
            Bench::Cold(flags) => cold::run(flags).await,
            Bench::Proxy(flags) => proxy::run(flags).await,
            Bench::Http2(flags) => http2::run(flags).await,
            #[cfg(feature = "http3")]
            Bench::Http3(flags) => http3::run(flags).await,
            Bench::Idle(flags) => idle::run(flags).await,
            Bench::Overload(flags) => overload::run(flags).await,
            Bench::Policies(flags) => policies::run(flags).await,
            Bench::Ready(flags) => ready::run(flags).await,
            Bench::Memory(flags) => memory::run(flags).await,
            Bench::Routes(flags) => routes::run(flags).await,
            Bench::Endpoints(flags) => endpoints::run(flags).await,
            Bench::Objects(flags) => objects::run(flags).await,
            Bench::Store(flags) => store::run(flags).await,
            Bench::Origin { .. } | Bench::Copy { .. } | Bench::Drive(_) => Ok(()),
        }
    })
}

fn serve(port: u16, protocol: &str) -> anyhow::Result<()> {
    match protocol {
        "http1" => origin::serve(port, false),
        "named" => origin::serve(port, true),
        "websocket" => origin_echo::serve(port, false),
        "streams" => origin_echo::serve(port, true),
        protocol => origin_http2::serve(port, protocol == "grpc"),
    }
}
