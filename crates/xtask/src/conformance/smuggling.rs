//! `cargo xtask conformance smuggling`: requests that two readers may read in two ways, sent to the
//! gateway before and behind proxies and servers of others, with what another client asks on the
//! same connections behind. Fails if they disagree on where a request ends and the gateway has a
//! part in it.
//!
//! The cases are in `conformance/smuggling`. A peer that is not installed is left out, and the
//! output says SKIPPED. Flags are names of cases to be run alone.

mod case;
mod client;
mod frames;
mod message;
mod peer;
mod verdict;
mod witness;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;

use self::case::Case;
use self::client::Door;
use self::peer::{Dir, Peer, Running};
use self::verdict::{Evidence, Verdict};
use self::witness::{Kept, Seen, Tap};

/// How long nothing may come before an answer is taken for missing, and before it is believed.
const PATIENCE: [Duration; 2] = [Duration::from_millis(700), Duration::from_secs(5)];

pub(crate) fn run(names: &[&str]) -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let data = root.join("conformance/smuggling");
    let mut cases = case::load(&data)?;
    let is_named = |case: &Case, name: &str| {
        let rest = case.name.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    cases.retain(|case| names.is_empty() || names.iter().any(|name| is_named(case, name)));
    ensure!(!cases.is_empty(), "no case has this name");
    let gateway = super::h2spec::gateway()?;
    let dir = Dir(std::env::temp_dir().join(format!("smuggling-{}", std::process::id())));
    let mut chains = vec![Chain::before(&gateway, None, &dir.0, &data)?];
    for peer in [Peer::Nginx, Peer::Haproxy, Peer::Envoy, Peer::Go] {
        if !peer.is_there() {
            continue;
        }
        chains.push(Chain::before(&gateway, Some(peer), &dir.0, &data)?);
        if Peer::PROXIES.contains(&peer) {
            chains.push(Chain::behind(&gateway, peer, &dir.0)?);
        }
    }
    chains.sort_by_key(|chain| chain.name.starts_with("behind"));
    let verdicts = std::thread::scope(|scope| {
        let running: Vec<_> = chains
            .iter()
            .map(|chain| scope.spawn(|| chain.all(&cases)))
            .collect();
        let joined = running.into_iter().map(|chain| chain.join());
        joined.collect::<Result<Vec<_>, _>>()
    });
    let verdicts = verdicts.map_err(|_| anyhow::anyhow!("a chain broke"))?;
    let is_clean = report(&cases, &chains, &verdicts);
    Ok(if is_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The mark in a text: `c`, three digits, and what it marks.
fn mark(text: &str) -> Option<String> {
    let is_mark = |word: &&str| {
        let digits = word.strip_prefix('c').and_then(|rest| rest.split_once('-'));
        digits.is_some_and(|(digits, what)| {
            digits.len() == 3
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && !what.is_empty()
        })
    };
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let words = text.split(|letter| !is_part(letter));
    words.into_iter().find(is_mark).map(str::to_owned)
}

/// The gateway and what stands before and behind it.
struct Chain {
    name: String,
    door: Door,
    /// Between a front and the gateway.
    front: Option<Arc<Tap>>,
    /// What the gateway sends.
    tap: Arc<Tap>,
    seen: Arc<Kept<Seen>>,
    _running: Vec<Running>,
}

impl Chain {
    /// client → gateway → peer → origin; without a peer the origin is next.
    fn before(gateway: &Path, peer: Option<Peer>, dir: &Path, data: &Path) -> anyhow::Result<Self> {
        let name = match peer {
            Some(peer) => format!("before {}", peer.name()),
            None => "alone".to_owned(),
        };
        let dir = dir.join(name.replace(' ', "-"));
        let mut running = Vec::new();
        let (server, seen): (SocketAddr, _) = match peer {
            None => witness::origin()?,
            Some(Peer::Go) => {
                let (server, program, said) = peer::go(&data.join("server"), &dir)?;
                running.push(program);
                (server, witness::told(said))
            }
            Some(peer) => {
                let (origin, seen) = witness::origin()?;
                let (door, program) = peer::proxy(peer, origin, &dir)?;
                running.push(program);
                (door.http1, seen)
            }
        };
        let (server, tap) = witness::tap(server)?;
        let (door, program) = peer::gateway(gateway, server)?;
        running.push(program);
        Ok(Self {
            name,
            door,
            front: None,
            tap,
            seen,
            _running: running,
        })
    }

    /// client → peer → gateway → origin.
    fn behind(gateway: &Path, peer: Peer, dir: &Path) -> anyhow::Result<Self> {
        let name = format!("behind {}", peer.name());
        let (origin, seen) = witness::origin()?;
        let (server, tap) = witness::tap(origin)?;
        let (own, program) = peer::gateway(gateway, server)?;
        let (inner, front) = witness::tap(own.http1)?;
        let (door, proxy) = peer::proxy(peer, inner, &dir.join(name.replace(' ', "-")))?;
        Ok(Self {
            name,
            door,
            front: Some(front),
            tap,
            seen,
            _running: vec![proxy, program],
        })
    }

    fn all(&self, cases: &[Case]) -> Vec<Verdict> {
        cases.iter().map(|case| self.one(case)).collect()
    }

    /// What only did not come is waited for once more, longer.
    fn one(&self, case: &Case) -> Verdict {
        let mut verdict = Verdict::default();
        for patience in PATIENCE {
            let evidence = self.evidence(case, patience);
            verdict = verdict::judge(case, &evidence);
            let is_certain = verdict.faults.iter().any(|fault| !fault.is_absence);
            if is_certain || verdict.faults.is_empty() {
                break;
            }
        }
        verdict
    }

    fn evidence(&self, case: &Case, patience: Duration) -> Evidence {
        let answers = client::ask(self.door, case, patience).unwrap_or_default();
        let mark = format!("{}-other", case.id);
        let mut other = None;
        // A connection that is just being closed behind a front may cost the first.
        for _ in 0..2 {
            other = client::ask_plainly(self.door, &mark, patience).unwrap_or_default();
            if other.as_ref().is_some_and(|answer| answer.mark.is_some()) {
                break;
            }
        }
        let passed = self.tap.take();
        // A server that is another process tells of them later than it answers.
        let count = passed.iter().map(|it| it.requests.len()).sum();
        for _ in 0..20 {
            if self.seen.has(count) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Evidence {
            answers,
            other,
            fronted: self.front.as_ref().map(|front| front.take()),
            passed,
            seen: self.seen.take(),
        }
    }
}

/// Prints a line per case, then what is wrong; whether nothing is.
fn report(cases: &[Case], chains: &[Chain], verdicts: &[Vec<Verdict>]) -> bool {
    let wide = cases.iter().map(|case| case.class.len() + case.name.len());
    let wide = wide.max().unwrap_or_default() + 2;
    let of = |at: usize| verdicts.iter().map(move |chain| &chain[at]);
    print!("\n{:wide$}", "");
    for chain in chains {
        print!(" {:>14}", chain.name);
    }
    println!();
    for (at, case) in cases.iter().enumerate() {
        print!("{:wide$}", format!("{}: {}", case.class, case.name));
        for verdict in of(at) {
            let mark = match (verdict.faults.is_empty(), verdict.remarks.is_empty()) {
                (false, _) => "FAULT ",
                (true, false) => "~",
                (true, true) => "",
            };
            print!(" {:>14}", format!("{mark}{}", verdict.reading));
        }
        println!();
    }
    println!("\n~ only the peer in front reads or writes more than it must:");
    let mut faults = 0;
    for (at, case) in cases.iter().enumerate() {
        for (chain, verdict) in chains.iter().zip(of(at)) {
            for remark in &verdict.remarks {
                println!("  {} {}: {remark}", chain.name, case.name);
            }
            faults += usize::from(!verdict.faults.is_empty());
        }
    }
    for (at, case) in cases.iter().enumerate() {
        for (chain, verdict) in chains.iter().zip(of(at)) {
            for fault in &verdict.faults {
                println!(
                    "FAULT {} {} ({}): {}",
                    chain.name, case.name, case.class, fault.text
                );
            }
        }
    }
    let all = cases.len() * chains.len();
    println!(
        "{} cases, {} chains: {} of {all} as they must be",
        cases.len(),
        chains.len(),
        all - faults
    );
    faults == 0
}

#[cfg(test)]
mod tests {
    use super::mark;

    #[test]
    fn marks_are_found_in_targets_and_texts() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(mark(text).as_deref(), expected, "{text}");
        };
        check("/c012-case", Some("c012-case"));
        check(
            " http://case.example/c012-smuggled?x",
            Some("c012-smuggled"),
        );
        check("/c12-case", None);
        check("/c012-", None);
        check("/case-x", None);
    }
}
