//! Behavior tests of the whole product through its public door.
//!
//! [`Server`] runs the real binary with a data directory of its own on free ports; tests use the
//! command line, the API and the gateway as users do. One file per capability.

#![allow(clippy::disallowed_methods)] // Tests read the environment and end with their tasks.

#[cfg(test)]
mod apisix_routes;
#[cfg(test)]
mod asked;
#[cfg(test)]
mod asked_grpc;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod classes;
#[cfg(test)]
mod containers;
#[cfg(test)]
mod cookies;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod debug;
#[cfg(test)]
mod durability;
#[cfg(test)]
mod endpoint_policies;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod gateway_api;
#[cfg(test)]
mod gateway_edges;
#[cfg(test)]
mod gateway_listeners;
#[cfg(test)]
mod gateway_policies;
#[cfg(test)]
mod gateway_retries;
#[cfg(test)]
mod gateway_scale;
#[cfg(test)]
mod gateway_streams;
#[cfg(test)]
mod gateway_xbackends;
#[cfg(test)]
mod gloo_routes;
#[cfg(test)]
mod grpc_web;
#[cfg(test)]
mod guest;
mod http;
#[cfg(all(test, feature = "http3"))]
mod http3;
#[cfg(test)]
mod hygiene;
#[cfg(test)]
mod in_flight;
#[cfg(test)]
mod ingress;
#[cfg(test)]
mod issuers;
#[cfg(test)]
mod kubectl;
#[cfg(test)]
mod limit_service;
#[cfg(test)]
mod load_ramp;
#[cfg(test)]
mod log_services;
#[cfg(test)]
mod migrated;
#[cfg(test)]
mod migrated_tls;
#[cfg(test)]
mod names;
#[cfg(test)]
mod observability;
#[cfg(test)]
mod pods;
mod program;
#[cfg(test)]
mod protocols;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod resize;
#[cfg(test)]
mod rewrites;
#[cfg(test)]
mod scenarios;
mod server;
#[cfg(test)]
mod services;
#[cfg(test)]
mod serving;
#[cfg(test)]
mod settings_file;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod spans;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tools;
#[cfg(test)]
mod traffic_policy;
#[cfg(test)]
mod tunnels;
#[cfg(test)]
mod volumes;
#[cfg(test)]
mod workloads;

pub use http::{Answer, get, get_with};
pub use server::Server;
