//! [`Filters`] as the proxy uses them: what they say, and what of it had to be compiled.

use std::ops::Deref;
use std::sync::Arc;

use crate::guards::{CompiledGuards, Slot};
use crate::model::{AnswerRewrite, Filters, Instead, Origins, PathEdit, Redirect, Respond};
use crate::predicate::Predicates;
use crate::regex::{self, Replacement};
use crate::template::CompiledTemplate;

/// Reads as the [`Filters`] that it was made from.
#[derive(Debug)]
pub struct CompiledFilters {
    source: Filters,
    /// In place of [`Filters::rewrite_path`].
    pub path: Option<CompiledPathEdit>,
    /// In place of the expressions among the origins of [`Filters::cors`].
    origins: Box<[::regex::bytes::Regex]>,
    pub request_templates: Box<[CompiledTemplate]>,
    pub response_templates: Box<[CompiledTemplate]>,
    /// In place of [`Filters::rewrites`].
    pub rewrites: Box<[Arc<CompiledRewrite>]>,
    pub guards: Option<Arc<CompiledGuards>>,
    /// What whoever serves makes of [`Filters::telemetry`].
    pub telemetry_slot: Slot,
}

impl CompiledFilters {
    pub(crate) fn new(source: &Filters) -> Self {
        let origins = source.cors.iter().flat_map(|cors| &cors.origins);
        let expressions = origins.filter_map(|origin| match origin {
            Origins::Regex(expression) => regex::compile(expression).ok(),
            _ => None,
        });
        let guards = source.guards.as_ref().filter(|guards| !guards.is_empty());
        Self {
            path: source.rewrite_path.as_ref().map(CompiledPathEdit::new),
            origins: expressions.collect(),
            request_templates: templates(&source.request_templates),
            response_templates: templates(&source.response_templates),
            rewrites: source.rewrites.iter().map(CompiledRewrite::new).collect(),
            guards: guards.map(|guards| Arc::new(CompiledGuards::new(guards))),
            telemetry_slot: Slot::default(),
            source: source.clone(),
        }
    }

    /// Whether an `Origin` header is among those of [`Filters::cors`].
    pub fn allows_origin(&self, origin: &str) -> bool {
        let mut listed = self.source.cors.iter().flat_map(|cors| &cors.origins);
        listed.any(|one| !matches!(one, Origins::Regex(_)) && one.contains(origin))
            || self
                .origins
                .iter()
                .any(|one| one.is_match(origin.as_bytes()))
    }
}

fn templates(templates: &[crate::model::Template]) -> Box<[CompiledTemplate]> {
    templates.iter().map(CompiledTemplate::new).collect()
}

impl Deref for CompiledFilters {
    type Target = Filters;

    fn deref(&self) -> &Filters {
        &self.source
    }
}

/// Reads as the [`AnswerRewrite`] that it was made from.
#[derive(Debug)]
pub struct CompiledRewrite {
    source: AnswerRewrite,
    /// In place of [`AnswerRewrite::when`].
    pub when: Predicates,
    /// In place of [`AnswerRewrite::templates`].
    pub templates: Box<[CompiledTemplate]>,
}

impl CompiledRewrite {
    fn new(source: &AnswerRewrite) -> Arc<Self> {
        Arc::new(Self {
            when: Predicates::new(&source.when),
            templates: templates(&source.templates),
            source: source.clone(),
        })
    }
}

impl Deref for CompiledRewrite {
    type Target = AnswerRewrite;

    fn deref(&self) -> &AnswerRewrite {
        &self.source
    }
}

/// A [`PathEdit`] that compiles nothing when it is applied.
#[derive(Clone, Debug)]
pub enum CompiledPathEdit {
    Plain(PathEdit),
    /// `None` if the expression does not compile, which dialects refuse: nothing is replaced.
    Regex(Option<Arc<Replacement>>),
}

impl CompiledPathEdit {
    pub(crate) fn new(edit: &PathEdit) -> Self {
        match edit {
            PathEdit::Regex { pattern, with } => {
                Self::Regex(Replacement::new(pattern, with).ok().map(Arc::new))
            }
            plain => Self::Plain(plain.clone()),
        }
    }

    /// See [`PathEdit::apply`].
    pub fn apply(&self, path: &str) -> String {
        let path = match self {
            Self::Plain(edit) => return edit.apply(path),
            Self::Regex(Some(replacement)) => replacement.apply(path),
            Self::Regex(None) => path.to_owned(),
        };
        if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        }
    }
}

/// Reads as the [`Redirect`] that it was made from.
#[derive(Clone, Debug)]
pub struct CompiledRedirect {
    source: Redirect,
    /// In place of [`Redirect::path`].
    pub path: Option<CompiledPathEdit>,
}

impl CompiledRedirect {
    pub(crate) fn new(source: &Redirect) -> Self {
        Self {
            path: source.path.as_ref().map(CompiledPathEdit::new),
            source: source.clone(),
        }
    }
}

impl Deref for CompiledRedirect {
    type Target = Redirect;

    fn deref(&self) -> &Redirect {
        &self.source
    }
}

/// An [`Instead`].
#[derive(Clone, Debug)]
pub enum CompiledInstead {
    Respond(Respond),
    Redirect(CompiledRedirect),
}

impl CompiledInstead {
    pub(crate) fn new(source: &Instead) -> Self {
        match source {
            Instead::Respond(respond) => Self::Respond(respond.clone()),
            Instead::Redirect(redirect) => Self::Redirect(CompiledRedirect::new(redirect)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cors, FilterSet};

    #[test]
    fn a_compiled_edit_does_what_the_models_does() {
        let edits = [
            PathEdit::Full("/x".into()),
            PathEdit::Text {
                matched: "/a".into(),
                with: "b".into(),
            },
            PathEdit::Regex {
                pattern: "^/(\\w+)/(\\w+)".into(),
                with: "\\2/\\1\\0".into(),
            },
            PathEdit::Regex {
                pattern: "(".into(),
                with: "x".into(),
            },
        ];
        for edit in edits {
            for path in ["/", "/a", "/a/b", "/one/two/three"] {
                let compiled = CompiledPathEdit::new(&edit);
                assert_eq!(compiled.apply(path), edit.apply(path), "{edit:?} {path}");
            }
        }
    }

    #[test]
    fn an_origin_is_allowed_by_any_of_its_rules() {
        let cors = Cors {
            origins: vec![
                Origins::Regex("https://[a-c]\\.example".into()),
                Origins::Prefix("http://local".into()),
            ],
            methods: Vec::new(),
            headers: Vec::new(),
            expose: Vec::new(),
            credentials: false,
            max_age: std::time::Duration::ZERO,
        };
        let filters = CompiledFilters::new(&Filters::from(FilterSet {
            cors: Some(Arc::new(cors)),
            ..FilterSet::default()
        }));
        assert!(filters.allows_origin("https://b.example"));
        assert!(filters.allows_origin("http://localhost:3000"));
        assert!(!filters.allows_origin("https://b.example.evil"));
        assert!(!filters.allows_origin("https://d.example"));
    }
}
