//! `suimon routes`: what the gateway serves, as the gateway says it.

use std::process::ExitCode;

use serde_json::Value;

use super::apply::api_error;
use crate::access::Access;
use crate::cli;
use crate::gateway_view::ROUTES;
use crate::output;

pub async fn run(flags: cli::Routes, access: &cli::Access) -> anyhow::Result<ExitCode> {
    let access = Access::connect(access).await?;
    let request = http::Request::get(ROUTES).body(Vec::new())?;
    let answer: Value = access.client.request(request).await.map_err(api_error)?;
    if let Some(encoding) = flags.format.output {
        output::encoded(&answer, encoding)?;
        return Ok(ExitCode::SUCCESS);
    }
    let header = ["HOST", "VISIBILITY", "MATCH", "ACTION", "FROM"].map(str::to_owned);
    let cell = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let rows: Vec<Vec<String>> = answer["routes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            ["host", "visibility", "match", "action", "from"]
                .iter()
                .map(|field| cell(row, field))
                .collect()
        })
        .collect();
    output::table(&header, &rows);
    Ok(ExitCode::SUCCESS)
}
