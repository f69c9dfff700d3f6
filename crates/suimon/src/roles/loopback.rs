//! The part of this machine's loopback network that Gateways of this process get addresses from.
//!
//! The gateway's sockets share their ports on purpose, so a second process on the same address
//! would take half of its connections and nobody would notice. A range is therefore claimed: by
//! an abstract socket, which the kernel lets go of however the process ends, which needs no
//! root, and which is known where the addresses are: in one network namespace.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Context;
use publisher::GatewayRange;
use services::Range;

/// File in the data directory that holds the range: Gateways keep their addresses.
const FILE: &str = "gateway-range";
/// Second numbers of the ranges that are tried: 127.64.0.0/16 first.
const FIRST: u8 = 64;
const LAST: u8 = 32;

/// The range of this process, its own while this lives.
#[derive(Debug)]
pub struct Claim {
    pub range: GatewayRange,
    _held: Option<Held>,
}

#[cfg(target_os = "linux")]
type Held = std::os::unix::net::UnixDatagram;
#[cfg(not(target_os = "linux"))]
type Held = ();

impl Claim {
    /// Takes the range that was asked for, or the one that the data directory had before, or the
    /// first that no other process has. If all are taken the first is shared.
    pub fn take(data_dir: &Path, asked: Option<Range>) -> anyhow::Result<Self> {
        if let Some(range) = asked {
            return Ok(Self::of(range, hold(range)));
        }
        Self::first_free(data_dir, customary())
    }

    fn first_free(data_dir: &Path, ranges: impl Iterator<Item = Range>) -> anyhow::Result<Self> {
        let path = data_dir.join(FILE);
        let before = std::fs::read_to_string(&path).ok();
        let before = before.and_then(|text| text.parse::<Range>().ok());
        let free = before.into_iter().chain(ranges);
        let free = free.map(|range| (range, hold(range)));
        let (range, held) = { free }
            .find(|(_, held)| held.is_some())
            .unwrap_or((FIRST_RANGE, None));
        if before != Some(range) {
            std::fs::write(&path, range.to_string())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(Self::of(range, held))
    }

    fn of(range: Range, held: Option<Held>) -> Self {
        let first = u32::from(range.address);
        let last = first | u32::MAX.checked_shr(range.prefix.into()).unwrap_or(0);
        Self {
            range: GatewayRange {
                first: Ipv4Addr::from(first + 1),
                last: Ipv4Addr::from(last - 1),
            },
            _held: held,
        }
    }
}

const FIRST_RANGE: Range = Range {
    address: Ipv4Addr::new(127, FIRST, 0, 0),
    prefix: 16,
};

fn customary() -> impl Iterator<Item = Range> {
    let numbers = (LAST..=FIRST).rev();
    numbers.map(|second| Range {
        address: Ipv4Addr::new(127, second, 0, 0),
        prefix: 16,
    })
}

/// The claim, if nobody has it.
#[cfg(target_os = "linux")]
fn hold(range: Range) -> Option<Held> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let name = SocketAddr::from_abstract_name(format!("suimon/gateways/{range}")).ok()?;
    UnixDatagram::bind_addr(&name).ok()
}

/// Nothing to claim with: the first process has it.
#[cfg(not(target_os = "linux"))]
fn hold(_: Range) -> Option<Held> {
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranges that no other test and no Suimon of this machine tries.
    #[cfg(target_os = "linux")]
    fn ranges(test: u8) -> impl Iterator<Item = Range> {
        let own = u8::try_from(std::process::id() % 256).unwrap_or_default();
        (0..8).map(move |number| Range {
            address: Ipv4Addr::new(127, test, own, 16 * number),
            prefix: 28,
        })
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn two_processes_have_two_ranges_and_each_keeps_its_own() -> anyhow::Result<()> {
        let (one, two) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let first = Claim::first_free(one.path(), ranges(201))?;
        let second = Claim::first_free(two.path(), ranges(201))?;
        let (its, others) = (first.range, second.range);
        assert!(its.last < others.first || others.last < its.first);

        // The second comes first after a restart.
        drop((first, second));
        let second = Claim::first_free(two.path(), ranges(201))?;
        let first = Claim::first_free(one.path(), ranges(201))?;
        assert_eq!((first.range, second.range), (its, others));
        Ok(())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_range_that_another_process_has_meanwhile_is_left_to_it() -> anyhow::Result<()> {
        let (one, two) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let before = Claim::first_free(one.path(), ranges(202))?.range;
        std::fs::copy(one.path().join(FILE), two.path().join(FILE))?;
        let second = Claim::first_free(two.path(), ranges(202))?;
        assert_eq!(second.range, before);
        assert_ne!(Claim::first_free(one.path(), ranges(202))?.range, before);
        Ok(())
    }

    #[test]
    fn a_range_has_neither_the_networks_own_address_nor_the_last() -> anyhow::Result<()> {
        let asked = "127.9.8.0/30".parse()?;
        let range = Claim::of(asked, None).range;
        assert_eq!(range.first, Ipv4Addr::new(127, 9, 8, 1));
        assert_eq!(range.last, Ipv4Addr::new(127, 9, 8, 2));
        Ok(())
    }
}
