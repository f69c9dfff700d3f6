//! Who may pass: tokens, rules, and another service that decides.

use std::sync::Arc;

use routing::model::{
    AccessRule, Authorization, AuthorizationProtocol, BackendId, ExternalAuthorization, Guards,
    KeySource, Network, Predicate, Subject, Test, TextTest, TokenPlace, TokenProvider, Tokens,
};
use serde_json::{Map, Value, json};

use super::{Place, Section, Writer, answer, sorted, texts, time};
use crate::istio::values;

pub(super) fn write(writer: &mut Writer, guards: &Guards, place: &Place<'_>) {
    if let Some(tokens) = &guards.tokens {
        writer.put(
            ("jwt", "guards.tokens"),
            self::tokens(tokens),
            &**tokens,
            |said| said.guards.all().tokens.as_deref().cloned(),
        );
    }
    if let Some(rules) = &guards.authorization {
        writer.put(
            ("authorization", "guards.authorization"),
            authorization(rules),
            &plain_rules(rules),
            |said| Some(plain_rules(said.guards.all().authorization.as_deref()?)),
        );
    }
    if guards.credentials.is_some() {
        let why = "names, passwords and keys are not written to other objects: ask with \
                   externalAuthorization, or keep the object";
        writer.miss("guards.credentials", why);
    }
    if let Some(external) = &guards.external {
        writer.put(
            ("externalAuthorization", "guards.external"),
            self::external(external, place),
            &nobodys(external),
            |said| Some(nobodys(&said.external?.settings)),
        );
    }
}

fn tokens(tokens: &Tokens) -> Section {
    let providers: Result<Vec<_>, _> = tokens.providers.iter().map(provider).collect();
    Ok(json!({"required": tokens.required, "providers": providers?}))
}

fn provider(provider: &TokenProvider) -> Section {
    let mut section = Map::new();
    let mut put = |key: &str, value: Value| drop(section.insert(key.to_owned(), value));
    if let Some(issuer) = &provider.issuer {
        put("issuer", json!(issuer));
    }
    if !provider.audiences.is_empty() {
        put("audiences", texts(&provider.audiences));
    }
    match &provider.keys {
        KeySource::Inline(set) => put("jwks", json!(set)),
        KeySource::Remote {
            uri,
            timeout,
            refresh,
        } => put(
            "remoteJwks",
            json!({"uri": uri, "timeout": time(*timeout)?, "refresh": time(*refresh)?}),
        ),
    }
    let from = provider.from.iter().map(|from| match from {
        TokenPlace::Header { name, prefix } => json!({"header": name, "prefix": prefix}),
        TokenPlace::Query(name) => json!({"query": name}),
        TokenPlace::Cookie(name) => json!({"cookie": name}),
    });
    put("from", from.collect());
    put("leeway", time(provider.leeway)?);
    if provider.forward {
        put("forward", true.into());
    }
    let claims = provider.claims_to_headers.iter();
    let claims = claims.map(|(claim, header)| json!({"claim": claim, "header": header}));
    let claims: Vec<_> = claims.collect();
    if !claims.is_empty() {
        put("claimsToHeaders", claims.into());
    }
    if let Some(header) = &provider.payload_header {
        put("payloadHeader", json!(header));
    }
    Ok(Value::Object(section))
}

fn authorization(rules: &Authorization) -> Section {
    let mut section = Map::new();
    let lists = [
        ("deny", Some(&rules.deny), false),
        ("allow", rules.allow.as_ref(), true),
        ("audit", Some(&rules.audit), false),
    ];
    for (key, list, is_always) in lists {
        let Some(list) = list else { continue };
        let written: Result<Vec<_>, _> = list.iter().map(rule).collect();
        if is_always || !list.is_empty() {
            section.insert(key.to_owned(), written?.into());
        }
    }
    let denied = rules.denied.clone().unwrap_or_else(usual);
    section.insert("response".to_owned(), answer(&denied));
    Ok(Value::Object(section))
}

/// What a client gets where no dialect says it (see the model).
fn usual() -> routing::model::Respond {
    values::plain(403, "RBAC: access denied")
}

/// A group of one list says the same as a group for each of its conditions. Whose a rule is does not
/// count.
fn plain_rules(rules: &Authorization) -> Authorization {
    let plain = |rules: &[AccessRule]| -> Vec<AccessRule> {
        let rules = rules.iter().map(|rule| AccessRule {
            policy: "".into(),
            all: groups(&rule.all),
        });
        rules.collect()
    };
    Authorization {
        deny: plain(&rules.deny),
        allow: rules.allow.as_deref().map(plain),
        audit: plain(&rules.audit),
        denied: Some(sorted(&rules.denied.clone().unwrap_or_else(usual))),
    }
}

fn groups(all: &[Vec<Vec<Predicate>>]) -> Vec<Vec<Vec<Predicate>>> {
    let mut out = Vec::new();
    for group in all {
        match &group[..] {
            [only] => out.extend(only.iter().map(|one| vec![vec![exactly(one)]])),
            lists => {
                let lists = lists.iter().map(|list| {
                    let mut list: Vec<_> = list.iter().map(exactly).collect();
                    list.sort_by_key(|one| format!("{one:?}"));
                    list
                });
                out.push(lists.collect());
            }
        }
    }
    out.sort_by_key(|group| format!("{group:?}"));
    out
}

/// One of one text is that text.
fn exactly(one: &Predicate) -> Predicate {
    let mut one = one.clone();
    if let Test::In(texts) = &one.test
        && let [text] = &texts[..]
    {
        one.test = Test::Text {
            how: TextTest::Exact,
            value: Arc::clone(text),
            ignore_case: false,
        };
    }
    one
}

fn rule(rule: &AccessRule) -> Section {
    let mut section = Map::new();
    let mut singles = Vec::new();
    for group in &rule.all {
        if let [only] = &group[..] {
            singles.extend(only.iter().cloned());
            continue;
        }
        let is_source = group.iter().flatten().all(|one| of_source(one).is_some());
        let (key, inner, name): (_, _, NameOf) = if is_source {
            ("from", "source", of_source)
        } else {
            ("to", "operation", of_operation)
        };
        let lists: Result<Vec<_>, _> = group.iter().map(|list| one_of(list, name)).collect();
        let lists = lists?.into_iter().map(|fields| json!({inner: fields}));
        let before = section.insert(key.to_owned(), lists.collect());
        if before.is_some() {
            return Err("two choices of the same sort cannot be said".to_owned());
        }
    }
    let is_operation = |one: &Predicate| of_operation(one).is_some();
    let (operation, others): (Vec<_>, Vec<_>) = singles.into_iter().partition(is_operation);
    if !operation.is_empty() {
        let fields = one_of(&operation, of_operation)?;
        let before = section.insert("to".to_owned(), json!([{"operation": fields}]));
        if before.is_some() {
            return Err("two choices of the same sort cannot be said".to_owned());
        }
    }
    let when: Result<Vec<_>, _> = others.iter().map(condition).collect();
    if !others.is_empty() {
        section.insert("when".to_owned(), when?.into());
    }
    Ok(Value::Object(section))
}

/// The field that a condition belongs in.
type NameOf = fn(&Predicate) -> Option<&'static str>;

fn one_of(list: &[Predicate], name: NameOf) -> Section {
    let mut fields = Map::new();
    for one in list {
        let name = name(one).ok_or_else(|| format!("a rule cannot say {one}"))?;
        let (first, rest) = name.split_at(1);
        let key = if one.negate {
            format!("not{}{rest}", first.to_uppercase())
        } else {
            name.to_owned()
        };
        let before = fields.insert(key, values(one)?.into());
        if before.is_some() {
            return Err(format!("{name} cannot be said twice"));
        }
    }
    Ok(Value::Object(fields))
}

fn of_source(one: &Predicate) -> Option<&'static str> {
    match one.subject {
        Subject::Peer => Some("ipBlocks"),
        Subject::Client => Some("remoteIpBlocks"),
        Subject::Principal => Some("principals"),
        Subject::RequestPrincipal => Some("requestPrincipals"),
        _ => None,
    }
}

fn of_operation(one: &Predicate) -> Option<&'static str> {
    match one.subject {
        Subject::Host => Some("hosts"),
        Subject::Method => Some("methods"),
        Subject::Path => Some("paths"),
        _ => None,
    }
}

/// An entry of `when`.
fn condition(one: &Predicate) -> Section {
    let key = match &one.subject {
        Subject::Header(name) => format!("request.headers[{name}]"),
        Subject::Claim(path) => {
            let parts: String = path.iter().map(|part| format!("[{part}]")).collect();
            format!("request.auth.claims{parts}")
        }
        Subject::Peer => "source.ip".to_owned(),
        Subject::Client => "remote.ip".to_owned(),
        Subject::Principal => "source.principal".to_owned(),
        Subject::RequestPrincipal => "request.auth.principal".to_owned(),
        _ => return Err(format!("a rule cannot say {one}")),
    };
    let list = if one.negate { "notValues" } else { "values" };
    Ok(json!({"key": key, list: values(one)?}))
}

fn values(one: &Predicate) -> Result<Vec<String>, String> {
    let cannot = || format!("a rule cannot say {one}");
    let is_plain =
        |text: &str| !text.starts_with('*') && !text.ends_with('*') && !text.contains("{*");
    match &one.test {
        Test::Present => Ok(vec!["*".to_owned()]),
        Test::In(texts) if texts.iter().all(|text| is_plain(text)) => {
            Ok(texts.iter().map(|text| text.to_string()).collect())
        }
        Test::Network(networks) => Ok(networks.iter().map(Network::to_string).collect()),
        Test::Text { how, value, .. } if is_plain(value) => match how {
            TextTest::Exact => Ok(vec![value.to_string()]),
            TextTest::Prefix => Ok(vec![format!("{value}*")]),
            TextTest::Suffix => Ok(vec![format!("*{value}")]),
            _ => Err(cannot()),
        },
        _ => Err(cannot()),
    }
}

fn external(external: &ExternalAuthorization, place: &Place<'_>) -> Section {
    let service = (place.service)(&external.backend);
    let service = service.ok_or("who is asked is no Service, or not asked as it says itself")?;
    if *service.service.namespace != *place.namespace {
        let why = format!(
            "who is asked is in namespace {}: a policy asks Services of its own namespace",
            service.service.namespace
        );
        return Err(why);
    }
    let mut section = json!({
        "service": {"name": service.service.name, "port": service.port},
        "timeout": time(external.timeout)?,
        "statusOnError": external.status_on_error,
    });
    let mut seen: Vec<_> = external.request_headers.clone();
    match &external.protocol {
        AuthorizationProtocol::Grpc => section["protocol"] = "GRPC".into(),
        AuthorizationProtocol::Http { path_prefix } => {
            if !path_prefix.is_empty() {
                section["pathPrefix"] = json!(path_prefix);
            }
            if let Some(at) = seen.iter().rposition(|name| &**name == "authorization") {
                seen.remove(at);
            }
        }
        AuthorizationProtocol::HttpAt { target, .. } => {
            return Err(format!("it is asked at {target} alone"));
        }
        AuthorizationProtocol::AuthRequest(asked) => {
            return Err(format!(
                "{} is asked as auth_request of NGINX does",
                asked.host
            ));
        }
    }
    if external.fail_open {
        section["failOpen"] = true.into();
    }
    let lists = [
        ("requestHeaders", &seen),
        ("upstreamHeaders", &external.upstream_headers),
        ("clientHeaders", &external.client_headers),
    ];
    for (key, list) in lists {
        if !list.is_empty() {
            section[key] = texts(list);
        }
    }
    if let Some(body) = &external.body {
        section["body"] = json!({
            "maxBytes": body.most, "partial": body.partial, "asBytes": body.as_bytes,
        });
    }
    Ok(section)
}

/// The same whoever is asked; the names of headers in no order.
fn nobodys(external: &ExternalAuthorization) -> ExternalAuthorization {
    let mut out = external.clone();
    out.backend = BackendId("".into());
    let mut names = std::mem::take(&mut out.request_headers);
    if out.protocol != AuthorizationProtocol::Grpc && names.is_empty() {
        names.push("authorization".into());
    }
    names.sort();
    names.dedup();
    out.request_headers = names;
    if let Some(body) = &mut out.body
        && out.protocol != AuthorizationProtocol::Grpc
    {
        body.as_bytes = true;
    }
    out
}

#[cfg(test)]
pub(super) fn plain(guards: &Guards) -> Guards {
    let mut guards = guards.clone();
    if let Some(rules) = &mut guards.authorization {
        *rules = Arc::new(plain_rules(rules));
    }
    if let Some(external) = &mut guards.external {
        let backend = external.backend.clone();
        let mut plain = nobodys(external);
        plain.backend = backend;
        *external = Arc::new(plain);
    }
    guards
}
