//! The cases of `conformance/smuggling/*.yaml`: what is sent, and how the gateway may read it.
//!
//! Text has escapes (`\r \n \t \xHH`) and words in braces: `{smuggled}` is a whole request with a
//! mark of its own, `{n}` its length and `{x}` the same in hexadecimal (`{n+5}`: five more), `{id}`
//! begins the marks, `{v}` is a variant, of which each is a case.

use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;

/// How a gateway may read what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum May {
    /// Not at all.
    Refused,
    /// As one request, and as another what the client sends next.
    One,
    /// As two requests, and as another what the client sends next.
    Two,
    /// As one request, behind which nothing is read.
    Last,
    /// As a request whose body has not come yet.
    Open,
    /// Not at all, but where it ends is clear: what the client sends next is read.
    Skipped,
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Bytes(Vec<u8>),
    Frames(Frames),
}

/// A request over HTTP/2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frames {
    pub(super) fields: Vec<Pair>,
    pub(super) data: Vec<Vec<u8>>,
    pub(super) trailers: Vec<Pair>,
}

pub(super) type Pair = (Vec<u8>, Vec<u8>);

#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Begins its marks.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) class: String,
    pub(super) sent: Sent,
    pub(super) may: Vec<May>,
    /// Of its body, as the gateway passes it on.
    pub(super) length: Option<usize>,
    pub(super) host: Option<String>,
    /// Fields that must not be passed on.
    pub(super) gone: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Readings {
    One(May),
    Any(Vec<May>),
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    class: String,
    /// All of it.
    bytes: Option<String>,
    /// Instead, the fields of a POST, and its body.
    head: Option<String>,
    body: Option<String>,
    #[serde(default)]
    fields: Vec<(String, String)>,
    #[serde(default)]
    data: Vec<String>,
    #[serde(default)]
    trailers: Vec<(String, String)>,
    /// No field of HTTP/2 is added.
    #[serde(default)]
    whole: bool,
    length: Option<String>,
    host: Option<String>,
    #[serde(default)]
    gone: Vec<String>,
    may: Readings,
    #[serde(default)]
    variants: Vec<String>,
}

/// All of a directory's files.
pub(super) fn load(dir: &Path) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for file in ["heads.yaml", "bodies.yaml", "frames.yaml"] {
        let path = dir.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let written: Vec<Written> =
            serde_saphyr::from_str(&text).with_context(|| path.display().to_string())?;
        for one in &written {
            let plain = vec![String::new()];
            let variants = if one.variants.is_empty() {
                &plain
            } else {
                &one.variants
            };
            for (at, variant) in variants.iter().enumerate() {
                let id = format!("c{:03}", cases.len());
                let mut name = one.name.clone();
                if variants.len() > 1 {
                    name = format!("{name} {}", at + 1);
                }
                let case = case(one, (id, name), variant);
                cases.push(case.with_context(|| format!("{file}: {}", one.name))?);
            }
        }
    }
    ensure!(cases.len() < 1000, "marks have three digits");
    Ok(cases)
}

fn case(written: &Written, (id, name): (String, String), variant: &str) -> anyhow::Result<Case> {
    let text = |text: &str| expand(text, &id, variant);
    let pairs = |pairs: &[(String, String)]| {
        let each = pairs
            .iter()
            .map(|(name, value)| Ok((text(name)?, text(value)?)));
        each.collect::<anyhow::Result<Vec<Pair>>>()
    };
    let sent = match (&written.bytes, &written.head) {
        (Some(bytes), _) => Sent::Bytes(text(bytes)?),
        (None, Some(head)) => {
            let body = written.body.as_deref().unwrap_or_default();
            Sent::Bytes(text(&format!(
                r"POST /{{id}}-case HTTP/1.1\r\nHost: case.example\r\n{head}\r\n\r\n{body}"
            ))?)
        }
        (None, None) => {
            let mut fields = pairs(&written.fields)?;
            if !written.whole {
                fields = completed(fields, &id);
            }
            let data = written.data.iter().map(|data| text(data));
            Sent::Frames(Frames {
                fields,
                data: data.collect::<anyhow::Result<_>>()?,
                trailers: pairs(&written.trailers)?,
            })
        }
    };
    let length = written.length.as_deref().map(text).transpose()?;
    let length = length.map(|length| {
        String::from_utf8(length)?
            .parse::<usize>()
            .map_err(anyhow::Error::from)
    });
    Ok(Case {
        name,
        class: written.class.clone(),
        sent,
        may: match &written.may {
            Readings::One(one) => vec![*one],
            Readings::Any(any) => any.clone(),
        },
        length: length.transpose()?,
        host: written.host.clone(),
        gone: written.gone.clone(),
        id,
    })
}

/// Adds the pseudo fields that are not there, before all others.
fn completed(fields: Vec<Pair>, id: &str) -> Vec<Pair> {
    let path = format!("/{id}-case");
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "case.example"),
        (":path", &path),
    ];
    let mut all: Vec<Pair> = usual
        .iter()
        .filter(|(name, _)| fields.iter().all(|(known, _)| known != name.as_bytes()))
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
    all.extend(fields);
    all
}

/// Puts words in and undoes escapes.
fn expand(text: &str, id: &str, variant: &str) -> anyhow::Result<Vec<u8>> {
    let smuggled = format!(r"GET /{id}-smuggled HTTP/1.1\r\nHost: smuggled.example\r\n\r\n");
    let len = unescape(&smuggled)?.len();
    let mut text = text.replace("{v}", variant);
    text = text.replace("{smuggled}", &smuggled).replace("{id}", id);
    for more in 0..10 {
        let sum = len + more;
        let word = |letter: char| match more {
            0 => format!("{{{letter}}}"),
            more => format!("{{{letter}+{more}}}"),
        };
        text = text
            .replace(&word('n'), &sum.to_string())
            .replace(&word('x'), &format!("{sum:x}"))
            .replace(&word('X'), &format!("{sum:X}"));
    }
    unescape(&text)
}

fn unescape(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'r') => out.push(b'\r'),
            Some(b'n') => out.push(b'\n'),
            Some(b't') => out.push(b'\t'),
            Some(b'\\') => out.push(b'\\'),
            Some(b'x') => {
                let digits: Vec<u8> = bytes.by_ref().take(2).collect();
                out.push(u8::from_str_radix(std::str::from_utf8(&digits)?, 16)?);
            }
            other => anyhow::bail!("no such escape in {text:?}: {other:?}"),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_escapes_become_bytes() {
        let check = |text: &str, expected: &[u8]| {
            assert_eq!(expand(text, "c007", "v").expect(text), expected);
        };
        check(r"a\r\n\t\x00\xff\\", b"a\r\n\t\0\xff\\");
        check("{v}/{id}-case", b"v/c007-case");
        check("{n} {n+5} {x} {X}", b"55 60 37 37");
        check(
            "{smuggled}",
            b"GET /c007-smuggled HTTP/1.1\r\nHost: smuggled.example\r\n\r\n",
        );
        assert!(expand(r"\q", "c007", "").is_err());
    }

    #[test]
    fn every_case_is_read_and_has_a_name_of_its_own() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/smuggling");
        let cases = load(&dir).expect("cases");
        let mut names: Vec<(&str, &str)> = cases
            .iter()
            .map(|case| (case.class.as_str(), case.name.as_str()))
            .collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases.len());
        assert!(cases.len() > 200, "{}", cases.len());
    }
}
