//! What becomes of paths: rewrites, and the paths of redirects.

use std::sync::Arc;

use routing::model::PathEdit;

use super::matching::{Matching, Prefix};
use crate::fields::Fields;
use crate::shared::text;

/// `rewrite`, by default `/`, or `regex_rewrite`, which beats it.
pub(super) fn path(spec: &Fields<'_>, matching: &Matching) -> Option<PathEdit> {
    let rewrite = spec.str("rewrite");
    let regex = spec.object("regex_rewrite").and_then(|it| regex_edit(&it));
    if regex.is_some() {
        if rewrite.is_some() {
            let message = "regex_rewrite is there too, and decides; remove rewrite";
            spec.refuse("rewrite", "RewriteTwice", message);
        }
        return regex;
    }
    let with = rewrite.unwrap_or("/");
    if with.is_empty() {
        return None;
    }
    let edit = replace(matching, with);
    if edit.is_none() && rewrite.is_some() {
        let message = "prefix is an expression and cannot be replaced: use regex_rewrite";
        spec.refuse("rewrite", "RewriteInvalid", message);
    }
    edit
}

/// The path of a redirect, if it is not the request's.
pub(super) fn redirect(spec: &Fields<'_>, matching: &Matching) -> Option<PathEdit> {
    let full = spec.text("path_redirect");
    let prefix = spec.text("prefix_redirect");
    let regex = spec.object("regex_redirect").and_then(|it| regex_edit(&it));
    if [full.is_some(), prefix.is_some(), regex.is_some()]
        .iter()
        .filter(|is_there| **is_there)
        .count()
        > 1
    {
        let message = "of path_redirect, prefix_redirect and regex_redirect one may be there; the \
             first is in force";
        spec.refuse("path_redirect", "RedirectTwice", message);
    }
    if let Some(full) = full {
        return Some(PathEdit::Full(full.into()));
    }
    if let Some(prefix) = prefix {
        return replace(matching, prefix);
    }
    regex
}

/// What a rewrite of the matched prefix does; `None` if there is nothing to replace.
fn replace(matching: &Matching, with: &str) -> Option<PathEdit> {
    match &matching.prefix {
        Prefix::Text(matched) => Some(PathEdit::Text {
            matched: Arc::clone(matched),
            with: with.into(),
        }),
        Prefix::IgnoringCase(matched) => Some(PathEdit::Regex {
            pattern: format!("^(?i:{})", text::escape(matched)).into(),
            with: with.replace('\\', r"\\").into(),
        }),
        Prefix::Exact => Some(PathEdit::Full(with.into())),
        Prefix::Regex => None,
    }
}

fn regex_edit(fields: &Fields<'_>) -> Option<PathEdit> {
    let pattern = fields.text("pattern");
    let with = fields.str("substitution").unwrap_or_default();
    let Some(pattern) = pattern else {
        fields.refuse(
            "pattern",
            "FieldMissing",
            "pattern is missing: the path stays",
        );
        return None;
    };
    if let Err(error) = routing::regex::compile(pattern) {
        fields.refuse(
            "pattern",
            "RegexInvalid",
            format!("{error}: the path stays"),
        );
        return None;
    }
    Some(PathEdit::Regex {
        pattern: pattern.into(),
        with: with.into(),
    })
}
