//! What is asked for, on a route.

use std::sync::Arc;

use routing::model::{PathEdit, PathMatch, Redirect, RedirectPort, Route};

use super::Wishes;

/// As ingress-nginx redirects.
pub(in crate::ingress) fn to_https() -> Redirect {
    Redirect {
        scheme: Some("https".into()),
        host: None,
        port: RedirectPort::WellKnown,
        path: None,
        strip_query: false,
        status: 308,
    }
}

impl Wishes {
    /// Puts on a route what is asked for every path.
    pub(in crate::ingress) fn apply(&self, route: &mut Route) {
        if !self.guards.is_empty() {
            route.filters.guards = Some(Arc::new(self.guards.clone()));
        }
        if let Some(instead) = &self.instead {
            route.action = instead.clone();
        }
        if let Some(cors) = &self.cors {
            route.filters.cors = Some(Arc::clone(cors));
        }
        if let Some(cookies) = &self.cookies {
            route.filters.cookies = Some(Arc::clone(cookies));
        }
        route.rewrite_host.clone_from(&self.rewrite_host);
        let Some(target) = &self.rewrite else {
            return;
        };
        if let Some(prefix) = &self.forwarded_prefix {
            let header = ("x-forwarded-prefix".into(), Arc::clone(prefix));
            route.request_headers.set.push(header);
        }
        let paths = route.matches.iter().filter_map(|one| one.path.as_ref());
        // Every path of such an Ingress is one expression; what has none is the default backend's.
        let mut pattern = paths.filter_map(|path| match path {
            PathMatch::Regex(expression) => Some(format!("^{expression}$")),
            _ => None,
        });
        let Some(pattern) = pattern.next() else {
            return;
        };
        route.filters.rewrite_path = Some(PathEdit::Regex {
            pattern: pattern.into(),
            with: groups(target).into(),
        });
    }
}

/// NGINX's `$1` as the model writes it.
fn groups(target: &str) -> String {
    let mut out = String::new();
    let mut rest = target.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '\\' => out.push_str(r"\\"),
            '$' if rest.peek().is_some_and(char::is_ascii_digit) => out.push('\\'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_a_target_are_written_as_the_model_does() {
        assert_eq!(groups("/$2"), r"/\2");
        assert_eq!(groups(r"/a$\1"), r"/a$\\1");
        let edit = PathEdit::Regex {
            pattern: "^(?i)(?:/app(/|$)(.*)).*$".into(),
            with: groups("/$2").into(),
        };
        assert_eq!(edit.apply("/app/one/two"), "/one/two");
        assert_eq!(edit.apply("/APP"), "/");
    }
}
