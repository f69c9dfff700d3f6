//! `suimon explain`: which route a request would take, and why the others did not match.

use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::apply::api_error;
use crate::access::Access;
use crate::cli;
use crate::gateway_view::EXPLAIN;
use crate::output;
use crate::output::say;

pub async fn run(flags: cli::Explain, access: &cli::Access) -> anyhow::Result<ExitCode> {
    let question = question(&flags)?;
    let access = Access::connect(access).await?;
    let request = http::Request::post(EXPLAIN)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&question)?)?;
    let answer: Value = access.client.request(request).await.map_err(api_error)?;
    let matched = !answer["route"].is_null();
    if let Some(encoding) = flags.format.output {
        output::encoded(&answer, encoding)?;
    } else {
        for line in answer["lines"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            say!("{line}");
        }
    }
    Ok(if matched {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn question(flags: &cli::Explain) -> anyhow::Result<Value> {
    let uri: http::Uri = flags
        .url
        .parse()
        .with_context(|| format!("\"{}\" is not a URL", flags.url))?;
    let address = uri
        .authority()
        .map(|authority| authority.as_str().to_owned());
    let mut host = address.clone();
    let mut headers = Vec::new();
    for header in &flags.headers {
        let Some((name, value)) = header.split_once(':') else {
            bail!("-H \"{header}\": write NAME: VALUE")
        };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if name == "host" {
            host = Some(value.to_owned());
        } else {
            headers.push(json!([name, value]));
        }
    }
    let host = host.with_context(|| {
        format!(
            "\"{}\" has no host; write http://HOST/PATH or add -H \"Host: …\"",
            flags.url
        )
    })?;
    Ok(json!({
        "method": flags.method,
        "address": address.unwrap_or_default(),
        "host": host,
        "path": uri.path(),
        "query": uri.query().unwrap_or_default(),
        "headers": headers,
        "clusterLocal": flags.cluster_local,
        "secure": uri.scheme_str() == Some("https"),
        "client": flags.client,
    }))
}
