//! Templates as text → parts. The supported part of Go's language is an action with one value,
//! functions before it or behind `|`, comments, trimmed spaces and string constants.

use crate::{Escape, Field, Part, TemplateError};

/// Bytes of a template.
const MOST: usize = 16 * 1024;
/// Functions that one action applies, and fields of requests that one template names.
const MOST_ESCAPES: usize = 8;
const MOST_HEADERS: usize = 32;

const ONE_VALUE: &str = "write one value, with js, json, html, urlquery or print before it or \
                         behind |; conditions and loops do not exist here";
const HEADER: &str = "write index .Request.Header \"Name\" or .Request.Header.Get \"Name\"";

pub(crate) type Parsed = (Vec<Part>, Vec<Box<str>>);

pub(crate) fn parse(text: &str) -> Result<Parsed, TemplateError> {
    if text.len() > MOST {
        return Err(TemplateError::TooLong {
            len: text.len(),
            most: MOST,
        });
    }
    let mut parts = Vec::new();
    let mut headers = Vec::new();
    let mut rest = text;
    let mut trims = false;
    while !rest.is_empty() {
        let at = rest.find("{{").unwrap_or(rest.len());
        let (before, action) = rest.split_at(at);
        let before = if trims { before.trim_start() } else { before };
        let Some(inner) = action.strip_prefix("{{") else {
            push(&mut parts, before);
            break;
        };
        let (trims_before, inner) = trim_mark(inner);
        push(
            &mut parts,
            if trims_before {
                before.trim_end()
            } else {
                before
            },
        );
        let at = text.len() - action.len();
        let len = end(inner).ok_or(TemplateError::Unclosed { at })?;
        rest = &inner[len + 2..];
        let body = inner[..len].strip_suffix(" -");
        trims = body.is_some();
        let body = body.unwrap_or(&inner[..len]).trim();
        if let Some(part) = action_part(body, at, &mut headers)? {
            parts.push(part);
        }
    }
    Ok((parts, headers))
}

fn push(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

fn trim_mark(inner: &str) -> (bool, &str) {
    match inner.strip_prefix("- ") {
        Some(rest) => (true, rest),
        None => (false, inner),
    }
}

/// Where `}}` is, strings and comments aside.
fn end(inner: &str) -> Option<usize> {
    if let Some(comment) = inner.trim_start().strip_prefix("/*") {
        let start = inner.len() - comment.len();
        let close = start + comment.find("*/")? + 2;
        return Some(close + inner[close..].find("}}")?);
    }
    let bytes = inner.as_bytes();
    let mut quote = None;
    let mut at = 0;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(b'"'), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'`')) => quote = Some(byte),
            (None, b'}') if inner[at..].starts_with("}}") => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

fn action_part(
    body: &str,
    at: usize,
    headers: &mut Vec<Box<str>>,
) -> Result<Option<Part>, TemplateError> {
    if body.starts_with("/*") {
        return Ok(None);
    }
    let refuse = |hint| TemplateError::Action {
        action: body.chars().take(80).collect(),
        at,
        hint,
    };
    let words = words(body).ok_or_else(|| refuse(ONE_VALUE))?;
    let mut stages = words.split(|word| word == "|");
    let first = stages.next().unwrap_or_default();
    // Functions before the value apply from the inside.
    let leading = first
        .iter()
        .take_while(|word| Escape::named(word).is_some())
        .count();
    let mut escapes: Vec<_> = first[..leading]
        .iter()
        .rev()
        .filter_map(|word| Escape::named(word))
        .collect();
    for stage in stages {
        let [word] = stage else {
            return Err(refuse(ONE_VALUE));
        };
        escapes.push(Escape::named(word).ok_or_else(|| refuse(ONE_VALUE))?);
    }
    if escapes.len() > MOST_ESCAPES {
        return Err(refuse(ONE_VALUE));
    }
    let value: Vec<&str> = first[leading..].iter().map(String::as_str).collect();
    let field = match value[..] {
        [text] if is_string(text) => {
            let text = unquoted(text).ok_or_else(|| refuse(ONE_VALUE))?;
            let text = escapes
                .iter()
                .fold(text, |text, escape| escape.apply(&text));
            return Ok((!text.is_empty()).then_some(Part::Text(text)));
        }
        ["index", ".Request.Header", name] => {
            Field::Headers(header(headers, name).ok_or_else(|| refuse(HEADER))?)
        }
        [".Request.Header.Get", name] => {
            Field::Header(header(headers, name).ok_or_else(|| refuse(HEADER))?)
        }
        [".Request.Header" | ".Request.Header.Get"] => return Err(refuse(HEADER)),
        [name] if name.starts_with('.') => {
            Field::named(name).ok_or_else(|| TemplateError::Field {
                field: name.chars().take(80).collect(),
                at,
            })?
        }
        _ => return Err(refuse(ONE_VALUE)),
    };
    Ok(Some(Part::Value(field, escapes)))
}

/// The words of an action; parentheses around a value and its functions are undone.
fn words(body: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = body.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        match c {
            '|' => words.push("|".to_owned()),
            // `js (index .Request.Header "x")` is what it is without them.
            '(' | ')' => {}
            '"' | '`' => {
                let mut escaped = false;
                let close = chars.find(|(_, next)| {
                    let ends = *next == c && !escaped;
                    escaped = c == '"' && *next == '\\' && !escaped;
                    ends
                })?;
                words.push(body[start..=close.0].to_owned());
            }
            c if c.is_whitespace() => {}
            _ => {
                let is_end = |c: char| c.is_whitespace() || "|()\"`".contains(c);
                let len = body[start..].find(is_end).unwrap_or(body.len() - start);
                while chars.next_if(|(at, _)| *at < start + len).is_some() {}
                words.push(body[start..start + len].to_owned());
            }
        }
    }
    Some(words)
}

fn is_string(word: &str) -> bool {
    word.starts_with(['"', '`'])
}

fn unquoted(word: &str) -> Option<String> {
    let inner = word.get(1..word.len().checked_sub(1)?)?;
    if word.starts_with('`') {
        return Some(inner.to_owned());
    }
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                't' => '\t',
                same @ ('"' | '\\' | '\'') => same,
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

/// The place of a field of requests in the list.
fn header(headers: &mut Vec<Box<str>>, word: &str) -> Option<usize> {
    let name = unquoted(word).filter(|_| is_string(word))?;
    let name = name.to_ascii_lowercase();
    if let Some(at) = headers.iter().position(|known| **known == *name) {
        return Some(at);
    }
    if headers.len() == MOST_HEADERS || name.is_empty() {
        return None;
    }
    headers.push(name.into());
    Some(headers.len() - 1)
}
