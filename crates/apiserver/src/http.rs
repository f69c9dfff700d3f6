//! HTTP requests to operations: what a path, a method and a query mean, and how the answer is sent.
//!
//! Sockets and the in-process client both end here; the caller has been identified before.

mod body;
mod health;
pub(crate) mod negotiate;
pub(crate) mod options;
pub(crate) mod path;
pub(crate) mod render;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use serde_json::{Value, json};

use crate::admission::User;
use crate::auth;
use crate::auth::token::Tokens;
use crate::connect::{Body, ConnectRequest, Page};
use crate::crud::{self, Api, Call, Reply};
use crate::metrics::{self, About};
use crate::status::Status;
use crate::stream::proxy::{Proxied, split_name};
use crate::{discovery, openapi, watch};
pub(crate) use body::MAX_BODY;
pub(crate) use body::failure;
use body::{accepts_gzip, compress, discard, document, header, media_type, read, respond, text};
use negotiate::Form;
use options::Options;
use path::{ResourcePath, Target, percent_decode};

/// Answers one request. `user` is `None` for a caller without credentials.
pub(crate) async fn handle<B>(
    api: &Arc<Api>,
    request: Request<B>,
    user: Option<&User>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let start = Instant::now();
    let gzip = accepts_gzip(request.headers());
    let is_http1 = request.version() < http::Version::HTTP_2;
    let (head, body) = request.into_parts();
    let mut body = Some(body);
    let mut about = About::path(&head.method);
    let mut response = answer(api, head, &mut body, user, &mut about)
        .await
        .unwrap_or_else(|status| failure(&status));
    count(api, &about, start, &mut response);
    if let Some(unread) = body
        && response.status() != http::StatusCode::SWITCHING_PROTOCOLS
    {
        let taken = discard(unread).await;
        if is_http1 && !taken {
            // Said in time, so that the client sends nothing more here.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
    }
    if gzip { compress(response) } else { response }
}

async fn answer<B>(
    api: &Arc<Api>,
    head: http::request::Parts,
    body: &mut Option<B>,
    user: Option<&User>,
    about: &mut About,
) -> Result<Response<Body>, Status>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = percent_decode(head.uri.path(), false).ok_or_else(Status::no_such_path)?;
    let target = Target::parse(&path);
    match &target {
        Some(Target::Health) => {
            let found = health::answer(api, &path, head.uri.query().unwrap_or_default());
            let (code, said) = found.ok_or_else(Status::no_such_path)?;
            return Ok(text(code, said));
        }
        Some(Target::ServerVersion) => return Ok(document(&version())),
        _ => {}
    }
    let user = user.ok_or_else(Status::unauthorized)?;
    let other = auth::impersonate::user(&api.store, user, &head.headers)?;
    let user = other.as_ref().unwrap_or(user);
    if target.is_none()
        && let Some(page) = api.page(&path)
    {
        auth::authorize_path(&api.store, user, &head.method, &path)?;
        let bytes = read(body, &head.method).await?;
        return ask(&page, &bytes);
    }
    let target = target.ok_or_else(Status::no_such_path)?;
    if matches!(target, Target::OpenApiV2 | Target::Metrics) {
        auth::authorize_path(&api.store, user, &head.method, &path)?;
        return Ok(match target {
            Target::Metrics => metrics(api),
            _ => openapi_v2(&head.headers),
        });
    }
    let form = Form::negotiate(header(&head.headers, ACCEPT.as_str()))?;
    let Target::Resource(resource) = target else {
        auth::authorize_path(&api.store, user, &head.method, &path)?;
        if head.method != Method::GET {
            return Err(Status::method_not_allowed());
        }
        return describe(api, &target, &form, &head);
    };
    let options = Options::parse(head.uri.query().unwrap_or_default())?;
    let call = call(api, &resource, options, user, &head.headers)?;
    let apply = media_type(&head.headers) == "application/apply-patch+yaml";
    *about = About::call(&call, &head.method, apply);
    auth::authorize(&api.store, &call, &head.method)?;
    if call.subresource == "proxy" {
        let body = read(body, &head.method).await?;
        return proxy(api, call, head, body).await;
    }
    if !call.subresource.is_empty() && !crud::known_subresource(&call) {
        return connect(api, &call, head, None).await;
    }
    let _place = if call.options.watch {
        None
    } else {
        api.inflight.enter(&head.method, &call)?
    };
    let _room = api
        .pressure
        .enter(&head.method, &call, &head.headers)
        .await?;
    let body = crud::Body {
        media_type: media_type(&head.headers),
        bytes: read(body, &head.method).await?,
    };
    dispatch(api, call, &head.method, &form, body).await
}

/// Counts an answer, and one that goes on until it ends.
fn count(api: &Api, about: &About, start: Instant, response: &mut Response<Body>) {
    let code = response.status().as_u16();
    let goes_on = matches!(response.body(), Body::Stream(_));
    let took = (!goes_on && code != 101).then(|| start.elapsed());
    api.metrics.answered(about, code, took);
    if goes_on {
        let open = api.metrics.begin(about);
        let body = std::mem::replace(response.body_mut(), Body::Full(None));
        *response.body_mut() = body.holding(open);
    }
}

fn metrics(api: &Api) -> Response<Body> {
    let text = api.metrics.render(&api.store, api.inflight.taken());
    respond(200, metrics::CONTENT_TYPE, text.into())
}

fn ask(page: &Page, question: &[u8]) -> Result<Response<Body>, Status> {
    let question = if question.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(question).map_err(|error| {
            Status::bad_request(format!("the request body is not JSON: {error}"))
        })?
    };
    page(&question)
        .map(|answer| document(&answer))
        .map_err(Status::bad_request)
}

/// Discovery and OpenAPI documents.
fn describe(
    api: &Api,
    target: &Target<'_>,
    form: &Form,
    head: &http::request::Parts,
) -> Result<Response<Body>, Status> {
    let types = api.types();
    let crds = |name: &str| Some(api.store.get(crate::crd::RESOURCE, name)?.value());
    let found = match target {
        Target::Groups { .. } if *form == Form::Discovery => {
            let core = matches!(target, Target::Groups { core: true });
            let mut response = document(&discovery::aggregated(&types, core));
            // Clients take the document for the old form unless the type repeats their parameters.
            let media = HeaderValue::from_static(
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            );
            response.headers_mut().insert(CONTENT_TYPE, media);
            return Ok(response);
        }
        Target::Index => Some(discovery::index(&types)),
        Target::Groups { core: true } => Some(discovery::api_versions(host(head))),
        Target::Groups { core: false } => Some(discovery::group_list(&types)),
        Target::Group(group) => discovery::group(&types, group),
        Target::Version { group, version } => discovery::resource_list(&types, group, version),
        Target::OpenApi("") => Some(openapi::index(&types)),
        Target::OpenApi(path) => match path.split('/').collect::<Vec<_>>().as_slice() {
            ["api", version] => openapi::document(&types, "", version, &crds),
            ["apis", group, version] => openapi::document(&types, group, version, &crds),
            _ => None,
        },
        Target::Issuer => Some(Tokens::discovery(host(head))),
        Target::KeySet => {
            let keys = api.tokens.key_set().to_string().into();
            return Ok(respond(200, "application/jwk-set+json", keys));
        }
        Target::Resource(_)
        | Target::OpenApiV2
        | Target::ServerVersion
        | Target::Health
        | Target::Metrics => None,
    };
    found
        .map(|value| document(&value))
        .ok_or_else(Status::no_such_path)
}

/// An OpenAPI v2 document without definitions: v3 is the one that is published. kubectl asks for
/// v2 only about kinds that v3 does not have, and then says that it does not know them.
fn openapi_v2(headers: &HeaderMap) -> Response<Body> {
    const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    if header(headers, ACCEPT.as_str()).contains("proto-openapi") {
        // Field 1 (`swagger`) of gnostic's Document.
        return respond(200, PROTOBUF, Bytes::from_static(b"\x0a\x032.0"));
    }
    document(
        &json!({ "swagger": "2.0", "info": { "title": "Suimon", "version": "v1.36.0" }, "paths": {} }),
    )
}

fn call(
    api: &Api,
    path: &ResourcePath<'_>,
    options: Options,
    user: &User,
    headers: &HeaderMap,
) -> Result<Call, Status> {
    let types = api.types();
    let kind = types
        .get(path.group, path.version, path.resource)
        .ok_or_else(Status::no_such_path)?;
    if path.namespace.is_some() && !kind.namespaced
        || path.name.is_some() && kind.namespaced && path.namespace.is_none()
    {
        return Err(Status::no_such_path());
    }
    let agent = headers
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok());
    let manager = crate::apply::manager_name(Some(&options.field_manager), agent);
    Ok(Call {
        kind: Arc::clone(kind),
        namespace: path.namespace.unwrap_or_default().to_owned(),
        name: path.name.unwrap_or_default().to_owned(),
        subresource: path.subresource.unwrap_or_default().to_owned(),
        options,
        user: user.clone(),
        hurry: auth::is_controller(user, &manager),
        manager,
    })
}

async fn dispatch(
    api: &Arc<Api>,
    call: Call,
    method: &Method,
    form: &Form,
    body: crud::Body,
) -> Result<Response<Body>, Status> {
    let scale = call.subresource == "scale";
    let reply = match (method.as_str(), call.name.is_empty()) {
        ("POST", true) if call.kind.is_question() => api.ask(&call, &body)?,
        ("POST", false) if call.subresource == "token" => api.create_token(&call, &body)?,
        ("POST", false) if call.subresource == "eviction" => {
            Box::pin(api.evict(&call, &body)).await?
        }
        ("POST", false) if call.subresource == "binding" => {
            Box::pin(api.bind(&call, &body)).await?
        }
        _ if ["token", "eviction", "binding"].contains(&&*call.subresource) => {
            return Err(Status::method_not_allowed());
        }
        _ if call.kind.is_question() => return Err(Status::method_not_allowed()),
        ("GET", _) if call.kind.is_measured() => api.measured(&call).await?,
        _ if call.kind.is_measured() => return Err(Status::method_not_allowed()),
        ("GET", _) if call.options.watch => return watched(watch::start(api, call, form.clone())?),
        ("GET", true) => api.list(&call)?,
        ("GET", false) if scale => api.get_scale(&call)?,
        ("GET", false) => api.get(&call)?,
        ("POST", true) if call.namespace.is_empty() && call.kind.namespaced => {
            return Err(Status::method_not_allowed());
        }
        ("POST", true) => api.create(&call, &body).await?,
        ("PUT", false) if scale => api.set_scale(&call, &body, false).await?,
        ("PUT", false) => api.update(&call, &body).await?,
        ("PATCH", false) if scale => api.set_scale(&call, &body, true).await?,
        ("PATCH", false) => api.patch(&call, &body).await?,
        ("DELETE", false) if call.subresource.is_empty() => api.delete(&call, &body).await?,
        ("DELETE", true) => api.delete_collection(&call, &body).await?,
        _ => return Err(Status::method_not_allowed()),
    };
    Ok(send(&call, form, &reply))
}

/// A request for the program behind a pod or a Service.
async fn proxy(
    api: &Api,
    mut call: Call,
    head: http::request::Parts,
    body: Bytes,
) -> Result<Response<Body>, Status> {
    // `/api/v1/namespaces/NAMESPACE/RESOURCE/NAME/proxy`, `/api/v1/RESOURCE/NAME/proxy`.
    let segments = if call.kind.namespaced { 8 } else { 6 };
    let Some((scheme, name, port)) = split_name(&call.name) else {
        let what = call.kind.singular.as_str();
        return Err(Status::bad_request(format!(
            "invalid {what} request \"{}\"",
            call.name
        )));
    };
    let raw = head.uri.path();
    let end = raw.match_indices('/').nth(segments - 1);
    let (prefix, below) = raw.split_at(end.map_or(raw.len(), |(at, _)| at));
    let query = head.uri.query().map(|query| format!("?{query}"));
    let proxied = Proxied {
        scheme: scheme.to_owned(),
        port: port.to_owned(),
        method: head.method.clone(),
        prefix: prefix.to_owned(),
        path: format!(
            "{}{}",
            if below.is_empty() { "/" } else { below },
            query.unwrap_or_default()
        ),
        body,
    };
    call.name = name.to_owned();
    connect(api, &call, head, Some(proxied)).await
}

/// Hands a subresource to the one who registered for it.
async fn connect(
    api: &Api,
    call: &Call,
    mut head: http::request::Parts,
    proxied: Option<Proxied>,
) -> Result<Response<Body>, Status> {
    let connector = api.connector(call).ok_or_else(Status::no_such_path)?;
    let crud::Content::Object(object) = api.get(call)?.content else {
        return Err(Status::no_such_path());
    };
    let request = ConnectRequest {
        namespace: call.namespace.clone(),
        name: call.name.clone(),
        object: (*object.value()).clone(),
        query: call.options.raw.clone(),
        proxied,
        upgrade: head.extensions.remove(),
        headers: head.headers,
    };
    connector(request).await
}

fn send(call: &Call, form: &Form, reply: &Reply) -> Response<Body> {
    let bytes = render::content(call, form, &reply.content);
    let media = if *form == Form::Yaml {
        "application/yaml"
    } else {
        "application/json"
    };
    let mut response = respond(reply.code, media, bytes);
    for warning in reply.warnings.iter().chain(&call.kind.warning) {
        let escaped = warning
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace(['\n', '\r'], " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
    response
}

fn watched(body: Body) -> Result<Response<Body>, Status> {
    let mut response = respond(200, "application/json", Bytes::new());
    *response.body_mut() = body;
    Ok(response)
}

/// By which name or address the client reached us.
fn host(head: &http::request::Parts) -> &str {
    match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => header(&head.headers, "host"),
    }
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "gitVersion": "v1.36.0+suimon",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, arch()),
    })
}

/// Go's name of the architecture.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
