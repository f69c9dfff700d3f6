//! Suites and curves as users write them: by OpenSSL's and BoringSSL's names or by those of the
//! registry (IANA), in lists or in OpenSSL's little language of rules.
//!
//! A rule adds what it selects; `-` takes that out again, `!` for good, `+` moves it to the end.
//! A selector is a name or a property, or several properties joined with `+`. BoringSSL's
//! `[A|B]` are wanted equally. Suites that the gateway does not have are told, and the others
//! serve; without any other there is nothing to serve with.

use routing::model::tls::{TlsVersion, TlsVersions};
use routing::model::{Crypto, Curve, Suite};

use crate::fields::Fields;

/// What a list comes to; nothing is everything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listed<T> {
    pub(crate) wanted: Vec<T>,
    /// What of it the gateway does not have.
    pub(crate) missing: Option<String>,
}

impl<T> Listed<T> {
    fn of(wanted: Vec<T>, missing: &[String]) -> Self {
        let missing = (!missing.is_empty()).then(|| named(missing));
        Self { wanted, missing }
    }

    /// What is to be told where the rest is served.
    pub(crate) fn told(&self) -> Option<String> {
        let missing = self.missing.as_ref()?;
        let rest = if self.wanted.is_empty() {
            "TLS 1.3 alone is spoken, and all of its suites are offered"
        } else {
            "the others are offered"
        };
        Some(format!("the gateway does not have {missing}; {rest}"))
    }
}

/// Names that a message has at most.
const NAMED: usize = 8;

/// Reads suites and curves at these keys, and tells what is left out.
///
/// # Errors
/// The key of which nothing is left, and why; the caller tells it.
pub(crate) fn read<'k>(
    fields: &Fields<'_>,
    (suites_key, curves_key): (&'k str, &'k str),
    versions: TlsVersions,
) -> Result<Crypto, (&'k str, String)> {
    let tell = |key: &str, told: Option<String>| {
        if let Some(text) = told {
            fields.refuse(key, "NotOffered", text);
        }
    };
    // Both are read in any case, for what is wrong with them.
    let suites = suites(&fields.strings(suites_key), versions);
    let curves = curves(&fields.strings(curves_key));
    let suites = suites.map_err(|text| (suites_key, text))?;
    let curves = curves.map_err(|text| (curves_key, text))?;
    tell(suites_key, suites.told());
    tell(curves_key, curves.told());
    Ok(Crypto {
        suites: suites.wanted,
        curves: curves.wanted,
    })
}

/// Suites of TLS 1.2 in groups, by these rules in their order; no rules select every one.
///
/// # Errors
/// What to do if none is left.
pub(crate) fn suites(
    written: &[&str],
    versions: TlsVersions,
) -> Result<Listed<Vec<Suite>>, String> {
    let mut rules = written.iter().copied().flat_map(words).peekable();
    let is_empty = rules.peek().is_none();
    let mut list = List::default();
    for rule in rules {
        list.apply(rule);
    }
    if is_empty || !list.groups.is_empty() || versions.min > TlsVersion::V1_2 {
        return Ok(Listed::of(list.groups, &list.missing));
    }
    let remedy = "with ECDHE and AES-GCM or CHACHA20, like ECDHE-ECDSA-AES128-GCM-SHA256 and \
                  ECDHE-RSA-AES128-GCM-SHA256";
    Err(if list.missing.is_empty() {
        format!(
            "no suite of TLS 1.2 is left; name one {remedy}, or let TLS 1.3 be the oldest version: \
             its suites are all offered"
        )
    } else {
        let missing = named(&list.missing);
        format!("the gateway does not have {missing}, and no other is named; name one {remedy}")
    })
}

/// Curves by their names; no names are every one.
///
/// # Errors
/// What to do if none is left.
pub(crate) fn curves(written: &[&str]) -> Result<Listed<Curve>, String> {
    let (mut wanted, mut missing) = (Vec::new(), Vec::new());
    for name in written.iter().copied().flat_map(words) {
        match curve(name) {
            Some(curve) if !wanted.contains(&curve) => wanted.push(curve),
            Some(_) => {}
            None => missing.push(name.to_owned()),
        }
    }
    if wanted.is_empty() && !missing.is_empty() {
        let missing = named(&missing);
        return Err(format!(
            "the gateway does not have {missing}, and no other is named; name one of X25519, \
             P-256, P-384 and X25519MLKEM768"
        ));
    }
    Ok(Listed::of(wanted, &missing))
}

/// A list may be one text. Groups are one word.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let separators = [':', ',', ';', ' ', '\t', '\n'];
    text.split(separators).filter(|word| !word.is_empty())
}

fn named(missing: &[String]) -> String {
    let shown = missing[..missing.len().min(NAMED)].join(", ");
    match missing.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The rules so far.
#[derive(Default)]
struct List {
    groups: Vec<Vec<Suite>>,
    /// Never to be added again.
    gone: Vec<Suite>,
    missing: Vec<String>,
}

impl List {
    fn apply(&mut self, rule: &str) {
        if let Some(selector) = rule.strip_prefix('!') {
            let gone = selected(selector);
            self.remove(&gone);
            self.gone.extend(gone);
        } else if let Some(selector) = rule.strip_prefix('-') {
            self.remove(&selected(selector));
        } else if let Some(selector) = rule.strip_prefix('+') {
            let all = self.groups.iter().flatten();
            let wanted = selected(selector);
            let moved: Vec<_> = all.filter(|it| wanted.contains(it)).copied().collect();
            self.remove(&moved);
            self.groups.extend(moved.into_iter().map(|it| vec![it]));
        } else if rule == "@STRENGTH" {
            self.groups
                .sort_by_key(|group| group.iter().all(|it| is_short(*it)));
        } else if let Some(names) = rule.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            let mut group = Vec::new();
            for name in names.split('|') {
                group.extend(self.add(name));
            }
            self.push(group);
        } else {
            for suite in self.add(rule) {
                self.push(vec![suite]);
            }
        }
    }

    /// What a selector adds to what is there.
    fn add(&mut self, selector: &str) -> Vec<Suite> {
        let mut new = selected(selector);
        if new.is_empty() && !TLS13.contains(&selector) {
            self.missing.push(selector.to_owned());
        }
        let known = |suite: &Suite| {
            self.gone.contains(suite) || self.groups.iter().flatten().any(|it| it == suite)
        };
        new.retain(|suite| !known(suite));
        new
    }

    fn push(&mut self, mut group: Vec<Suite>) {
        let mut seen = Vec::new();
        group.retain(|suite| {
            let is_new = !seen.contains(suite);
            seen.push(*suite);
            is_new
        });
        if !group.is_empty() {
            self.groups.push(group);
        }
    }

    fn remove(&mut self, suites: &[Suite]) {
        for group in &mut self.groups {
            group.retain(|suite| !suites.contains(suite));
        }
        self.groups.retain(|group| !group.is_empty());
    }
}

/// Of TLS 1.3: offered wherever that is spoken.
const TLS13: [&str; 6] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS13-AES128-GCM-SHA256",
    "TLS13-AES256-GCM-SHA384",
    "TLS13-CHACHA20-POLY1305-SHA256",
];

/// The suites with a name, or with all of these properties.
fn selected(selector: &str) -> Vec<Suite> {
    if let Some(suite) = Suite::ALL.into_iter().find(|it| is_called(*it, selector)) {
        return vec![suite];
    }
    let has_all = |suite: &Suite| selector.split('+').all(|word| has(*suite, word));
    Suite::ALL.into_iter().filter(has_all).collect()
}

/// Groups of suites as [`suites`] reads them.
pub(crate) fn suites_text(groups: &[Vec<Suite>]) -> String {
    let group = |suites: &Vec<Suite>| {
        let names: Vec<_> = suites.iter().map(|it| suite_text(*it)).collect();
        match &names[..] {
            [name] => (*name).to_owned(),
            names => format!("[{}]", names.join("|")),
        }
    };
    let groups: Vec<_> = groups.iter().map(group).collect();
    groups.join(":")
}

/// Curves as [`curves`] reads them.
pub(crate) fn curves_text(curves: &[Curve]) -> String {
    let names: Vec<_> = curves.iter().map(|it| curve_text(*it)).collect();
    names.join(":")
}

/// The name that OpenSSL and BoringSSL have for a suite.
fn suite_text(suite: Suite) -> &'static str {
    match suite {
        Suite::EcdsaAes128Gcm => "ECDHE-ECDSA-AES128-GCM-SHA256",
        Suite::EcdsaAes256Gcm => "ECDHE-ECDSA-AES256-GCM-SHA384",
        Suite::EcdsaChacha20 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        Suite::RsaAes128Gcm => "ECDHE-RSA-AES128-GCM-SHA256",
        Suite::RsaAes256Gcm => "ECDHE-RSA-AES256-GCM-SHA384",
        Suite::RsaChacha20 => "ECDHE-RSA-CHACHA20-POLY1305",
    }
}

/// The usual name of a curve.
fn curve_text(curve: Curve) -> &'static str {
    match curve {
        Curve::X25519 => "X25519",
        Curve::P256 => "P-256",
        Curve::P384 => "P-384",
        Curve::X25519MlKem768 => "X25519MLKEM768",
    }
}

fn is_called(suite: Suite, name: &str) -> bool {
    let registered = match suite {
        Suite::EcdsaAes128Gcm => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        Suite::EcdsaAes256Gcm => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        Suite::EcdsaChacha20 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        Suite::RsaAes128Gcm => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        Suite::RsaAes256Gcm => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        Suite::RsaChacha20 => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    };
    // Go's first name for ChaCha20 has no hash.
    name == suite_text(suite) || name == registered || registered == format!("{name}_SHA256")
}

/// Whether a suite has a property, by OpenSSL's word for it.
fn has(suite: Suite, word: &str) -> bool {
    match word {
        "ALL" | "DEFAULT" | "HIGH" | "TLSv1.2" => true,
        "ECDHE" | "EECDH" | "kECDHE" | "kEECDH" => true,
        "ECDSA" | "aECDSA" => !suite.is_rsa(),
        "aRSA" => suite.is_rsa(),
        "AES" | "AESGCM" => !is_chacha(suite),
        "AES128" => is_short(suite),
        "AES256" => !is_short(suite) && !is_chacha(suite),
        "CHACHA20" => is_chacha(suite),
        _ => false,
    }
}

fn is_chacha(suite: Suite) -> bool {
    matches!(suite, Suite::EcdsaChacha20 | Suite::RsaChacha20)
}

/// Whether its keys have 128 bits; else 256.
fn is_short(suite: Suite) -> bool {
    matches!(suite, Suite::EcdsaAes128Gcm | Suite::RsaAes128Gcm)
}

fn curve(name: &str) -> Option<Curve> {
    match name.to_ascii_lowercase().as_str() {
        "x25519" => Some(Curve::X25519),
        "p-256" | "p256" | "curvep256" | "prime256v1" | "secp256r1" => Some(Curve::P256),
        "p-384" | "p384" | "curvep384" | "secp384r1" => Some(Curve::P384),
        "x25519mlkem768" => Some(Curve::X25519MlKem768),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
