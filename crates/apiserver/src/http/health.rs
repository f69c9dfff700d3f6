//! `/livez`, `/readyz` and `/healthz`: whether the server does its work, check by check.
//!
//! The texts are Kubernetes': probes and people read them. Anybody may ask, so nothing is said
//! about why a check fails.

use std::fmt::Write as _;

use crate::crud::Api;
use crate::http::options::query;

/// What can be asked for, and of what: `/livez` does not care that the server is about to leave.
const CHECKS: &[(&str, &[&str])] = &[
    ("ping", &["healthz", "livez", "readyz"]),
    // The store has the name that probes of Kubernetes know.
    ("etcd", &["healthz", "livez", "readyz"]),
    ("shutdown", &["readyz"]),
];

/// Status code and text of an answer; `None` for a check that does not exist.
pub(crate) fn answer(api: &Api, path: &str, parameters: &str) -> Option<(u16, String)> {
    judge(path, parameters, |check| match check {
        "etcd" => api.store.accepts_writes(),
        "shutdown" => !api.store.is_closing(),
        _ => true,
    })
}

fn judge(path: &str, parameters: &str, passes: impl Fn(&str) -> bool) -> Option<(u16, String)> {
    let mut segments = path.trim_matches('/').splitn(2, '/');
    let endpoint = segments.next()?;
    let checks = CHECKS
        .iter()
        .filter(|(_, places)| places.contains(&endpoint))
        .map(|(name, _)| *name);
    if let Some(asked) = segments.next() {
        let check = checks.into_iter().find(|name| *name == asked)?;
        return Some(match passes(check) {
            true => (200, "ok".to_owned()),
            false => (
                500,
                format!("internal server error: {check} failed: reason withheld\n"),
            ),
        });
    }
    let parameters = query(parameters);
    let mut excluded: Vec<&str> = parameters
        .iter()
        .filter(|(key, _)| key == "exclude")
        .map(|(_, value)| value.as_str())
        .collect();
    let mut text = String::new();
    let mut failed = false;
    for check in checks {
        let line = if excluded.contains(&check) {
            excluded.retain(|name| *name != check);
            format!("[+]{check} excluded: ok")
        } else if passes(check) {
            format!("[+]{check} ok")
        } else {
            failed = true;
            format!("[-]{check} failed: reason withheld")
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    }
    if !excluded.is_empty() {
        excluded.sort_unstable();
        let names: Vec<_> = excluded.iter().map(|name| format!("\"{name}\"")).collect();
        let names = names.join(",");
        let _ = writeln!(
            text,
            "warn: some health checks cannot be excluded: no matches for {names}"
        );
    }
    let verbose = parameters.iter().any(|(key, _)| key == "verbose");
    Some(match (failed, verbose) {
        (true, _) => (500, format!("{text}{endpoint} check failed\n")),
        (false, true) => (200, format!("{text}{endpoint} check passed\n")),
        (false, false) => (200, "ok".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_can_be_asked_for_seen_and_left_out() {
        let all = |path: &str, query: &str| judge(path, query, |_| true);
        assert_eq!(all("/livez", ""), Some((200, "ok".into())));
        let text = "[+]ping ok\n[+]etcd ok\nlivez check passed\n";
        assert_eq!(all("/livez", "verbose"), Some((200, text.into())));
        assert_eq!(all("/readyz/etcd", ""), Some((200, "ok".into())));
        assert_eq!(all("/livez/shutdown", ""), None);
        let text = "[+]ping ok\n[+]etcd excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"x\"\nlivez check passed\n";
        let asked = all("/livez/", "exclude=etcd&exclude=x&verbose=true");
        assert_eq!(asked, Some((200, text.into())));
    }

    #[test]
    fn what_fails_is_named_and_its_reason_is_not() {
        let failing = |query: &str| judge("/readyz", query, |check| check != "etcd");
        let text =
            "[+]ping ok\n[-]etcd failed: reason withheld\n[+]shutdown ok\nreadyz check failed\n";
        assert_eq!(failing(""), Some((500, text.into())));
        assert_eq!(failing("exclude=etcd"), Some((200, "ok".into())));
    }
}
