//! The binary: flags, roles and commands.
//!
//! Hidden roles (the pods' spawner, what holds a pod's shared processes, the sample program) run before anything else is set up:
//! they must stay small and single-threaded.

#![allow(clippy::disallowed_methods)] // This is the crate that reads the environment.
#![allow(unreachable_pub)] // A binary has no public API.
#![allow(clippy::print_stdout)] // The command line's answers go to stdout.

mod access;
mod cli;
mod commands;
mod gateway_view;
mod heap;
mod manifest;
mod output;
mod progress;
mod resources;
mod roles;
mod sample;
mod settings;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(roles::system::SPAWNER_ROLE) => {
            let code = node::spawner::main();
            // Its parent has ended, killed perhaps.
            services::remove_abandoned();
            return code;
        }
        Some(node::spawner::pause::ROLE) => return node::spawner::pause::main(),
        Some(sample::ROLE) => return sample::main(),
        _ => {}
    }
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // Fails only if a provider is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let workers = if matches!(cli.command, Command::Up(_)) {
        2
    } else {
        1
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("suimon-control")
        .enable_all()
        .build()?;
    runtime.block_on(commands::run(cli))
}
