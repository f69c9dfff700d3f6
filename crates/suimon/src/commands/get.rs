//! `suimon get`: the API's own tables, or objects as JSON or YAML.

use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::{Value, json};

use super::apply::api_error;
use super::kind_and_name;
use crate::access::Access;
use crate::cli;
use crate::output;
use crate::output::say;
use crate::resources::{Kind, Resources};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

pub async fn run(flags: cli::Get, access: &cli::Access) -> anyhow::Result<ExitCode> {
    let access = Access::connect(access).await?;
    let resources = Resources::discover(&access.client).await?;
    let (kinds, name) = kind_and_name(&flags.kind, flags.name.as_deref());
    let mut values = Vec::new();
    let mut printed = 0;
    for kind in kinds.split(',') {
        let kind = resources.find(kind)?;
        let path = path(kind, &flags, &access.namespace, name.as_deref());
        let accept = if flags.format.output.is_some() {
            "application/json"
        } else {
            TABLE
        };
        let request = http::Request::get(path)
            .header("accept", accept)
            .body(Vec::new())?;
        let value: Value = access.client.request(request).await.map_err(api_error)?;
        if flags.format.output.is_some() {
            values.push(value);
        } else if value["rows"]
            .as_array()
            .is_some_and(|rows| !rows.is_empty())
        {
            if printed > 0 {
                say!();
            }
            printed += 1;
            output::api_table(&value, flags.all_namespaces && kind.namespaced);
        }
    }
    match flags.format.output {
        Some(encoding) => output::encoded(&combined(values), encoding)?,
        None if printed == 0 && flags.all_namespaces => output::note("No resources found"),
        None if printed == 0 => output::note(&format!(
            "No resources found in {} namespace.",
            access.namespace
        )),
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn path(kind: &Kind, flags: &cli::Get, namespace: &str, name: Option<&str>) -> String {
    let mut path = kind.path((!flags.all_namespaces).then_some(namespace));
    if let Some(name) = name {
        path.push('/');
        path.push_str(name);
    }
    if let Some(selector) = &flags.selector {
        let encoded: String = selector
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect();
        path.push_str("?labelSelector=");
        path.push_str(&encoded);
    }
    path
}

fn combined(mut values: Vec<Value>) -> Value {
    match values.len() {
        1 => values.remove(0),
        _ => {
            let items: Vec<Value> = values
                .into_iter()
                .flat_map(|value| {
                    value["items"]
                        .as_array()
                        .cloned()
                        .unwrap_or_else(|| vec![value])
                })
                .collect();
            json!({ "apiVersion": "v1", "kind": "List", "items": items })
        }
    }
}

/// One object of the API.
pub async fn object(access: &Access, kind: &Kind, name: &str) -> anyhow::Result<Value> {
    let object = kind
        .api(&access.client, &access.namespace)
        .get(name)
        .await
        .map_err(api_error)?;
    serde_json::to_value(object).map_err(|error| anyhow!(error))
}
