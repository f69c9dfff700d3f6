//! The bridge of this process: claimed, made, and taken down again.
//!
//! A claim is a locked file, which the kernel lets go of with the process, however it ends. So a
//! bridge whose file can be locked belongs to nobody: a killed process's spawner or whoever comes
//! next removes it.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::LinkBridge;

use super::super::cgroup;
use super::masquerade::Masquerade;
use super::{LinkUnspec, NetworkError, PREFIX, block_on, connect, failed, index, set};

/// Where processes on this machine claim bridges, so that two of them never share addresses.
const CLAIMS: &str = "/run/suimon";
/// Bridges `suimon0` and so on, with the subnets 10.99.0.0/16 and so on.
const BRIDGES: u8 = 28;
const FIRST_SUBNET: u8 = 99;
/// Whether this machine passes packets on between its interfaces.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// The bridge of this process.
#[derive(Debug)]
pub(super) struct Bridge {
    pub(super) name: String,
    /// Which of the machine's bridges it is.
    pub(super) number: u8,
    /// The bridge's own address, the pods' way out; pods get the ones after it.
    pub(super) gateway: Ipv4Addr,
    /// Whether there is a device to take down.
    made: bool,
    /// `None` where the kernel cannot do it: pods then reach only this machine.
    masquerade: Option<Masquerade>,
    _claim: File,
}

impl Bridge {
    /// Claims the first bridge that no other process has.
    pub(super) fn claim() -> Result<Self, NetworkError> {
        std::fs::create_dir_all(CLAIMS).map_err(|error| failed("create /run/suimon", &error))?;
        for number in 0..BRIDGES {
            if let Some(claim) = lock(number)? {
                return Ok(Self {
                    name: name(number),
                    number,
                    gateway: Ipv4Addr::new(10, FIRST_SUBNET + number, 0, 1),
                    made: false,
                    masquerade: None,
                    _claim: claim,
                });
            }
        }
        Err(failed(
            "claim a bridge",
            &format!("all {BRIDGES} are in use by other processes"),
        ))
    }

    /// Makes the device, and removes those that processes left behind which were killed. Call it
    /// on a thread that may block. Returns why pods cannot reach the world, if they cannot.
    pub(super) fn make(&mut self) -> Result<Option<String>, NetworkError> {
        remove_abandoned(Some(self.number));
        block_on(make(&self.name, self.gateway))?;
        self.made = true;
        let [a, b, ..] = self.gateway.octets();
        let masqueraded = Masquerade::install(&self.name, [a, b])
            .map(|masquerade| self.masquerade = Some(masquerade))
            .map_err(|error| {
                format!("this machine cannot masquerade (nf_tables with NAT is needed): {error}")
            });
        let problem = masqueraded.and_then(|()| {
            forward().map_err(|error| format!("cannot write {FORWARDING}: {error}"))
        });
        Ok(problem.err())
    }
}

#[cfg(test)]
impl Bridge {
    /// One that exists on paper only.
    pub(super) fn for_test() -> Self {
        Self {
            name: "test".to_owned(),
            number: 0,
            gateway: Ipv4Addr::new(10, FIRST_SUBNET, 0, 1),
            made: false,
            masquerade: None,
            _claim: File::open("/dev/null").expect("opens"),
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if !self.made {
            return;
        }
        let name = self.name.clone();
        // A thread of its own: this may run inside a runtime, which must not be blocked on.
        let removed = std::thread::Builder::new()
            .name("pod-network".to_owned())
            .spawn(move || block_on(remove(name)))
            .map(std::thread::JoinHandle::join);
        if let Ok(Ok(Err(error))) = removed {
            tracing::warn!(bridge = self.name, %error, "the pods' bridge stays behind");
        }
    }
}

fn name(number: u8) -> String {
    format!("suimon{number}")
}

/// The claim, if nobody else has it.
fn lock(number: u8) -> Result<Option<File>, NetworkError> {
    let claim = File::create(format!("{CLAIMS}/bridge-{number}.lock"))
        .map_err(|error| failed("claim a bridge in /run/suimon", &error))?;
    Ok(claim.try_lock().is_ok().then_some(claim))
}

/// Packets of pods leave through another interface than they came in by.
fn forward() -> std::io::Result<()> {
    if std::fs::read_to_string(FORWARDING)?.trim() != "0" {
        return Ok(());
    }
    tracing::info!("turning on {FORWARDING}: pods reach other machines through this one");
    std::fs::write(FORWARDING, "1")
}

/// The device and the control groups of a number that nobody claims are left over. The claim is
/// held meanwhile. A killed process's spawner does it; where that was killed too, whoever starts
/// next, which may have got another number.
pub(super) fn remove_abandoned(ours: Option<u8>) {
    for number in (0..BRIDGES).filter(|number| Some(*number) != ours) {
        let name = name(number);
        let has_device = std::path::Path::new("/sys/class/net").join(&name).exists();
        if !has_device && cgroup::left_over(number).is_empty() {
            continue;
        }
        let Ok(Some(_claim)) = lock(number) else {
            continue;
        };
        cgroup::remove_left_over(number);
        Masquerade::remove_left_over(&name);
        if has_device && let Err(error) = block_on(remove(name)) {
            tracing::warn!(number, %error, "a bridge of an ended process stays behind");
        }
    }
}

async fn remove(name: String) -> Result<(), NetworkError> {
    let host = connect()?;
    let bridge = index(&host, &name).await?;
    let deleted = host.link().del(bridge).execute().await;
    deleted.map_err(|error| failed("delete the pods' bridge", &error))
}

/// Makes the bridge, or finds the one that an earlier process left.
async fn make(name: &str, gateway: Ipv4Addr) -> Result<(), NetworkError> {
    let host = connect()?;
    if index(&host, name).await.is_err() {
        let add = host.link().add(LinkBridge::new(name).build());
        add.execute()
            .await
            .map_err(|error| failed("make the pods' bridge", &error))?;
    }
    let bridge = index(&host, name).await?;
    match host
        .address()
        .add(bridge, IpAddr::V4(gateway), PREFIX)
        .execute()
        .await
    {
        Ok(()) => {}
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EEXIST => {}
        Err(error) => return Err(failed("give the pods' bridge its address", &error)),
    }
    set(
        &host,
        LinkUnspec::new_with_index(bridge).up().build(),
        "start the pods' bridge",
    )
    .await
}
