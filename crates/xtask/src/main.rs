//! Development tasks: `cargo xtask tidy` checks what a machine can judge of the house style,
//! `cargo xtask conformance` runs suites and clients of others against us, `cargo xtask bench` the
//! benchmarks, `cargo xtask fuzz` the fuzz targets; the packs are generated data.

#![allow(unreachable_pub)] // A binary has no public API.
#![allow(clippy::print_stdout)]

mod bench;
mod conformance;
mod field_pack;
mod fuzz;
mod gateway_pack;
mod protobuf_pack;
mod schema_pack;
mod tidy;

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["tidy"] => tidy::run(false),
        ["tidy", "--sizes"] => tidy::run(true),
        ["schema-pack", definitions] => {
            schema_pack::run(definitions)?;
            Ok(ExitCode::SUCCESS)
        }
        ["protobuf-pack", directory] => {
            protobuf_pack::run(directory)?;
            Ok(ExitCode::SUCCESS)
        }
        ["bench", arguments @ ..] => bench::run(arguments),
        ["fuzz", arguments @ ..] => fuzz::run(arguments),
        ["conformance", name, passed_on @ ..] => conformance::run(name, passed_on),
        ["gateway-pack", module] => {
            gateway_pack::run(module)?;
            Ok(ExitCode::SUCCESS)
        }
        ["field-pack", dialect, files @ ..] => {
            field_pack::run(dialect, files)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            println!(
                "usage: cargo xtask tidy [--sizes] | schema-pack <definitions.json> | protobuf-pack <types directory> | gateway-pack <module directory> | field-pack <dialect> <definition files> | conformance <name> [flags of the suite] | bench [--quick] <what> | fuzz [--seconds N] [door...]"
            );
            Ok(ExitCode::FAILURE)
        }
    }
}
