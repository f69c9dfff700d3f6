//! What an authority complains of: what is tried once more, and what is told with a remedy.

use instant_acme::{Order, Problem};

use super::Challenge;

/// How often a step of an order is taken whose nonce is not taken. The library tries each request
/// three times by itself.
const STEPS: u32 = 4;

/// Takes a step of an order, and takes it again where the authority did not take its nonce, which
/// is no fault of what was asked (RFC 8555 §6.5). A macro, since of a function that takes what
/// borrows the compiler cannot tell that its future may go to another thread.
macro_rules! again {
    ($step:expr) => {{
        let mut taken = 0;
        loop {
            match $step {
                Err(error) if $crate::acme::problem::is_passing(&error, &mut taken) => {}
                done => break done,
            }
        }
    }};
}
pub(crate) use again;

/// Whether the same may be asked again.
pub(crate) fn is_passing(error: &instant_acme::Error, taken: &mut u32) -> bool {
    *taken += 1;
    let is_nonce = matches!(error, instant_acme::Error::Api(problem) if is(problem, "badNonce"));
    is_nonce && *taken < STEPS
}

/// Whether a problem is of this type (RFC 8555 §6.7).
fn is(problem: &Problem, kind: &str) -> bool {
    let named = problem.r#type.as_deref();
    named.and_then(|it| it.strip_prefix("urn:ietf:params:acme:error:")) == Some(kind)
}

/// What the owner of a host can do about what an authority saw there. Authorities do not agree on
/// what they call a host that they do not reach.
fn remedy(problem: &Problem, host: &str, challenge: Challenge) -> Option<String> {
    let (name, port) = (challenge.name(), challenge.port());
    if is(problem, "dns") {
        Some(format!("let DNS lead {host} to this gateway"))
    } else if is(problem, "caa") {
        Some(format!("let the CAA records of {host} name this authority"))
    } else if is(problem, "serverInternal") || is(problem, "rateLimited") {
        None
    } else {
        Some(format!(
            "port {port} of {host} must lead to this gateway ({name}): look at its DNS records, \
             firewalls, what else listens there, and the gateway's --listen"
        ))
    }
}

/// What an authority found wrong, name by name.
pub(crate) async fn refusal(order: &mut Order, challenge: Challenge) -> String {
    let mut found = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if again!(authorization.refresh().await.map(drop)).is_err() {
            continue;
        }
        let host = authorization.identifier().to_string();
        let problems = authorization.challenges.iter();
        found.extend(problems.filter_map(|it| {
            let problem = it.error.as_ref()?;
            let remedy = remedy(problem, &host, challenge);
            let remedy = remedy.map_or_else(String::new, |remedy| format!("; {remedy}"));
            Some(format!("{host}: {problem}{remedy}"))
        }));
    }
    if found.is_empty() {
        let of_order = order.state().error.as_ref().map(ToString::to_string);
        of_order.unwrap_or_else(|| "the authority refused the order and did not say why".to_owned())
    } else {
        found.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problem(kind: &str) -> Problem {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        serde_json::from_value(json!({"type": kind})).expect("a problem")
    }

    #[test]
    fn a_nonce_that_is_not_taken_is_tried_again_and_nothing_else_is() {
        let check = |kind: &str, fails: u32, expected: (u32, bool)| {
            let mut steps = 0;
            let mut step = || {
                steps += 1;
                let is_done = steps > fails;
                is_done.then_some(()).ok_or_else(|| problem(kind).into())
            };
            let done: Result<(), instant_acme::Error> = again!(step());
            assert_eq!((steps, done.is_ok()), expected, "{kind}");
        };
        check("badNonce", 2, (3, true));
        check("badNonce", STEPS, (STEPS, false));
        check("rateLimited", 1, (1, false));
    }

    #[test]
    fn what_an_authority_saw_is_told_with_what_to_do() {
        let check = |kind: &str, challenge, expected: Option<&str>| {
            let told = remedy(&problem(kind), "a.example", challenge);
            assert_eq!(told.is_some(), expected.is_some(), "{kind}");
            let expected = expected.unwrap_or_default();
            assert!(told.unwrap_or_default().contains(expected), "{kind}");
        };
        check("dns", Challenge::Http01, Some("let DNS lead a.example"));
        check("connection", Challenge::Http01, Some("port 80 of"));
        check("connection", Challenge::TlsAlpn01, Some("port 443 of"));
        check("tls", Challenge::TlsAlpn01, Some("port 443 of"));
        check("caa", Challenge::Http01, Some("CAA"));
        check("serverInternal", Challenge::Http01, None);
    }
}
