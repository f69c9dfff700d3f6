//! `http[].match[]`: one block of conditions that must all hold.
//!
//! A block that cannot be read is not served: nobody can say which requests it is for. Conditions
//! about where a request comes in (port, gateways, source) are decided here and now, not per
//! request, as in Istio.

use std::sync::Arc;

use routing::model::{Match, PathMatch, Predicate, Subject};

use super::compare::{self, Compared, Unreadable};
use super::is_gateway_label;
use super::place::Place;
use crate::fields::{Fields, Findings};
use crate::shared::headers;

/// The path that a block asks for, for rewrites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// The text that the path begins with.
    Text(Arc<str>),
    /// The same, in any case.
    AnyCase(Arc<str>),
    /// The whole path is compared.
    Whole,
}

/// One match block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) matches: Match,
    pub(super) prefix: Prefix,
    /// Matches every request of its host: comes after all others.
    pub(super) is_catch_all: bool,
    pub(super) field: String,
    gateways: Option<Vec<String>>,
    port: Option<u16>,
    /// Whether the gateway itself is the source that is asked for; `None` if none is.
    from_gateway: Option<bool>,
}

impl Block {
    /// What a rule without `match` has.
    pub(super) fn everything(field: String) -> Self {
        Self {
            matches: Match::default(),
            prefix: Prefix::Text("/".into()),
            is_catch_all: true,
            field,
            gateways: None,
            port: None,
            from_gateway: None,
        }
    }

    /// Whether requests that come in there are meant.
    pub(super) fn is_for(&self, place: &Place) -> bool {
        let gateways = self.gateways.as_ref();
        let named = gateways.is_none_or(|names| names.contains(&place.gateway));
        let port = self
            .port
            .is_none_or(|port| place.port.is_none_or(|own| own == port));
        let source = self
            .from_gateway
            .is_none_or(|is_gateway| is_gateway && !place.is_mesh());
        named && port && source
    }

    /// Between services it is not known where a request comes from: what is asked about that is
    /// reported.
    pub(super) fn tell_in_mesh(&self, findings: &Findings) {
        let mesh = super::place::MESH.to_owned();
        if self
            .gateways
            .as_ref()
            .is_some_and(|names| !names.contains(&mesh))
        {
            return;
        }
        if self.from_gateway.is_some() {
            let message = "the source of calls between services is not known, so the match is not \
                           served for them; match a header instead";
            findings.refuse("SourceNotSupported", &self.field, message);
        }
        if self.port.is_some() {
            let message = "the port of calls between services is not compared";
            findings.refuse("PortNotCompared", &format!("{}.port", self.field), message);
        }
    }
}

/// Reads a block of an object in this namespace.
pub(super) fn read(fields: &Fields<'_>, namespace: &str) -> Result<Block, Unreadable> {
    let mut block = Block::everything(fields.path().to_owned());
    // Names for logs and metrics; nothing that is served depends on them.
    fields.ignore("name");
    fields.ignore("statPrefix");
    let read = conditions(fields, &mut block.matches);
    let path = path(fields, &mut block);
    let place = place(fields, namespace, &mut block);
    read.and(path).and(place)?;
    let matches = &block.matches;
    let is_everything = matches.headers.is_empty()
        && matches.query.is_empty()
        && matches.other.is_empty()
        && matches.method.is_none();
    block.is_catch_all = is_everything
        && match &matches.path {
            None => true,
            Some(PathMatch::StringPrefix(prefix)) => **prefix == *"/",
            Some(PathMatch::Regex(regex)) => [".*", "/.*"].contains(&&**regex),
            Some(PathMatch::Exact(_) | PathMatch::ElementPrefix(_) | PathMatch::Connect) => false,
        };
    if block.is_catch_all {
        block.matches.path = None;
    }
    Ok(block)
}

fn path(fields: &Fields<'_>, block: &mut Block) -> Result<(), Unreadable> {
    let ignore_case = fields.bool("ignoreUriCase").unwrap_or(false);
    let Some(uri) = object(fields, "uri")? else {
        return Ok(());
    };
    let compared = compare::read(&uri)?;
    block.prefix = match &compared {
        Compared::Prefix(text) if ignore_case => Prefix::AnyCase(Arc::clone(text)),
        Compared::Prefix(text) => Prefix::Text(Arc::clone(text)),
        Compared::Exact(_) | Compared::Regex(_) => Prefix::Whole,
        Compared::Present => return Ok(()),
    };
    if ignore_case && !matches!(compared, Compared::Regex(_)) {
        let test = compared.test(true);
        block.matches.other.push(Predicate {
            test,
            ..compared.predicate(Subject::Path)
        });
        return Ok(());
    }
    block.matches.path = Some(match compared {
        Compared::Exact(text) => PathMatch::Exact(text),
        Compared::Prefix(text) => PathMatch::StringPrefix(text),
        Compared::Regex(text) => PathMatch::Regex(text),
        Compared::Present => return Ok(()),
    });
    Ok(())
}

/// A nested object. Anything else in its place was reported, and must not match everything.
fn object<'v>(fields: &Fields<'v>, key: &str) -> Result<Option<Fields<'v>>, Unreadable> {
    let found = fields.object(key);
    let is_wrong = fields.raw(key).is_some_and(|value| !value.is_object());
    if is_wrong { Err(Unreadable) } else { Ok(found) }
}

/// Everything but the path. All of it is read, also if some of it cannot be.
fn conditions(fields: &Fields<'_>, matches: &mut Match) -> Result<(), Unreadable> {
    let mut result = Ok(());
    for (key, subject) in [
        ("method", Subject::Method),
        ("scheme", Subject::Scheme),
        ("authority", Subject::Host),
    ] {
        let read = object(fields, key);
        match read.and_then(|found| found.map(|found| compare::read(&found)).transpose()) {
            Ok(None) => {}
            Ok(Some(Compared::Exact(method))) if key == "method" => matches.method = Some(method),
            Ok(Some(compared)) if key == "authority" => matches.other.push(host(&compared)),
            Ok(Some(compared)) => matches.other.push(compared.predicate(subject)),
            Err(error) => result = Err(error),
        }
    }
    for (key, without) in [("headers", false), ("withoutHeaders", true)] {
        match object(fields, key) {
            Ok(None) => {}
            Ok(Some(map)) => {
                for name in map.keys() {
                    if let Err(error) = header(&map, name, without, matches) {
                        result = Err(error);
                    }
                }
            }
            Err(error) => result = Err(error),
        }
    }
    match object(fields, "queryParams") {
        Ok(None) => {}
        Ok(Some(map)) => {
            for name in map.keys() {
                if let Err(error) = parameter(&map, name, matches) {
                    result = Err(error);
                }
            }
        }
        Err(error) => result = Err(error),
    }
    result
}

fn parameter(map: &Fields<'_>, name: &str, matches: &mut Match) -> Result<(), Unreadable> {
    let compared = match object(map, name)? {
        Some(value) => compare::read(&value)?,
        None => Compared::Present,
    };
    match compared.query(name.into()) {
        Ok(query) => matches.query.push(query),
        Err(predicate) => matches.other.push(predicate),
    }
    Ok(())
}

/// Ports differ from those in the files wherever the gateway listens elsewhere, so they count only
/// if the pattern has one.
fn host(compared: &Compared) -> Predicate {
    let (Compared::Exact(text) | Compared::Prefix(text) | Compared::Regex(text)) = compared else {
        return compared.predicate(Subject::Host);
    };
    let names_port = text.contains(':') && !text.contains("(?:");
    let subject = if names_port {
        Subject::Authority
    } else {
        Subject::Host
    };
    Predicate {
        test: compared.test(true),
        ..compared.predicate(subject)
    }
}

fn header(
    map: &Fields<'_>,
    name: &str,
    without: bool,
    matches: &mut Match,
) -> Result<(), Unreadable> {
    let compared = match object(map, name)? {
        Some(value) => compare::read(&value)?,
        None => Compared::Present,
    };
    if let Some(claim) = name.strip_prefix("@request.auth.claims") {
        let path = claim_path(claim).ok_or(Unreadable).inspect_err(|_| {
            map.refuse(name, "HeaderInvalid", format!("{name:?} names no claim"));
        })?;
        let predicate = compared.predicate(Subject::Claim(path));
        matches.other.push(Predicate {
            negate: without,
            ..predicate
        });
        return Ok(());
    }
    if ["uri", "scheme", "method", "authority"].contains(&name) || name.starts_with(':') {
        let message = format!("{name:?} is no header; use the field of the match of that name");
        map.refuse(name, "HeaderInvalid", message);
        return Err(Unreadable);
    }
    let lower = headers::name(name).map_err(|error| {
        map.refuse(name, "HeaderInvalid", error);
        Unreadable
    })?;
    if without {
        matches.other.push(Predicate {
            negate: true,
            // Envoy: a header that is not there is compared as an empty one.
            missing_is_empty: compared != Compared::Present,
            ..compared.predicate(Subject::Header(lower))
        });
        return Ok(());
    }
    match compared.header(lower) {
        Ok(header) => matches.headers.push(header),
        Err(predicate) => matches.other.push(predicate),
    }
    Ok(())
}

/// `.a.b` or `[a][b]`.
pub(super) fn claim_path(text: &str) -> Option<Arc<[Arc<str>]>> {
    let parts: Vec<Arc<str>> = if let Some(rest) = text.strip_prefix('.') {
        rest.split('.').map(Arc::from).collect()
    } else {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.split("][").map(Arc::from).collect()
    };
    let is_whole = parts
        .iter()
        .all(|part| !part.is_empty() && !part.contains(['[', ']']));
    is_whole.then(|| parts.into())
}

fn place(fields: &Fields<'_>, namespace: &str, block: &mut Block) -> Result<(), Unreadable> {
    if fields.has("gateways") {
        let names = fields.strings("gateways");
        let names = names
            .iter()
            .map(|name| super::place::gateway_name(name, namespace));
        block.gateways = Some(names.collect());
    }
    block.port = fields.number("port");
    if fields.has("sourceLabels") {
        let labels = fields.string_map("sourceLabels");
        let ours = labels
            .iter()
            .all(|(key, value)| is_gateway_label(key, value));
        block.from_gateway = Some(ours && !labels.is_empty());
    }
    if let Some(source) = fields.text("sourceNamespace") {
        let ours = source == super::ROOT_NAMESPACE;
        block.from_gateway = Some(block.from_gateway.unwrap_or(true) && ours);
    }
    if fields.has("port") && block.port.is_none() {
        return Err(Unreadable);
    }
    Ok(())
}
