//! From a container's image name to an image on this machine, pulled if need be.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use images::{Credentials, Image, Reference, Selector, Store};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::Value;

use crate::object::Objects;
use crate::runtime::Failure;

/// The image, from the store or the registry, by the container's `imagePullPolicy`.
pub(crate) async fn image(
    store: &Store,
    objects: &Objects,
    pod: &Pod,
    container: &Container,
) -> Result<Image, Failure> {
    let name = container.image.as_deref().unwrap_or_default();
    let reference = Reference::parse(name).map_err(|error| Failure {
        reason: "InvalidImageName",
        message: error.to_string(),
    })?;
    let local = store
        .resolve(name)
        .map_err(|error| pull_failed(name, &describe(&error)))?;
    let policy = container.image_pull_policy.as_deref().unwrap_or_default();
    match local {
        // What was added by hand is newer than any registry: never asked for again. The same
        // holds for a digest, whose content cannot change.
        Some(image) if image.program.is_some() || policy != "Always" || is_pinned(&reference) => {
            Ok(image)
        }
        None if policy == "Never" => Err(Failure {
            reason: "ErrImageNeverPull",
            message: format!(
                "image {name} is not in the store and imagePullPolicy is Never; {}",
                remedy(&reference)
            ),
        }),
        Some(image) => match pull(store, objects, pod, &reference).await {
            Ok(newer) => Ok(newer),
            Err(failure) => {
                tracing::warn!(
                    image = name,
                    failure = failure.message,
                    "cannot refresh an image, using the one in the store"
                );
                Ok(image)
            }
        },
        None => pull(store, objects, pod, &reference).await,
    }
}

fn is_pinned(reference: &Reference) -> bool {
    matches!(reference.selector, Selector::Digest(_))
}

async fn pull(
    store: &Store,
    objects: &Objects,
    pod: &Pod,
    reference: &Reference,
) -> Result<Image, Failure> {
    let credentials = credentials(objects, pod, &reference.registry).await?;
    let name = reference.to_string();
    store.pull(&name, &credentials).await.map_err(|error| {
        pull_failed(
            &name,
            &format!("{}; {}", describe(&error), remedy(reference)),
        )
    })
}

fn pull_failed(name: &str, why: &str) -> Failure {
    Failure {
        reason: "ErrImagePull",
        message: format!("cannot get image {name}: {why}"),
    }
}

fn remedy(reference: &Reference) -> String {
    let name = reference.to_string();
    let name = name.strip_prefix("docker.io/library/").unwrap_or(&name);
    let name = name.strip_suffix(":latest").unwrap_or(name);
    format!("if it is a program of yours, add it with `suimon image add {name} --binary PATH`")
}

/// An error with everything that caused it.
fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string())
        .chain(causes.map(ToString::to_string))
        .collect::<Vec<_>>()
        .join(": ")
}

/// The first of the pod's pull secrets that knows the registry.
async fn credentials(objects: &Objects, pod: &Pod, registry: &str) -> Result<Credentials, Failure> {
    let secrets = pod
        .spec
        .iter()
        .flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    for secret in secrets {
        let Some(found) = objects.find_secret(&secret.name).await? else {
            tracing::warn!(secret = secret.name, "an image pull secret does not exist");
            continue;
        };
        let data = found.data.unwrap_or_default();
        let config = data
            .get(".dockerconfigjson")
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes.0).ok());
        let auths = match config {
            Some(mut config) => config["auths"].take(),
            None => data
                .get(".dockercfg")
                .and_then(|bytes| serde_json::from_slice(&bytes.0).ok())
                .unwrap_or_default(),
        };
        if let Some(credentials) = in_config(&auths, registry) {
            return Ok(credentials);
        }
    }
    Ok(Credentials::Anonymous)
}

fn in_config(auths: &Value, registry: &str) -> Option<Credentials> {
    let entry = auths
        .as_object()?
        .iter()
        .find(|(server, _)| host_of(server) == registry)?
        .1;
    let text = |key: &str| entry[key].as_str().map(str::to_owned);
    if let (Some(user), Some(password)) = (text("username"), text("password")) {
        return Some(Credentials::Basic { user, password });
    }
    let decoded = String::from_utf8(STANDARD.decode(entry["auth"].as_str()?).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(Credentials::Basic {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

/// `https://index.docker.io/v1/` → `docker.io`.
fn host_of(server: &str) -> &str {
    let host = server.split_once("://").map_or(server, |(_, rest)| rest);
    match host.split('/').next().unwrap_or(host) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_secret_is_found_by_its_registry_in_both_spellings() {
        let auths = serde_json::json!({
            "https://index.docker.io/v1/": {"auth": "bWU6c2VjcmV0"},
            "registry:5000": {"username": "you", "password": "pw"},
        });
        let basic = |user: &str, password: &str| {
            Some(Credentials::Basic {
                user: user.to_owned(),
                password: password.to_owned(),
            })
        };
        assert_eq!(in_config(&auths, "docker.io"), basic("me", "secret"));
        assert_eq!(in_config(&auths, "registry:5000"), basic("you", "pw"));
        assert_eq!(in_config(&auths, "gcr.io"), None);
    }
}
