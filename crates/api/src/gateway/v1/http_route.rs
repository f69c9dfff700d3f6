//! HTTPRoute: hosts, matches, filters and backends.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::filter::{DURATION, Filter, HEADER_NAME, HOSTNAME};
use super::{ParentReference, RouteStatus, one, service_kind};

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    root = "HttpRoute",
    plural = "httproutes",
    category = "gateway-api",
    namespaced,
    status = "RouteStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Hostnames","type":"string","jsonPath":".spec.hostnames"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
/// Rules for HTTP requests to some hosts.
pub struct HttpRouteSpec {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub parent_refs: Vec<ParentReference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["All", "None"]))]
    pub use_default_gateways: Option<String>,
    /// Every host of its listeners if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"), inner(length(min = 1, max = 253), regex(pattern = HOSTNAME)))]
    pub hostnames: Vec<String>,
    #[serde(default = "rules")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub rules: Vec<HttpRouteRule>,
}

/// What happens to requests that one of the matches describes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "message": "RequestRedirect filter must not be used together with backendRefs",
        "rule": "(has(self.backendRefs) && size(self.backendRefs) > 0) ? (!has(self.filters) || self.filters.all(f, !has(f.requestRedirect))): true",
    },
    {
        "message": "When using RequestRedirect filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified",
        "rule": "(has(self.filters) && self.filters.exists_one(f, has(f.requestRedirect) && has(f.requestRedirect.path) && f.requestRedirect.path.type == 'ReplacePrefixMatch' && has(f.requestRedirect.path.replacePrefixMatch))) ? ((size(self.matches) != 1 || !has(self.matches[0].path) || self.matches[0].path.type != 'PathPrefix') ? false : true) : true",
    },
    {
        "message": "When using URLRewrite filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified",
        "rule": "(has(self.filters) && self.filters.exists_one(f, has(f.urlRewrite) && has(f.urlRewrite.path) && f.urlRewrite.path.type == 'ReplacePrefixMatch' && has(f.urlRewrite.path.replacePrefixMatch))) ? ((size(self.matches) != 1 || !has(self.matches[0].path) || self.matches[0].path.type != 'PathPrefix') ? false : true) : true",
    },
]))]
pub struct HttpRouteRule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// One of these must hold.
    #[serde(default = "matches")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub matches: Vec<HttpRouteMatch>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub filters: Vec<Filter>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub backend_refs: Vec<HttpBackendRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<HttpRouteTimeouts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<HttpRouteRetry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<SessionPersistence>,
}

impl Default for HttpRouteRule {
    fn default() -> Self {
        Self {
            name: None,
            matches: matches(),
            filters: Vec::new(),
            backend_refs: Vec::new(),
            timeouts: None,
            retry: None,
            session_persistence: None,
        }
    }
}

/// Predicates that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteMatch {
    #[serde(default)]
    pub path: HttpPathMatch,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<HttpHeaderMatch>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub query_params: Vec<HttpQueryParamMatch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]))]
    pub method: Option<String>,
}

/// How a path is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"message": "value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']",
     "rule": "(self.type in ['Exact','PathPrefix']) ? self.value.startsWith('/') : true"},
    {"message": "must not contain '//' when type one of ['Exact', 'PathPrefix']",
     "rule": "(self.type in ['Exact','PathPrefix']) ? !self.value.contains('//') : true"},
    {"message": "must not contain '/./' when type one of ['Exact', 'PathPrefix']",
     "rule": "(self.type in ['Exact','PathPrefix']) ? !self.value.contains('/./') : true"},
    {"message": "must not contain '/../' when type one of ['Exact', 'PathPrefix']",
     "rule": "(self.type in ['Exact','PathPrefix']) ? !self.value.contains('/../') : true"},
    {"message": "must not contain '#' when type one of ['Exact', 'PathPrefix']",
     "rule": "(self.type in ['Exact','PathPrefix']) ? !self.value.contains('#') : true"},
    {"message": "must not end with '/..' when type one of ['Exact', 'PathPrefix']",
     "rule": "(self.type in ['Exact','PathPrefix']) ? !self.value.endsWith('/..') : true"},
]))]
pub struct HttpPathMatch {
    #[serde(rename = "type", default = "path_prefix")]
    #[schemars(extend("enum" = ["Exact", "PathPrefix", "RegularExpression"]))]
    pub type_: String,
    #[serde(default = "slash")]
    #[schemars(length(max = 1024))]
    pub value: String,
}

impl Default for HttpPathMatch {
    fn default() -> Self {
        Self {
            type_: path_prefix(),
            value: slash(),
        }
    }
}

/// How a header is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpHeaderMatch {
    #[serde(rename = "type", default = "exact")]
    #[schemars(extend("enum" = ["Exact", "RegularExpression"]))]
    pub type_: String,
    #[schemars(length(min = 1, max = 256), extend("pattern" = HEADER_NAME))]
    pub name: String,
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// How a query parameter is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpQueryParamMatch {
    #[serde(rename = "type", default = "exact")]
    #[schemars(extend("enum" = ["Exact", "RegularExpression"]))]
    pub type_: String,
    #[schemars(length(min = 1, max = 256), extend("pattern" = HEADER_NAME))]
    pub name: String,
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// A backend and its share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "message": "Must have port for Service reference",
    "rule": "(size(self.group) == 0 && self.kind == 'Service') ? has(self.port) : true",
}]))]
pub struct HttpBackendRef {
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub group: String,
    #[serde(default = "service_kind")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: i32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub filters: Vec<Filter>,
}

/// Limits of one request; `0s` means none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "message": "backendRequest timeout cannot be longer than request timeout",
    "rule": "!(has(self.request) && has(self.backendRequest) && duration(self.request) != duration('0s') && duration(self.backendRequest) > duration(self.request))",
}]))]
pub struct HttpRouteTimeouts {
    /// From the client's request to the end of the answer, whatever happens in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = DURATION))]
    pub request: Option<String>,
    /// One try at a backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = DURATION))]
    pub backend_request: Option<String>,
}

/// When a request is sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRetry {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"), inner(range(min = 400, max = 599)))]
    pub codes: Vec<i32>,
    /// Further tries after the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub attempts: Option<i32>,
    /// Least pause between tries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = DURATION))]
    pub backoff: Option<String>,
}

/// How requests of one client keep to one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionPersistence {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub session_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = DURATION))]
    pub absolute_timeout: Option<String>,
    #[serde(rename = "type", default = "cookie")]
    #[schemars(extend("enum" = ["Cookie", "Header"]))]
    pub type_: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie_config: Option<CookieConfig>,
}

/// How long a session's cookie lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CookieConfig {
    #[serde(default = "session")]
    #[schemars(extend("enum" = ["Permanent", "Session"]))]
    pub lifetime_type: String,
}

fn rules() -> Vec<HttpRouteRule> {
    vec![HttpRouteRule::default()]
}

fn matches() -> Vec<HttpRouteMatch> {
    vec![HttpRouteMatch::default()]
}

fn path_prefix() -> String {
    "PathPrefix".to_owned()
}

fn slash() -> String {
    "/".to_owned()
}

fn exact() -> String {
    "Exact".to_owned()
}

fn cookie() -> String {
    "Cookie".to_owned()
}

fn session() -> String {
    "Session".to_owned()
}
