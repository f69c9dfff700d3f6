//! `suimon apply`: server-side apply of manifests, then wait for the Knative Services in them.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::{StreamExt, stream};
use kube::Client;
use kube::api::{DynamicObject, Patch, PatchParams};

use crate::access::Access;
use crate::cli;
use crate::manifest::{self, Document};
use crate::output;
use crate::output::say;
use crate::progress::Progress;
use crate::resources::Resources;
use crate::wait::{self, Outcome};

/// A Knative Service that was applied.
pub struct Applied {
    pub namespace: String,
    pub name: String,
}

/// A document that was applied.
struct Done {
    /// As users see it.
    kind: String,
    is_service: bool,
    object: Applied,
}

pub async fn run(flags: cli::Apply, access: &cli::Access) -> anyhow::Result<ExitCode> {
    let documents = manifest::read(&flags.files)?;
    let access = Access::connect(access).await?;
    let services = documents_of(&access.client, &access.namespace, documents).await?;
    if flags.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    let limit = Duration::from_secs(flags.timeout);
    let all_ready = wait_for(&access.client, &services, limit).await?;
    Ok(if all_ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Documents of one kind that are applied at once.
const AT_ONCE: usize = 8;

/// Applies documents in order; neighbors of one kind together, since none of those needs another.
/// One that is refused does not keep the others from being applied; all refusals are reported
/// together.
pub async fn documents_of(
    client: &Client,
    namespace: &str,
    documents: Vec<Document>,
) -> anyhow::Result<Vec<Applied>> {
    let resources = Resources::discover(client).await?;
    let mut services = Vec::new();
    let mut refused = Vec::new();
    for run in runs(&documents) {
        let mut results = stream::iter(run)
            .map(|document| one(client, &resources, namespace, document))
            .buffered(AT_ONCE);
        let mut places = run.iter().map(|document| &document.place);
        while let (Some(result), Some(place)) = (results.next().await, places.next()) {
            match result {
                Ok(applied) => {
                    output::note(&format!("{}/{} applied", applied.kind, applied.object.name));
                    services.extend(applied.is_service.then_some(applied.object));
                }
                Err(error) => refused.push(format!("{place}: {error:#}")),
            }
        }
    }
    if refused.is_empty() {
        Ok(services)
    } else {
        Err(anyhow!(refused.join("\n       ")))
    }
}

/// Neighbors of one kind. A name that comes again begins a run of its own: of two documents for
/// one object the later decides.
fn runs(documents: &[Document]) -> Vec<&[Document]> {
    let kind = |document: &Document| {
        let field = |pointer| document.field(pointer).map(str::to_owned);
        (field("/apiVersion"), field("/kind"))
    };
    let mut runs = Vec::new();
    let mut rest = documents;
    while let Some(first) = rest.first() {
        let of = kind(first);
        let mut names = HashSet::new();
        let is_next = |document: &&Document| {
            let name = document.field("/metadata/name");
            kind(document) == of && names.insert(name.map(str::to_owned))
        };
        let length = rest.iter().take_while(is_next).count();
        let (run, others) = rest.split_at(length.max(1));
        runs.push(run);
        rest = others;
    }
    runs
}

async fn one(
    client: &Client,
    resources: &Resources,
    namespace: &str,
    document: &Document,
) -> anyhow::Result<Done> {
    let (api_version, kind) = (
        document.field("/apiVersion").unwrap_or_default(),
        document.field("/kind").unwrap_or_default(),
    );
    let kind = resources.of(api_version, kind)?;
    let name = document
        .field("/metadata/name")
        .context("metadata.name is missing")?;
    let namespace = document.field("/metadata/namespace").unwrap_or(namespace);
    let params = PatchParams {
        field_validation: Some(kube::api::ValidationDirective::Strict),
        ..PatchParams::apply("suimon-cli").force()
    };
    let patch = Patch::Apply(&document.value);
    let applied: DynamicObject = kind
        .api(client, namespace)
        .patch(name, &params, &patch)
        .await
        .map_err(api_error)?;
    let generation = applied.metadata.generation;
    tracing::debug!(
        kind = kind.display(),
        namespace,
        name,
        ?generation,
        "applied"
    );
    Ok(Done {
        kind: kind.display(),
        is_service: kind.resource.group == "serving.knative.dev" && kind.resource.kind == "Service",
        object: Applied {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        },
    })
}

/// Waits for every Service and prints its URL. `false` if one of them failed.
pub async fn wait_for(
    client: &Client,
    services: &[Applied],
    limit: Duration,
) -> anyhow::Result<bool> {
    let mut all_ready = true;
    for service in services {
        let mut progress = Progress::start();
        let outcome = wait::ready(
            client,
            &service.namespace,
            &service.name,
            limit,
            &mut progress,
        )
        .await?;
        match outcome {
            Outcome::Ready(ready) => {
                let url = ready
                    .status
                    .as_ref()
                    .and_then(|status| status.url.clone())
                    .unwrap_or_default();
                output::note(&format!(
                    "{} is Ready after {}",
                    service.name,
                    progress.elapsed()
                ));
                say!("{url}");
            }
            Outcome::Failed { reason, message } => {
                all_ready = false;
                output::note(&format!(
                    "error: Service {} is not Ready: {reason}: {message}",
                    service.name
                ));
            }
        }
    }
    Ok(all_ready)
}

/// The API's own message; it names the object, the field and the remedy.
pub fn api_error(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow!("{}", status.message),
        other => anyhow::Error::new(other).context("the API did not answer as expected"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_run_ends_with_its_kind_and_before_a_name_that_it_has() {
        let document = |text: &str| {
            let (kind, name) = text.split_once('/').expect("kind/name");
            Document {
                place: text.to_owned(),
                value: json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}),
            }
        };
        let documents: Vec<_> = ["A/1", "A/2", "B/1", "A/3", "A/3", "A/4"]
            .map(document)
            .into();
        let runs = runs(&documents);
        let texts = runs.iter().map(|run| {
            let places: Vec<_> = run.iter().map(|it| it.place.as_str()).collect();
            places.join(" ")
        });
        let texts: Vec<_> = texts.collect();
        assert_eq!(texts, ["A/1 A/2", "B/1", "A/3", "A/3 A/4"]);
    }
}
