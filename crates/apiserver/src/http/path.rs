//! The URL grammar: a path becomes the resource, object and subresource that it names.

/// What a path names. The resource is not looked up yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// `/`: what paths there are.
    Index,
    /// `/api` or `/apis`.
    Groups {
        /// `/api`: the core group.
        core: bool,
    },
    /// `/apis/<group>`.
    Group(&'a str),
    /// `/api/v1` or `/apis/<group>/<version>`.
    Version { group: &'a str, version: &'a str },
    /// A resource, an object or a subresource.
    Resource(ResourcePath<'a>),
    /// `/openapi/v3` and below; the rest of the path.
    OpenApi(&'a str),
    /// `/openapi/v2`.
    OpenApiV2,
    /// `/.well-known/openid-configuration`.
    Issuer,
    /// `/openid/v1/jwks`.
    KeySet,
    /// `/version`.
    ServerVersion,
    /// `/healthz`, `/livez` or `/readyz`, perhaps with a check below.
    Health,
    /// `/metrics`.
    Metrics,
}

/// Path of a resource, an object or a subresource.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ResourcePath<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) resource: &'a str,
    pub(crate) name: Option<&'a str>,
    pub(crate) subresource: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// `None` if the path names nothing that an API server has.
    pub(crate) fn parse(path: &'a str) -> Option<Self> {
        let trimmed = path.strip_prefix('/')?;
        let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
        let mut segments = trimmed.split('/');
        let target = match segments.next()? {
            "" if path == "/" => Self::Index,
            "version" if segments.clone().next().is_none() => Self::ServerVersion,
            "healthz" | "livez" | "readyz" => Self::Health,
            "metrics" if segments.clone().next().is_none() => Self::Metrics,
            ".well-known" if trimmed == ".well-known/openid-configuration" => Self::Issuer,
            "openid" if trimmed == "openid/v1/jwks" => Self::KeySet,
            "openapi" => match segments.next()? {
                "v2" => Self::OpenApiV2,
                "v3" => Self::OpenApi(trimmed.strip_prefix("openapi/v3")?.trim_start_matches('/')),
                _ => return None,
            },
            "api" => match segments.next() {
                None => Self::Groups { core: true },
                Some("") => return None,
                Some(version) => Self::below_version("", version, segments)?,
            },
            "apis" => match (segments.next(), segments.next()) {
                (None, _) => Self::Groups { core: false },
                (Some(""), _) | (_, Some("")) => return None,
                (Some(group), None) => Self::Group(group),
                (Some(group), Some(version)) => Self::below_version(group, version, segments)?,
            },
            _ => return None,
        };
        Some(target)
    }

    fn below_version(
        group: &'a str,
        version: &'a str,
        segments: impl Iterator<Item = &'a str>,
    ) -> Option<Self> {
        let mut rest: Vec<&str> = segments.take(8).collect();
        // Below a proxy the path is the program's.
        match rest.as_slice() {
            ["namespaces", _, _, _, "proxy", _, ..] => rest.truncate(5),
            ["nodes", _, "proxy", _, ..] if group.is_empty() => rest.truncate(3),
            _ => {}
        }
        if rest.iter().any(|segment| segment.is_empty()) {
            return None;
        }
        let path = |namespace, resource, name, subresource| {
            Some(Self::Resource(ResourcePath {
                group,
                version,
                namespace,
                resource,
                name,
                subresource,
            }))
        };
        match rest.as_slice() {
            [] => Some(Self::Version { group, version }),
            // A namespace's own subresources, which would otherwise read as a resource inside it.
            ["namespaces", name, sub @ ("status" | "finalize")] if group.is_empty() => {
                path(None, "namespaces", Some(*name), Some(*sub))
            }
            ["namespaces", ns, resource] => path(Some(*ns), resource, None, None),
            ["namespaces", ns, resource, name] => path(Some(*ns), resource, Some(*name), None),
            ["namespaces", ns, resource, name, sub] => {
                path(Some(*ns), resource, Some(*name), Some(*sub))
            }
            [resource] => path(None, resource, None, None),
            [resource, name] => path(None, resource, Some(*name), None),
            [resource, name, sub] => path(None, resource, Some(*name), Some(*sub)),
            _ => None,
        }
    }
}

/// Decodes `%xx`, and `+` as a space if `form`. `None` if that is not UTF-8.
pub(crate) fn percent_decode(text: &str, form: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if form => out.push(b' '),
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_resources_objects_and_subresources() {
        let parsed =
            Target::parse("/apis/serving.knative.dev/v1/namespaces/default/services/hello/status");
        assert_eq!(
            parsed,
            Some(Target::Resource(ResourcePath {
                group: "serving.knative.dev",
                version: "v1",
                namespace: Some("default"),
                resource: "services",
                name: Some("hello"),
                subresource: Some("status"),
            }))
        );
        let Some(Target::Resource(namespace)) = Target::parse("/api/v1/namespaces/default") else {
            panic!()
        };
        assert_eq!(
            (namespace.resource, namespace.name, namespace.namespace),
            ("namespaces", Some("default"), None)
        );
        let Some(Target::Resource(status)) = Target::parse("/api/v1/namespaces/default/finalize")
        else {
            panic!()
        };
        assert_eq!(
            (status.resource, status.subresource),
            ("namespaces", Some("finalize"))
        );
        let Some(Target::Resource(proxy)) =
            Target::parse("/api/v1/namespaces/default/pods/http:p:80/proxy/a//b/c/d/e/f")
        else {
            panic!()
        };
        assert_eq!(
            (proxy.name, proxy.subresource),
            (Some("http:p:80"), Some("proxy"))
        );
        let Some(Target::Resource(node)) = Target::parse("/api/v1/nodes/n/proxy/logs//a/b/c/d/e/f")
        else {
            panic!()
        };
        assert_eq!(
            (node.resource, node.name, node.subresource),
            ("nodes", Some("n"), Some("proxy"))
        );
        assert_eq!(Target::parse("/metrics"), Some(Target::Metrics));
        assert_eq!(Target::parse("/apis"), Some(Target::Groups { core: false }));
        assert_eq!(
            Target::parse("/openapi/v3/api/v1"),
            Some(Target::OpenApi("api/v1"))
        );
        assert_eq!(Target::parse("/api/v1//pods"), None);
        assert_eq!(Target::parse("/else"), None);
    }

    #[test]
    fn percent_signs_decode_or_are_refused() {
        assert_eq!(percent_decode("a%3Db+c", true).as_deref(), Some("a=b c"));
        assert_eq!(percent_decode("a%zz", true), None);
        assert_eq!(percent_decode("%ff", true), None);
    }
}
