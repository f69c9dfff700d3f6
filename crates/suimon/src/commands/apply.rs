//! `suimon apply`: server-side apply of manifests, then wait for the Knative Services in them.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use kube::Client;
use kube::api::{DynamicObject, Patch, PatchParams};

use crate::access::Access;
use crate::cli;
use crate::manifest::{self, Document};
use crate::output;
use crate::progress::Progress;
use crate::resources::Resources;
use crate::wait::{self, Outcome};

/// A Knative Service that was applied.
pub struct Applied {
    pub namespace: String,
    pub name: String,
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

/// Applies documents in order. One that is refused does not keep the others from being applied;
/// all refusals are reported together.
pub async fn documents_of(
    client: &Client,
    namespace: &str,
    documents: Vec<Document>,
) -> anyhow::Result<Vec<Applied>> {
    let resources = Resources::discover(client).await?;
    let mut services = Vec::new();
    let mut refused = Vec::new();
    for document in documents {
        match one(client, &resources, namespace, &document).await {
            Ok(Some(service)) => services.push(service),
            Ok(None) => {}
            Err(error) => refused.push(format!("{}: {error:#}", document.place)),
        }
    }
    if refused.is_empty() {
        Ok(services)
    } else {
        Err(anyhow!(refused.join("\n       ")))
    }
}

async fn one(
    client: &Client,
    resources: &Resources,
    namespace: &str,
    document: &Document,
) -> anyhow::Result<Option<Applied>> {
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
    output::note(&format!("{}/{name} applied", kind.display()));
    let is_service =
        kind.resource.group == "serving.knative.dev" && kind.resource.kind == "Service";
    Ok(is_service.then(|| Applied {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }))
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
                println!("{url}");
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
