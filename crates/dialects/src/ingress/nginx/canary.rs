//! Canaries: an Ingress that takes a part of the requests of another one with the same host and
//! path. A header says who gets a request, then a cookie, then chance.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::Ingress;
use routing::model::{HashKey, Predicate, Subject, TextTest};

use super::session::Keeps;
use super::{Annotations, refused};
use crate::diagnostic::Diagnostic;
use crate::ingress::annotations::is_as_served;
use crate::shared::{headers, matches};

/// What a canary's annotations ask for.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::ingress) struct Canary {
    header: Option<Shown>,
    cookie: Option<Arc<str>>,
    /// Of what neither header nor cookie decides, so many requests of `total`.
    pub(in crate::ingress) weight: u32,
    pub(in crate::ingress) total: u32,
    /// It has nothing to do with the sessions of the other Ingress.
    is_apart: bool,
    /// What it says itself.
    keeps: Option<Keeps>,
}

/// What a header must say.
#[derive(Clone, Debug, PartialEq)]
struct Shown {
    name: Arc<str>,
    /// `None` is for the words `always` and `never`.
    value: Option<(TextTest, Arc<str>)>,
}

/// Who gets a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingress) enum Taker {
    Canary,
    Main,
}

/// What the annotations of a canary say, with what is wrong about them in `found`; `None` if it is
/// none.
pub(in crate::ingress) fn read(ingress: &Ingress, found: &mut Vec<Diagnostic>) -> Option<Canary> {
    if !is_canary(ingress) {
        return None;
    }
    let mut all = Annotations::of(ingress)?;
    all.take("canary");
    let canary = all.canary();
    found.append(&mut all.found);
    Some(canary)
}

/// Whether an Ingress is a canary.
pub(crate) fn is_canary(ingress: &Ingress) -> bool {
    let annotations = ingress.metadata.annotations.as_ref();
    let key = format!("{}canary", super::NGINX);
    let value = annotations.and_then(|annotations| annotations.get(&key));
    value.is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
}

impl Canary {
    /// Requests that are decided, and for whom; the first that holds counts.
    pub(in crate::ingress) fn decided(&self) -> Vec<(Predicate, Taker)> {
        let mut decided = Vec::new();
        let words = [("always", Taker::Canary), ("never", Taker::Main)];
        if let Some(Shown { name, value }) = &self.header {
            let subject = Subject::Header(Arc::clone(name));
            match value {
                Some((how, value)) => {
                    decided.push((matches::text(subject, *how, value), Taker::Canary));
                }
                None => decided.extend(words.map(|(word, taker)| {
                    let says = matches::text(subject.clone(), TextTest::Exact, word);
                    (says, taker)
                })),
            }
        }
        if let Some(name) = &self.cookie {
            let subject = Subject::Cookie(Arc::clone(name));
            decided.extend(words.map(|(word, taker)| {
                let says = matches::text(subject.clone(), TextTest::Exact, word);
                (says, taker)
            }));
        }
        decided
    }

    /// What keeps requests to endpoints of the canary, beside those of the main Ingress, whose
    /// sessions hold here too.
    pub(in crate::ingress) fn keeps(&self, mains: Option<&HashKey>, path: &str) -> Option<HashKey> {
        match (&self.keeps, mains) {
            (Some(Keeps::By(key)), _) => Some(key.clone()),
            (own, _) if self.is_apart => own.as_ref().map(|own| own.at(path)),
            (_, Some(HashKey::Session(_))) => mains.cloned(),
            _ => None,
        }
    }
}

impl Annotations<'_> {
    fn canary(&mut self) -> Canary {
        const ALL: u64 = 100;
        // As there, fewer than a hundred are a hundred.
        let total = self.number("canary-weight-total").unwrap_or(ALL).max(ALL);
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        let weight = self.number("canary-weight").unwrap_or_default();
        let weight = u32::try_from(weight).unwrap_or(u32::MAX).min(total);
        let header = self.shown();
        let mut cookie = None;
        if let Some((key, name)) = self
            .take("canary-by-cookie")
            .filter(|(_, it)| !it.is_empty())
        {
            match headers::name(name) {
                Ok(_) => cookie = Some(name.into()),
                Err(_) => self.refuse(key, &format!("{name:?} is no name of a cookie")),
            }
        }
        let is_apart = match self.take("affinity-canary-behavior") {
            None | Some((_, "sticky" | "")) => false,
            Some((_, "legacy")) => true,
            Some((key, other)) => {
                self.refuse(key, &format!("{other:?} is neither sticky nor legacy"));
                false
            }
        };
        let keeps = self.keeps();
        self.ignored();
        Canary {
            header,
            cookie,
            weight,
            total,
            is_apart,
            keeps,
        }
    }

    /// `canary-by-header`, with a value or an expression.
    fn shown(&mut self) -> Option<Shown> {
        let mut some = |short| self.take(short).filter(|(_, text)| !text.is_empty());
        let header = some("canary-by-header");
        let value = some("canary-by-header-value");
        let pattern = some("canary-by-header-pattern");
        let Some((key, header)) = header else {
            if let Some((key, _)) = value.or(pattern) {
                self.refuse(key, "it changes nothing without canary-by-header");
            }
            return None;
        };
        let name = match headers::name(header) {
            Ok(name) => name,
            Err(error) => {
                self.refuse(key, &error);
                return None;
            }
        };
        let value = match (value, pattern) {
            (Some((_, value)), pattern) => {
                if let Some((key, _)) = pattern {
                    self.refuse(key, "canary-by-header-value is there, and counts");
                }
                Some((TextTest::Exact, value.into()))
            }
            (None, Some((key, pattern))) => {
                // It is looked for anywhere in the value.
                let whole = format!(".*(?:{pattern}).*");
                if let Err(error) = routing::regex::compile(&whole) {
                    self.refuse(key, &format!("{error}; no header is compared"));
                    return None;
                }
                Some((TextTest::Regex, whole.into()))
            }
            (None, None) => None,
        };
        Some(Shown { name, value })
    }

    /// What the main Ingress says in place of the canary.
    fn ignored(&mut self) {
        let left = std::mem::take(&mut self.left);
        let left = left
            .into_iter()
            .filter(|(short, (_, value))| !is_as_served(short, value));
        let keys: Vec<_> = left.map(|(_, (key, _))| key).collect();
        if !keys.is_empty() {
            let message = format!(
                "annotations {} of a canary change nothing: those of the Ingress that it alters \
                 are in force",
                keys.join(", ")
            );
            let finding = refused("metadata.annotations", "CanaryAnnotationsIgnored", message);
            self.found.push(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn canary(annotations: &[(&str, &str)]) -> (Canary, Vec<String>) {
        let all = annotations.iter().chain(&[("canary", "True")]);
        let all = all.map(|(short, value)| (format!("{}{short}", super::super::NGINX), *value));
        let annotations: std::collections::BTreeMap<_, _> = all.collect();
        let ingress = json!({"metadata": {"name": "i", "annotations": annotations}});
        let ingress: Ingress = serde_json::from_value(ingress).expect("an Ingress");
        assert!(is_canary(&ingress));
        let mut found = Vec::new();
        let canary = read(&ingress, &mut found).expect("a canary");
        (canary, found.into_iter().map(|it| it.message).collect())
    }

    fn words(canary: &Canary) -> Vec<(String, Taker)> {
        let decided = canary.decided().into_iter();
        decided.map(|(says, who)| (says.to_string(), who)).collect()
    }

    #[test]
    fn a_header_decides_before_a_cookie() {
        let (both, told) = canary(&[("canary-by-header", "X-New"), ("canary-by-cookie", "new")]);
        assert_eq!(told, [""; 0]);
        let expected = [
            ("header x-new is always", Taker::Canary),
            ("header x-new is never", Taker::Main),
            ("cookie new is always", Taker::Canary),
            ("cookie new is never", Taker::Main),
        ];
        assert_eq!(
            words(&both),
            expected.map(|(text, who)| (text.to_owned(), who))
        );
        assert_eq!((both.weight, both.total), (0, 100));
    }

    #[test]
    fn a_value_stands_in_the_place_of_the_words_and_before_an_expression() {
        let by = ("canary-by-header", "x");
        let (value, told) = canary(&[
            by,
            ("canary-by-header-value", "me"),
            ("canary-by-header-pattern", "."),
        ]);
        assert_eq!(
            words(&value),
            [("header x is me".to_owned(), Taker::Canary)]
        );
        assert!(told[0].contains("canary-by-header-pattern"), "{told:?}");
        let (pattern, _) = canary(&[by, ("canary-by-header-pattern", "^a|b$")]);
        let expected = "header x matches .*(?:^a|b$).*".to_owned();
        assert_eq!(words(&pattern), [(expected, Taker::Canary)]);
        let (wrong, told) = canary(&[by, ("canary-by-header-pattern", "a(?=b)")]);
        assert_eq!((words(&wrong), told.len()), (Vec::new(), 1));
        let (alone, told) = canary(&[("canary-by-header-value", "me")]);
        assert_eq!((words(&alone), told.len()), (Vec::new(), 1));
    }

    #[test]
    fn weights_are_of_a_hundred_or_more() {
        let weights = |weight, total| {
            let (canary, _) = canary(&[("canary-weight", weight), ("canary-weight-total", total)]);
            (canary.weight, canary.total)
        };
        assert_eq!(weights("5", "1000"), (5, 1000));
        assert_eq!(weights("5", "10"), (5, 100));
        assert_eq!(weights("300", "200"), (200, 200));
        assert_eq!(weights("-1", "x"), (0, 100));
        let (_, told) = canary(&[("canary-weight", "-1"), ("rewrite-target", "/")]);
        assert_eq!(told.len(), 2);
    }
}
