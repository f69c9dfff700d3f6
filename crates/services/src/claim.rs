//! The range of cluster IPs of this process, and its claim on this machine.
//!
//! Two processes that answered the same addresses would take each other's connections. So a
//! range is claimed by a locked file, which the kernel lets go of however the process ends, and
//! written down beside the store: Services keep their addresses. Who cleans up after a killed
//! process ([`remove_abandoned`]) has its claim for a moment.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Where processes on this machine claim ranges.
const CLAIMS: &str = "/run/suimon";
/// File in the data directory that holds the range.
const FILE: &str = "service-range";
/// Second octets of the ranges that are tried: Kubernetes' customary 10.96.0.0/16 first.
const FIRST: u8 = 96;
const LAST: u8 = 64;
/// How often a claim that another process has is tried again where no other range will do, and
/// the pause before.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);

/// An IPv4 network such as 10.96.0.0/16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The network's own address.
    pub address: Ipv4Addr,
    /// Bits of the prefix.
    pub prefix: u8,
}

/// Why no range could be had.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The text is no network.
    #[error("{text:?} is no range of service addresses, want an IPv4 network such as 10.96.0.0/16")]
    Malformed { text: String },
    /// The file with the range cannot be read or written.
    #[error("cannot use {path}")]
    File { path: PathBuf, source: io::Error },
}

/// The range of this process. Its addresses are local to the machine while this lives.
#[derive(Debug)]
pub struct Claim {
    pub range: Range,
    /// Why its addresses cannot be answered, if they cannot.
    pub problem: Option<String>,
    /// Whether there is a route to take back.
    made: bool,
    _lock: Option<File>,
}

impl Range {
    fn customary(second: u8) -> Self {
        Self {
            address: Ipv4Addr::new(10, second, 0, 0),
            prefix: 16,
        }
    }

    /// Whether an address is one of these.
    pub fn contains(self, address: std::net::IpAddr) -> bool {
        match address {
            std::net::IpAddr::V4(address) => self.overlaps(address.into(), u32::MAX),
            std::net::IpAddr::V6(_) => false,
        }
    }

    fn mask(prefix: u8) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
    }

    fn overlaps(self, address: u32, mask: u32) -> bool {
        let mask = mask & Self::mask(self.prefix);
        u32::from(self.address) & mask == address & mask
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Range {
    type Err = ClaimError;

    fn from_str(text: &str) -> Result<Self, ClaimError> {
        let parse = || {
            let (address, prefix) = text.trim().split_once('/')?;
            let prefix: u8 = prefix
                .parse()
                .ok()
                .filter(|bits| (12..=30).contains(bits))?;
            let address: Ipv4Addr = address.parse().ok()?;
            let address = Ipv4Addr::from(u32::from(address) & Self::mask(prefix));
            Some(Self { address, prefix })
        };
        parse().ok_or_else(|| ClaimError::Malformed {
            text: text.to_owned(),
        })
    }
}

impl Claim {
    /// Claims the range that `asked` names, or the one that the data directory had before, or
    /// the first that nobody on this machine uses. Without root the range is only a number.
    pub fn take(data_dir: &Path, asked: Option<Range>, root: bool) -> Result<Self, ClaimError> {
        let path = data_dir.join(FILE);
        let file = |source| ClaimError::File {
            path: path.clone(),
            source,
        };
        let before: Option<Range> = match std::fs::read_to_string(&path) {
            Ok(text) => Some(text.parse()?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(file(error)),
        };
        let claim = match asked.or(before) {
            Some(range) => Self::of(range, root, TRIES),
            None => Self::first_free(root),
        };
        if before != Some(claim.range) {
            std::fs::write(&path, claim.range.to_string()).map_err(file)?;
        }
        Ok(claim)
    }

    fn first_free(root: bool) -> Self {
        let taken = networks();
        let free = |range: &Range| {
            !taken
                .iter()
                .any(|(address, mask)| range.overlaps(*address, *mask))
        };
        let mut last = None;
        for range in (LAST..=FIRST).rev().map(Range::customary).filter(free) {
            let claim = Self::of(range, root, 1);
            if claim.problem.is_none() || !root {
                return claim;
            }
            last = Some(claim);
        }
        last.unwrap_or_else(|| Self::broken(Range::customary(FIRST), "this machine has networks of its own in every range from 10.64.0.0/16 to 10.96.0.0/16; name another with --service-range"))
    }

    fn broken(range: Range, problem: impl Into<String>) -> Self {
        Self {
            range,
            problem: Some(problem.into()),
            made: false,
            _lock: None,
        }
    }

    fn of(range: Range, root: bool, tries: u32) -> Self {
        if !root {
            return Self::broken(range, "answering cluster IPs needs root on Linux");
        }
        let locked = (1..=tries).find_map(|attempt| match lock(range) {
            Ok(None) if attempt < tries => {
                std::thread::sleep(PAUSE);
                None
            }
            result => Some(result),
        });
        let lock = match locked.unwrap_or(Ok(None)) {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                let problem = format!(
                    "another process on this machine answers {range}; name another range with --service-range"
                );
                return Self::broken(range, problem);
            }
            Err(error) => {
                return Self::broken(range, format!("cannot claim {range} in {CLAIMS}: {error}"));
            }
        };
        let added = add_route(range);
        Self {
            range,
            made: added.is_ok(),
            problem: added.err(),
            _lock: Some(lock),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.made {
            remove_route(self.range);
        }
    }
}

/// Takes back the routes of processes that were killed: those of ranges that were claimed once
/// and are nobody's now. Blocks.
pub fn remove_abandoned() {
    let claims = std::fs::read_dir(CLAIMS).into_iter().flatten().flatten();
    let ranges = claims.filter_map(|claim| {
        let name = claim.file_name().into_string().ok()?;
        let range = name.strip_prefix("services-")?.strip_suffix(".lock")?;
        range.replace('-', "/").parse::<Range>().ok()
    });
    for range in ranges.filter(|range| has_route(*range)) {
        if let Ok(Some(_claim)) = lock(range) {
            remove_route(range);
        }
    }
}

fn lock(range: Range) -> io::Result<Option<File>> {
    std::fs::create_dir_all(CLAIMS)?;
    let name = range.to_string().replace('/', "-");
    let claim = File::create(format!("{CLAIMS}/services-{name}.lock"))?;
    Ok(claim.try_lock().is_ok().then_some(claim))
}

/// Networks that this machine has routes to, but for the way to everything: address and mask.
fn networks() -> Vec<(u32, u32)> {
    parse_networks(&std::fs::read_to_string("/proc/net/route").unwrap_or_default())
}

fn parse_networks(table: &str) -> Vec<(u32, u32)> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
        let address = number(fields.nth(1)?)?;
        Some((address, number(fields.nth(5)?)?))
    });
    rows.filter(|(_, mask)| *mask != 0).collect()
}

#[cfg(target_os = "linux")]
use crate::route::{add as add_route, is_there as has_route, remove as remove_route};

#[cfg(not(target_os = "linux"))]
fn add_route(_: Range) -> Result<(), String> {
    Err("only Linux can answer addresses that no interface has".to_owned())
}

#[cfg(not(target_os = "linux"))]
fn remove_route(_: Range) {}

#[cfg(not(target_os = "linux"))]
fn has_route(_: Range) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_the_machine_itself_is_not_taken() {
        let table = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                     eth0 00000000 0102A8C0 0003 0 0 0 00000000 0 0 0\n\
                     eth1 0000600A 00000000 0001 0 0 0 0000F0FF 0 0 0\n";
        let networks = parse_networks(table);
        assert_eq!(networks, [(0x0a60_0000, 0xfff0_0000)]);
        let taken = |range: &str| {
            let range: Range = range.parse().expect("a range");
            networks
                .iter()
                .any(|(address, mask)| range.overlaps(*address, *mask))
        };
        assert!(taken("10.96.0.0/16") && taken("10.97.0.0/24"));
        assert!(!taken("10.95.0.0/16"));
    }

    #[test]
    fn services_keep_their_range_and_without_root_it_is_said() {
        let data = tempfile::tempdir().expect("a directory");
        let asked = "10.70.3.0/16".parse().expect("a range");
        let first = Claim::take(data.path(), Some(asked), false).expect("a claim");
        assert_eq!(first.range.to_string(), "10.70.0.0/16");
        let again = Claim::take(data.path(), None, false).expect("a claim");
        assert_eq!(again.range, first.range);
        assert!(
            again
                .problem
                .as_deref()
                .is_some_and(|problem| problem.contains("root"))
        );
        std::fs::write(data.path().join(FILE), "nonsense").expect("written");
        assert!(Claim::take(data.path(), None, false).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_route_of_a_killed_process_is_taken_back_and_no_other() {
        let range = |text: &str| text.parse::<Range>().expect("a range");
        let (left, held) = (range("10.62.198.0/24"), range("10.62.199.0/24"));
        let lock = |range| lock(range).map(|lock| lock.expect("nobody else's"));
        let Ok(_claim) = lock(held) else {
            eprintln!("SKIPPED: claims need root");
            return;
        };
        drop(lock(left).expect("claimed"));
        for range in [left, held] {
            add_route(range).expect("a route");
        }
        remove_abandoned();
        assert!(!has_route(left) && has_route(held));
        remove_route(held);
        assert!(!has_route(held));
        for range in [left, held] {
            let name = range.to_string().replace('/', "-");
            std::fs::remove_file(format!("{CLAIMS}/services-{name}.lock")).expect("removed");
        }
    }
}
