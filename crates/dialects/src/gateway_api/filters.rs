//! Filters of rules and of backends.
//!
//! A filter is never skipped: a rule with one that is not supported answers 500.

use std::sync::Arc;
use std::time::Duration;

use api::gateway::filter::{self, Filter, LocalObjectReference, PathModifier};
use api::gateway::reason;
use routing::model::{
    Action, AskedBody, AuthorizationProtocol, BackendId, Cors, ExternalAuthorization, Filters,
    HeaderOps, Mirror, Origins, PathEdit, Redirect, RedirectPort, Respond, Share,
};

use super::backends::Resolver;
use super::http::unsupported;
use super::plan::Finding;
use crate::apisix::extension::{self, Extended};
use crate::gloo::attached;
use crate::objects::Name;
use crate::overlay::guards_of;
use crate::shared::headers;

/// What filters do.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) request_headers: HeaderOps,
    pub(super) filters: Filters,
    pub(super) redirect: Option<Redirect>,
    /// In place of the backends.
    pub(super) respond: Option<Respond>,
    /// Plain HTTP is redirected.
    pub(super) to_https: bool,
    /// Gloo's RouteOptions, which come over all of this.
    pub(super) options: Vec<Name>,
}

/// The answer where there is no backend to ask.
pub(super) fn no_backend() -> Respond {
    Respond {
        status: 500,
        headers: vec![("content-type".into(), "text/plain; charset=utf-8".into())],
        body: "no valid backend\n".into(),
    }
}

/// The same for a whole rule.
pub(super) fn failure() -> Action {
    Action::Respond(no_backend())
}

/// Translates a list of filters; `prefix` is the path prefix of the match, if it is one.
pub(super) fn translate(
    list: &[Filter],
    prefix: Option<&Arc<str>>,
    resolver: &mut Resolver<'_, '_>,
    field: &str,
) -> Result<Changes, Finding> {
    let mut changes = Changes::default();
    for (at, filter) in list.iter().enumerate() {
        let field = format!("{field}.filters[{at}]");
        apply(&mut changes, filter, prefix, resolver, &field)?;
    }
    Ok(changes)
}

fn apply(
    changes: &mut Changes,
    filter: &Filter,
    prefix: Option<&Arc<str>>,
    resolver: &mut Resolver<'_, '_>,
    field: &str,
) -> Result<(), Finding> {
    let edit =
        |path: Option<&PathModifier>| path.map(|path| path_edit(path, prefix, field)).transpose();
    match filter.type_.as_str() {
        "RequestHeaderModifier" => {
            let modifier = part(filter.request_header_modifier.as_ref(), field)?;
            changes.request_headers = header_ops(modifier, field)?;
        }
        "ResponseHeaderModifier" => {
            let modifier = part(filter.response_header_modifier.as_ref(), field)?;
            changes.filters.response_headers = header_ops(modifier, field)?;
        }
        "RequestRedirect" => {
            let redirect = part(filter.request_redirect.as_ref(), field)?;
            let path = edit(redirect.path.as_ref())?;
            changes.redirect = Some(translate_redirect(redirect, path, field)?);
        }
        "URLRewrite" => {
            let rewrite = part(filter.url_rewrite.as_ref(), field)?;
            changes.filters.rewrite_host = rewrite.hostname.as_deref().map(Into::into);
            changes.filters.rewrite_path = edit(rewrite.path.as_ref())?;
        }
        "RequestMirror" => {
            let mirror = part(filter.request_mirror.as_ref(), field)?;
            let share = share(mirror).ok_or_else(|| unsupported(field, "not a share"))?;
            let backend = resolver.mirror(&mirror.backend_ref, field);
            let mirrors = backend.map(|backend| Mirror { backend, share });
            changes.filters.mirrors.extend(mirrors);
        }
        "CORS" => {
            let cors = part(filter.cors.as_ref(), field)?;
            changes.filters.cors = Some(Arc::new(translate_cors(cors, field)?));
        }
        "ExternalAuth" => {
            let auth = part(filter.external_auth.as_ref(), field)?;
            let external = external_auth(auth, resolver, field)?;
            guards_of(&mut changes.filters).external = Some(Arc::new(external));
        }
        "ExtensionRef" => {
            let reference = part(filter.extension_ref.as_ref(), field)?;
            extend(changes, reference, resolver, field)?;
        }
        other => {
            let text = format!("a filter of type {other} is not supported");
            return Err(unsupported(field, &text));
        }
    }
    Ok(())
}

/// What another object does, of the route's own namespace.
fn extend(
    changes: &mut Changes,
    reference: &LocalObjectReference,
    resolver: &Resolver<'_, '_>,
    field: &str,
) -> Result<(), Finding> {
    let LocalObjectReference { group, kind, name } = reference;
    if group == attached::GROUP && kind == attached::KIND {
        let name = Name::new(resolver.namespace(), name);
        changes.options.push(name);
        return Ok(());
    }
    if group != extension::GROUP || kind != extension::KIND {
        let text = format!(
            "{group}/{kind} is no extension that is known, {}/{} and {}/{} are",
            extension::GROUP,
            extension::KIND,
            attached::GROUP,
            attached::KIND
        );
        return Err(unsupported(field, &text));
    }
    let name = Name::new(resolver.namespace(), name);
    let known = Extended {
        request_headers: std::mem::take(&mut changes.request_headers),
        filters: std::mem::take(&mut changes.filters),
        redirect: changes.redirect.take(),
        to_https: changes.to_https,
        respond: changes.respond.take(),
    };
    let id = format!("{}/{field}", resolver.owner());
    let extended = extension::apply(resolver.reader(), &name, &id, known);
    let extended = extended.map_err(|text| unsupported(field, &text))?;
    *changes = Changes {
        request_headers: extended.request_headers,
        filters: extended.filters,
        redirect: extended.redirect,
        to_https: extended.to_https,
        respond: extended.respond,
        options: std::mem::take(&mut changes.options),
    };
    Ok(())
}

/// The field that belongs to a filter's type.
fn part<'f, T>(part: Option<&'f T>, field: &str) -> Result<&'f T, Finding> {
    part.ok_or_else(|| unsupported(field, "the field of its type is missing"))
}

fn header_ops(modifier: &filter::HeaderModifier, field: &str) -> Result<HeaderOps, Finding> {
    let pairs = |list: &[filter::Header]| -> Result<Vec<_>, Finding> {
        let pair = |header: &filter::Header| {
            headers::settable(&header.name, &header.value).map_err(|text| unsupported(field, &text))
        };
        list.iter().map(pair).collect()
    };
    let name = |text: &String| headers::name(text).map_err(|text| unsupported(field, &text));
    Ok(HeaderOps {
        remove: modifier.remove.iter().map(name).collect::<Result<_, _>>()?,
        set: pairs(&modifier.set)?,
        add: pairs(&modifier.add)?,
    })
}

fn path_edit(
    path: &PathModifier,
    prefix: Option<&Arc<str>>,
    field: &str,
) -> Result<PathEdit, Finding> {
    match (path.type_.as_str(), prefix) {
        ("ReplaceFullPath", _) => {
            let full = path.replace_full_path.as_deref().unwrap_or_default();
            Ok(PathEdit::Full(full.into()))
        }
        ("ReplacePrefixMatch", Some(prefix)) => Ok(PathEdit::Prefix {
            matched: Arc::clone(prefix),
            with: path
                .replace_prefix_match
                .as_deref()
                .unwrap_or_default()
                .into(),
        }),
        ("ReplacePrefixMatch", None) => Err(Finding::new(
            reason::INCOMPATIBLE_FILTERS,
            format!("{field}: ReplacePrefixMatch needs a match of type PathPrefix"),
        )),
        (other, _) => Err(unsupported(
            field,
            &format!("path type {other:?} is not supported"),
        )),
    }
}

fn translate_redirect(
    redirect: &filter::RequestRedirect,
    path: Option<PathEdit>,
    field: &str,
) -> Result<Redirect, Finding> {
    let port = match (redirect.port, &redirect.scheme) {
        (Some(port), _) => {
            let number = u16::try_from(port);
            RedirectPort::Number(number.map_err(|_| unsupported(field, "not a port"))?)
        }
        (None, Some(_)) => RedirectPort::WellKnown,
        (None, None) => RedirectPort::Listener,
    };
    let status = u16::try_from(redirect.status_code);
    let status = status
        .ok()
        .filter(|status| [301, 302, 303, 307, 308].contains(status));
    Ok(Redirect {
        scheme: redirect.scheme.as_deref().map(Into::into),
        host: redirect.hostname.as_deref().map(Into::into),
        port,
        path,
        strip_query: false,
        status: status.ok_or_else(|| unsupported(field, "the status is not one of a redirect"))?,
    })
}

/// How long a service may take to decide; the API says nothing about it.
const DECISION: Duration = Duration::from_secs(5);

/// Who decides. A service that cannot be asked lets nobody pass.
pub(super) fn external_auth(
    auth: &filter::ExternalAuth,
    resolver: &mut Resolver<'_, '_>,
    field: &str,
) -> Result<ExternalAuthorization, Finding> {
    let body = auth.forward_body.as_ref().and_then(|body| body.max_size);
    // Gateway API: what is longer is cut, and nothing is sent if the size is 0.
    let body = body.filter(|bytes| *bytes > 0).map(|bytes| AskedBody {
        most: u32::try_from(bytes).unwrap_or(u32::MAX),
        partial: true,
        as_bytes: true,
    });
    let names = |list: &[String]| -> Result<Vec<Arc<str>>, Finding> {
        let name = |text: &String| headers::name(text).map_err(|text| unsupported(field, &text));
        list.iter().map(name).collect()
    };
    let is_grpc = match auth.protocol.as_str() {
        "GRPC" => true,
        "HTTP" => false,
        other => {
            let text = format!("externalAuth.protocol {other:?} is not supported");
            return Err(unsupported(field, &text));
        }
    };
    let (protocol, request_headers, upstream_headers) = if is_grpc {
        let grpc = auth.grpc.clone().unwrap_or_default();
        let wanted = names(&grpc.allowed_headers)?;
        (AuthorizationProtocol::Grpc, wanted, Vec::new())
    } else {
        let http = auth.http.clone().unwrap_or_default();
        let mut wanted = names(&http.allowed_headers)?;
        wanted.push("authorization".into());
        let mut copied = names(&http.allowed_response_headers)?;
        if copied.is_empty() {
            copied.push("*".into());
        }
        let path_prefix = http.path.unwrap_or_default().trim_end_matches('/').into();
        let protocol = AuthorizationProtocol::Http { path_prefix };
        (protocol, wanted, copied)
    };
    let backend = resolver.asked(&auth.backend_ref, is_grpc, field);
    let status_on_error = if backend.is_some() { 403 } else { 500 };
    Ok(ExternalAuthorization {
        // One that is not there cannot be asked.
        backend: backend.unwrap_or_else(|| BackendId("gateway-api/none".into())),
        protocol,
        timeout: DECISION,
        fail_open: false,
        status_on_error,
        request_headers,
        upstream_headers,
        client_headers: Vec::new(),
        reserved_headers: Vec::new(),
        when: Vec::new(),
        context: Vec::new(),
        body,
    })
}

/// `None` if it is not between none and all.
fn share(mirror: &filter::RequestMirror) -> Option<Share> {
    match (mirror.percent, &mirror.fraction) {
        (None, None) => Some(Share::ALL),
        (Some(percent), _) => Share::new(u32::try_from(percent).ok()?, 100),
        (None, Some(fraction)) => Share::new(
            u32::try_from(fraction.numerator).ok()?,
            u32::try_from(fraction.denominator).ok()?,
        ),
    }
}

fn translate_cors(cors: &filter::Cors, field: &str) -> Result<Cors, Finding> {
    let origins = cors.allow_origins.iter().map(|text| {
        origin(text).ok_or_else(|| unsupported(field, &format!("{text:?} is not an origin")))
    });
    let texts = |list: &[String]| list.iter().map(|text| text.as_str().into()).collect();
    let max_age = u64::try_from(cors.max_age).unwrap_or_default();
    Ok(Cors {
        origins: origins.collect::<Result<_, _>>()?,
        methods: texts(&cors.allow_methods),
        headers: texts(&cors.allow_headers),
        expose: texts(&cors.expose_headers),
        credentials: cors.allow_credentials.unwrap_or(false),
        max_age: Duration::from_secs(max_age),
    })
}

fn origin(text: &str) -> Option<Origins> {
    if text == "*" {
        return Some(Origins::Any);
    }
    let (scheme, rest) = text.split_once("://")?;
    Some(match rest.strip_prefix('*') {
        Some(suffix) => Origins::Wildcard {
            scheme: scheme.into(),
            suffix: suffix.into(),
        },
        None => Origins::Exact(text.into()),
    })
}
