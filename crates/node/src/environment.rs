//! A container's environment, and `$(NAME)` references to it in commands and arguments.
//!
//! Order, as in Kubernetes: image, `envFrom`, `env`; a later definition of a name wins. A
//! reference sees what is defined before it; an unknown one stays as it is written.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, EnvVarSource, Pod};

use crate::downward;
use crate::object::{self, Objects};
use crate::runtime::{Failure, Sandbox};

/// Names in order of definition, each once.
#[derive(Default)]
struct Environment {
    entries: Vec<(String, String)>,
    places: HashMap<String, usize>,
}

impl Environment {
    fn set(&mut self, name: &str, value: String) {
        match self.places.get(name) {
            Some(place) => self.entries[*place].1 = value,
            None => {
                self.places.insert(name.to_owned(), self.entries.len());
                self.entries.push((name.to_owned(), value));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.places
            .get(name)
            .map(|place| self.entries[*place].1.as_str())
    }
}

/// What a container's environment is made from.
pub(crate) struct Sources<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    pub(crate) image_env: &'a [String],
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) node_name: &'a str,
    pub(crate) host_ip: IpAddr,
    pub(crate) objects: &'a Objects,
    /// Where the API is.
    pub(crate) api: Option<SocketAddr>,
}

/// Reads and expands the whole environment.
pub(crate) async fn resolve(sources: &Sources<'_>) -> Result<Vec<(String, String)>, Failure> {
    let mut env = Environment::default();
    for entry in sources.image_env {
        if let Some((name, value)) = entry.split_once('=') {
            env.set(name, value.to_owned());
        }
    }
    if let Some(api) = sources.api {
        // What every client library looks for in a pod.
        env.set("KUBERNETES_SERVICE_HOST", api.ip().to_string());
        env.set("KUBERNETES_SERVICE_PORT", api.port().to_string());
        env.set("KUBERNETES_SERVICE_PORT_HTTPS", api.port().to_string());
    }
    for source in sources.container.env_from.iter().flatten() {
        for (name, value) in all_of(sources, source).await? {
            env.set(&name, value);
        }
    }
    for variable in sources.container.env.iter().flatten() {
        if let Some(value) = value_of(sources, variable, &env).await? {
            env.set(&variable.name, value);
        }
    }
    Ok(env.entries)
}

async fn all_of(
    sources: &Sources<'_>,
    source: &EnvFromSource,
) -> Result<Vec<(String, String)>, Failure> {
    let data = if let Some(map) = &source.config_map_ref {
        sources
            .objects
            .config_map(&map.name, map.optional == Some(true))
            .await?
    } else if let Some(secret) = &source.secret_ref {
        sources
            .objects
            .secret(&secret.name, secret.optional == Some(true))
            .await?
    } else {
        None
    };
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let entries = data.into_iter().flatten();
    // What is not text cannot be an environment variable; Kubernetes skips such keys too.
    Ok(entries
        .filter_map(|(key, value)| Some((format!("{prefix}{key}"), String::from_utf8(value).ok()?)))
        .collect())
}

/// `None` if an optional source is missing.
async fn value_of(
    sources: &Sources<'_>,
    variable: &EnvVar,
    env: &Environment,
) -> Result<Option<String>, Failure> {
    match &variable.value_from {
        None => Ok(Some(expand(
            variable.value.as_deref().unwrap_or_default(),
            &|name| env.get(name),
        ))),
        Some(source) => from(sources, source, &variable.name).await,
    }
}

async fn from(
    sources: &Sources<'_>,
    source: &EnvVarSource,
    name: &str,
) -> Result<Option<String>, Failure> {
    let (value, object) = if let Some(selector) = &source.config_map_key_ref {
        let optional = selector.optional == Some(true);
        let object = format!("ConfigMap {}", selector.name);
        let data = sources.objects.config_map(&selector.name, optional).await?;
        (
            object::key(data.as_ref(), &selector.key, optional, &object)?.cloned(),
            object,
        )
    } else if let Some(selector) = &source.secret_key_ref {
        let optional = selector.optional == Some(true);
        let object = format!("Secret {}", selector.name);
        let data = sources.objects.secret(&selector.name, optional).await?;
        (
            object::key(data.as_ref(), &selector.key, optional, &object)?.cloned(),
            object,
        )
    } else if let Some(field) = &source.field_ref {
        let facts = downward::Facts {
            pod: sources.pod,
            pod_ip: sources.sandbox.pod_ip,
            node_name: sources.node_name,
            host_ip: sources.host_ip,
        };
        return downward::field(&facts, &field.field_path).map(Some);
    } else if let Some(resource) = &source.resource_field_ref {
        return downward::resource(sources.pod, sources.container, resource).map(Some);
    } else {
        return Err(Failure::config(format!(
            "env {name}: this kind of valueFrom is not supported"
        )));
    };
    let text = value.map(String::from_utf8).transpose();
    text.map_err(|_| Failure::config(format!("env {name}: the value in {object} is not text")))
}

/// Replaces `$(NAME)`; `$$` stands for one `$`.
pub(crate) fn expand<'e>(text: &str, lookup: &dyn Fn(&str) -> Option<&'e str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match lookup(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&rest[at..rest.len() - tail.len()]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Expands every word of a command.
pub(crate) fn expand_all(words: Option<&Vec<String>>, env: &[(String, String)]) -> Vec<String> {
    let lookup = |name: &str| {
        env.iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    words
        .into_iter()
        .flatten()
        .map(|word| expand(word, &lookup))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn references_are_replaced_and_unknown_ones_stay() {
        let lookup = |name: &str| (name == "A").then_some("1");
        for (text, expected) in [
            ("$(A)-$(B)", "1-$(B)"),
            ("$$(A)", "$(A)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$$(A)", "$1"),
        ] {
            assert_eq!(expand(text, &lookup), expected, "{text}");
        }
    }
}
