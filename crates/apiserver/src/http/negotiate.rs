//! What the client accepts: plain objects, tables or metadata only.

use crate::status::Status;

/// In which form objects are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are.
    Json,
    /// As they are, in YAML.
    Yaml,
    /// As rows, for people.
    Table,
    /// Only their metadata.
    Metadata,
    /// Discovery for all groups in one document.
    Discovery,
}

const ACCEPTED: &str = "application/json, application/yaml";

impl Form {
    /// The first form in an `Accept` header that this server has.
    pub(crate) fn negotiate(accept: &str) -> Result<Self, Status> {
        if accept.is_empty() {
            return Ok(Self::Json);
        }
        accept
            .split(',')
            .find_map(|range| Self::of(range.trim()))
            .ok_or_else(|| Status::not_acceptable(ACCEPTED))
    }

    fn of(range: &str) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next()?;
        let parameter = |name: &str| {
            range
                .split(';')
                .skip(1)
                .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
        };
        match media {
            "application/json" | "application/*" | "*/*" => match parameter("as") {
                None => Some(Self::Json),
                // v1beta1 of these is gone.
                Some(_) if !matches!(parameter("v"), Some("v1" | "v2")) => None,
                Some("Table") => Some(Self::Table),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Some(Self::Metadata),
                Some("APIGroupDiscoveryList") if parameter("v") == Some("v2") => {
                    Some(Self::Discovery)
                }
                Some(_) => None,
            },
            "application/yaml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_the_server_has_is_used() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(Form::negotiate(kubectl).expect("acceptable"), Form::Table);
        let go = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(Form::negotiate(go).expect("acceptable"), Form::Json);
        let discovery =
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(
            Form::negotiate(discovery).expect("acceptable"),
            Form::Discovery
        );
        assert_eq!(Form::negotiate("").expect("acceptable"), Form::Json);
        assert_eq!(
            Form::negotiate("text/html")
                .expect_err("not acceptable")
                .code,
            406
        );
    }
}
