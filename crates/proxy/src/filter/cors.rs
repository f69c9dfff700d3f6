//! Cross-origin requests (Fetch standard, "CORS protocol"): preflights are answered here, other
//! answers get the fields that let the page read them.
//!
//! An origin that is not allowed gets no field at all: its browser keeps the answer from the page.

use routing::CompiledFilters;
use routing::model::{Cors, Origins};

use crate::downstream::Reply;
use crate::message::View;

const ALLOW_ORIGIN: &str = "access-control-allow-origin";
const ALLOW_CREDENTIALS: &str = "access-control-allow-credentials";
const ALLOW_METHODS: &str = "access-control-allow-methods";
const ALLOW_HEADERS: &str = "access-control-allow-headers";
const EXPOSE_HEADERS: &str = "access-control-expose-headers";
const MAX_AGE: &str = "access-control-max-age";

type Field = (&'static str, String);

/// The answer to a preflight, if the request is one.
pub(crate) fn preflight(filters: &CompiledFilters, view: View<'_>) -> Option<Reply> {
    let cors = filters.cors.as_deref()?;
    let wanted = text(view, "access-control-request-method");
    if view.method() != "OPTIONS" || wanted.is_none() || text(view, "origin").is_none() {
        return None;
    }
    let mut fields = origin(filters, cors, view);
    if !fields.is_empty() {
        let listed = list(&cors.methods, cors.credentials, wanted);
        fields.extend(listed.map(|methods| (ALLOW_METHODS, methods)));
        let wanted = text(view, "access-control-request-headers");
        let listed = list(&cors.headers, cors.credentials, wanted);
        fields.extend(listed.map(|headers| (ALLOW_HEADERS, headers)));
        fields.extend(exposed(cors));
        fields.push((MAX_AGE, cors.max_age.as_secs().to_string()));
    }
    fields.push(("vary", "Origin".to_owned()));
    Some(Reply {
        status: 204,
        headers: owned(fields),
        ..Reply::default()
    })
}

/// Fields of the answer to a request that is no preflight.
pub(crate) fn answer(filters: &CompiledFilters, cors: &Cors, view: View<'_>) -> Vec<Field> {
    let mut fields = origin(filters, cors, view);
    if !fields.is_empty() {
        fields.extend(exposed(cors));
    }
    fields
}

/// Puts what a page needs into an answer of the gateway's own, in place of what is there.
pub(crate) fn put(headers: &mut Vec<(String, String)>, fields: Vec<(String, String)>) {
    if fields.is_empty() {
        return;
    }
    let varies = |name: &str| name.eq_ignore_ascii_case("vary");
    headers.retain(|(name, value)| {
        let is_put = fields.iter().any(|(it, _)| it.eq_ignore_ascii_case(name));
        // It may vary by more.
        !is_put || varies(name) && !value.eq_ignore_ascii_case("origin")
    });
    headers.extend(fields);
}

/// The fields that a page may read. With credentials, `*` names a field of that name and nothing
/// else: it cannot be echoed, because nobody knows yet what the backend will send.
fn exposed(cors: &Cors) -> Option<Field> {
    let names = cors.expose.iter().map(|name| &**name).collect::<Vec<_>>();
    (!names.is_empty()).then(|| (EXPOSE_HEADERS, names.join(", ")))
}

/// Nothing if the request's origin is not allowed.
fn origin(filters: &CompiledFilters, cors: &Cors, view: View<'_>) -> Vec<Field> {
    let Some(origin) = text(view, "origin") else {
        return Vec::new();
    };
    if !filters.allows_origin(origin) {
        return Vec::new();
    }
    let is_open = cors.origins.contains(&Origins::Any) && !cors.credentials;
    let allowed = if is_open { "*" } else { origin };
    let mut fields = vec![(ALLOW_ORIGIN, allowed.to_owned())];
    if cors.credentials {
        fields.push((ALLOW_CREDENTIALS, "true".to_owned()));
    }
    fields
}

/// What is allowed, as one value. `*` does not count with credentials: what was asked for is
/// named instead.
fn list(
    allowed: &[std::sync::Arc<str>],
    credentials: bool,
    wanted: Option<&str>,
) -> Option<String> {
    if allowed.iter().any(|one| **one == *"*") {
        return match (credentials, wanted) {
            (true, wanted) => wanted.map(str::to_owned),
            (false, _) => Some("*".to_owned()),
        };
    }
    let names: Vec<&str> = allowed.iter().map(|one| &**one).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn text<'v>(view: View<'v>, name: &str) -> Option<&'v str> {
    std::str::from_utf8(view.field(name)?).ok()
}

fn owned(fields: Vec<Field>) -> Vec<(String, String)> {
    let owned = |(name, value): Field| (name.to_owned(), value);
    fields.into_iter().map(owned).collect()
}
