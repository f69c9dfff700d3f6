//! `suimon describe`: an object for people, with its conditions and events.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;

use super::get::object;
use super::kind_and_name;
use crate::access::Access;
use crate::cli;
use crate::output;
use crate::output::say;
use crate::resources::Resources;

pub async fn run(flags: cli::Named, access: &cli::Access) -> anyhow::Result<ExitCode> {
    let access = Access::connect(access).await?;
    let resources = Resources::discover(&access.client).await?;
    let (kind, name) = kind_and_name(&flags.kind, flags.name.as_deref());
    let kind = resources.find(&kind)?;
    let name = name.with_context(|| format!("name the {} to describe", kind.display()))?;
    let object = object(&access, kind, &name).await?;
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };

    say!("Name:       {name}");
    if kind.namespaced {
        say!("Namespace:  {}", text("/metadata/namespace"));
    }
    say!("Kind:       {}", kind.resource.kind);
    say!("Created:    {}", text("/metadata/creationTimestamp"));
    if !text("/status/url").is_empty() {
        say!("URL:        {}", text("/status/url"));
    }
    traffic(&object);
    conditions(&object);
    let mut rest = object.clone();
    if let Some(spec) = rest
        .get_mut("spec")
        .map(Value::take)
        .filter(|spec| !spec.is_null())
    {
        say!("\nSpec:\n{}", indented(&output::yaml(&spec)?));
    }
    events(&access, kind.resource.kind.as_str(), &name).await
}

fn traffic(object: &Value) {
    let targets = object
        .pointer("/status/traffic")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for (index, target) in targets.iter().enumerate() {
        let latest = if target["latestRevision"] == true {
            "@latest ("
        } else {
            "("
        };
        let percent = target["percent"].as_i64().unwrap_or(0);
        let tag = target["tag"]
            .as_str()
            .map(|tag| format!(" #{tag} {}", target["url"].as_str().unwrap_or_default()));
        let label = if index == 0 {
            "Traffic:    "
        } else {
            "            "
        };
        let revision = target["revisionName"].as_str().unwrap_or_default();
        say!(
            "{label}{percent:>3}% {latest}{revision}){}",
            tag.unwrap_or_default()
        );
    }
}

fn conditions(object: &Value) {
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if conditions.is_empty() {
        return;
    }
    say!("\nConditions:");
    let cell =
        |condition: &Value, field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    let rows: Vec<Vec<String>> = conditions
        .iter()
        .map(|c| {
            ["type", "status", "reason", "message"]
                .iter()
                .map(|field| cell(c, field))
                .collect()
        })
        .collect();
    output::table(
        &["  TYPE", "STATUS", "REASON", "MESSAGE"].map(str::to_owned),
        &indented_rows(rows),
    );
}

fn indented_rows(rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    rows.into_iter()
        .map(|mut row| {
            row[0].insert_str(0, "  ");
            row
        })
        .collect()
}

fn indented(text: &str) -> String {
    text.lines()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

async fn events(access: &Access, kind: &str, name: &str) -> anyhow::Result<ExitCode> {
    use k8s_openapi::api::core::v1::Event;
    let api: kube::Api<Event> = kube::Api::namespaced(access.client.clone(), &access.namespace);
    let selector = format!("involvedObject.kind={kind},involvedObject.name={name}");
    let list = api
        .list(&kube::api::ListParams::default().fields(&selector))
        .await?;
    if !list.items.is_empty() {
        say!("\nEvents:");
        let rows: Vec<Vec<String>> = list
            .items
            .into_iter()
            .map(|event| {
                let text = |part: Option<String>| part.unwrap_or_default();
                vec![
                    format!("  {}", text(event.type_)),
                    text(event.reason),
                    text(event.message),
                ]
            })
            .collect();
        output::table(&["  TYPE", "REASON", "MESSAGE"].map(str::to_owned), &rows);
    }
    Ok(ExitCode::SUCCESS)
}
