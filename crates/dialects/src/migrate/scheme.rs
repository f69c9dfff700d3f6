//! Where a rule is served: at listeners for plain HTTP, for HTTPS, or at both.
//!
//! The model says it by a condition or by what a rule does with plain HTTP; Gateway API by the
//! listeners that a route attaches to.

use routing::model::{Action, Match, Predicate, Route, Subject, Test, TextTest, Visibility};

use super::Writer;
use super::door::{Door, Spoken};

/// Why a rule is nowhere.
pub(super) const NO_HTTPS: &str = "it is for HTTPS, and no listener for HTTPS has its hosts";

/// Where a rule is, and what is left of its conditions.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) matches: Vec<Match>,
    /// Empty if there is nothing but what redirects to it.
    pub(super) doors: Vec<Door>,
    /// Where its requests are redirected to HTTPS.
    pub(super) redirected: Vec<Door>,
    /// Requests of this scheme alone.
    pub(super) scheme: Option<&'static str>,
}

impl Writer<'_> {
    /// # Errors
    /// Why it is nowhere.
    pub(super) fn served(&self, route: &Route) -> Result<Served, String> {
        let (scheme, matches) = split(&route.matches)?;
        let is_secure = matches!(route.action, Action::ForwardSecure(_));
        let mut doors = match &route.bind {
            Some(bind) => Door::of(bind, self.input).into_iter().collect(),
            None => {
                let door = |spoken| Door::shared(route.visibility, spoken);
                vec![door(Spoken::Http), door(Spoken::Tls)]
            }
        };
        let mut redirected = Vec::new();
        if is_secure && route.visibility == Visibility::External {
            let is_plain = |door: &Door| door.spoken == Spoken::Http;
            (redirected, doors) = doors.into_iter().partition(is_plain);
        }
        let fits = |door: &Door| match scheme {
            Some("http") => door.spoken == Spoken::Http,
            Some(_) => door.spoken == Spoken::Tls,
            None => matches!(door.spoken, Spoken::Http | Spoken::Tls),
        };
        redirected.retain(fits);
        doors.retain(fits);
        let is_there = |door: &Door| {
            door.spoken == Spoken::Http || self.listeners.has_https(*door, &route.hosts)
        };
        doors.retain(is_there);
        if doors.is_empty() && redirected.is_empty() {
            return Err(match scheme {
                Some("http") => "it is for plain HTTP where there is none".to_owned(),
                _ => NO_HTTPS.to_owned(),
            });
        }
        Ok(Served {
            matches,
            doors,
            redirected,
            scheme,
        })
    }
}

/// The scheme that all alternatives ask for, and their other conditions.
pub(super) fn split(all: &[Match]) -> Result<(Option<&'static str>, Vec<Match>), String> {
    let mut plain = all.to_vec();
    let mut schemes = Vec::new();
    for one in &mut plain {
        let mut asked: Vec<_> = one.other.iter().filter_map(scheme).collect();
        asked.dedup();
        if asked.len() > 1 {
            return Err("no request has two schemes".to_owned());
        }
        one.other.retain(|it| scheme(it).is_none());
        schemes.push(asked.pop());
    }
    schemes.dedup();
    match &schemes[..] {
        [] => Ok((None, plain)),
        [one] => Ok((*one, plain)),
        _ => Err("only some of its alternatives ask for the scheme".to_owned()),
    }
}

/// The scheme that is asked for, if it is that.
fn scheme(one: &Predicate) -> Option<&'static str> {
    let Test::Text { how, value, .. } = &one.test else {
        return None;
    };
    if one.subject != Subject::Scheme || one.negate || *how != TextTest::Exact {
        return None;
    }
    ["http", "https"].into_iter().find(|it| **it == **value)
}
