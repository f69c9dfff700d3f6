//! Pods' packets to other machines leave with this machine's address: one nf_tables rule.
//!
//! The table is written over netlink, so no program has to be installed, and it is owned by our
//! socket: the kernel removes it when the socket closes, however this process ends. Kernels
//! before 5.12 know no owners; there the table is removed on a clean end and by the next start.
//! Numbers are those of linux/netfilter/nf_tables.h; all of them travel in network byte order.

use std::io;

use netlink_sys::{Socket, SocketAddr};

const NETFILTER: isize = 12;
/// `NFNL_SUBSYS_NFTABLES`, the upper half of a message's type.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
/// Marks an attribute that holds attributes.
const NESTED: u16 = 0x8000;

const IPV4: u8 = 2;
const TABLE_OWNER: u32 = 2;
const POST_ROUTING: u32 = 4;
/// Where source addresses are translated.
const PRIORITY: u32 = 100;
const REGISTER: u32 = 1;
const NETWORK_HEADER: u32 = 1;
/// Offsets of the addresses in an IPv4 header.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// The rule. It ends with this.
#[derive(Debug)]
pub(super) struct Masquerade {
    socket: Socket,
    table: String,
    /// The kernel removes the table by itself.
    owned: bool,
}

impl Masquerade {
    /// Masquerades what goes from the /16 with this prefix to anywhere else.
    pub(super) fn install(table: &str, subnet: [u8; 2]) -> io::Result<Self> {
        let mut masquerade = Self::nothing(table)?;
        masquerade.delete_left_over();
        match masquerade.send(&rules(table, subnet, TABLE_OWNER)) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL)) => {
                masquerade.owned = false;
                masquerade.send(&rules(table, subnet, 0))?;
            }
            other => other?,
        }
        Ok(masquerade)
    }

    /// Removes the rule of a process that was killed, where the kernel did not.
    pub(super) fn remove_left_over(table: &str) {
        // Without nf_tables there is none.
        if let Ok(nothing) = Self::nothing(table) {
            nothing.delete_left_over();
        }
    }

    /// A socket to speak of a table.
    fn nothing(table: &str) -> io::Result<Self> {
        let mut socket = Socket::new(NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        Ok(Self {
            socket,
            table: table.to_owned(),
            owned: true,
        })
    }

    /// There is none, as a rule.
    fn delete_left_over(&self) {
        let mut batch = Batch::new();
        batch.message(DELETE_TABLE, 0, |m| m.text(1, &self.table));
        let _ = self.send(&batch.end());
    }

    /// The kernel has worked through the batch when `send` returns: its answers lie ready.
    fn send(&self, batch: &[u8]) -> io::Result<()> {
        self.socket.send(batch, 0)?;
        let mut first = Ok(());
        loop {
            let answer = match self.socket.recv_from_full() {
                Ok((answer, _)) => answer,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return first,
                Err(error) => return Err(error),
            };
            if let (Some(errno), true) = (errno(&answer), first.is_ok()) {
                first = Err(io::Error::from_raw_os_error(errno));
            }
        }
    }
}

impl Drop for Masquerade {
    fn drop(&mut self) {
        if !self.owned {
            self.delete_left_over();
        }
    }
}

/// The error in an answer: header of 16 bytes with type 2, then a negative error number.
fn errno(answer: &[u8]) -> Option<i32> {
    const ERROR: u16 = 2;
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == ERROR && code != 0).then_some(-code)
}

/// Table, chain and rule.
fn rules(table: &str, subnet: [u8; 2], flags: u32) -> Vec<u8> {
    const CHAIN: &str = "postrouting";
    let mut batch = Batch::new();
    batch.message(NEW_TABLE, CREATE, |m| {
        m.text(1, table);
        m.number(2, flags);
    });
    batch.message(NEW_CHAIN, CREATE, |m| {
        m.text(1, table);
        m.text(3, CHAIN);
        m.nested(4, |hook| {
            hook.number(1, POST_ROUTING);
            hook.number(2, PRIORITY);
        });
        m.text(7, "nat");
    });
    batch.message(NEW_RULE, CREATE | APPEND, |m| {
        m.text(1, table);
        m.text(2, CHAIN);
        m.nested(4, |list| {
            compare(list, SOURCE, EQUAL, subnet);
            compare(list, DESTINATION, NOT_EQUAL, subnet);
            expression(list, "masq", |_| {});
        });
    });
    batch.end()
}

/// Goes on with the rule only if two bytes of the header are (or are not) these.
fn compare(list: &mut Attributes, offset: u32, operation: u32, bytes: [u8; 2]) {
    expression(list, "payload", |data| {
        data.number(1, REGISTER);
        data.number(2, NETWORK_HEADER);
        data.number(3, offset);
        data.number(4, bytes.len() as u32);
    });
    expression(list, "cmp", |data| {
        data.number(1, REGISTER);
        data.number(2, operation);
        data.nested(3, |value| value.bytes(1, &bytes));
    });
}

fn expression(list: &mut Attributes, name: &str, data: impl FnOnce(&mut Attributes)) {
    list.nested(1, |element| {
        element.text(1, name);
        element.nested(2, data);
    });
}

/// Messages that take effect together or not at all.
struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
}

impl Batch {
    fn new() -> Self {
        let mut batch = Self {
            bytes: Vec::new(),
            sequence: 0,
        };
        batch.append(BATCH_BEGIN, REQUEST, 0, SUBSYSTEM, |_| {});
        batch
    }

    fn message(&mut self, kind: u16, flags: u16, content: impl FnOnce(&mut Attributes)) {
        let kind = SUBSYSTEM << 8 | kind;
        self.append(kind, REQUEST | ACK | flags, IPV4, 0, content);
    }

    fn end(mut self) -> Vec<u8> {
        self.append(BATCH_END, REQUEST, 0, SUBSYSTEM, |_| {});
        self.bytes
    }

    /// Netlink's header (host byte order), netfilter's, attributes.
    fn append(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        content: impl FnOnce(&mut Attributes),
    ) {
        let mut attributes = Attributes(Vec::new());
        content(&mut attributes);
        let length = 20 + attributes.0.len() as u32;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(attributes.0);
        self.sequence += 1;
    }
}

struct Attributes(Vec<u8>);

impl Attributes {
    fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.0.extend((4 + value.len() as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat());
    }

    fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let mut inner = Self(Vec::new());
        content(&mut inner);
        self.bytes(NESTED | kind, &inner.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_the_rule_and_drops_it_with_its_owner() {
        if !crate::sys::is_root() {
            eprintln!("SKIPPED: nf_tables needs root");
            return;
        }
        let table = format!("suimon-test-{}", std::process::id());
        let exists = || {
            let probe = Masquerade {
                socket: Socket::new(NETFILTER).expect("a socket"),
                table: table.clone(),
                owned: true,
            };
            let address = SocketAddr::new(0, 0);
            probe.socket.connect(&address).expect("connected");
            probe.socket.set_non_blocking(true).expect("set");
            let mut batch = Batch::new();
            batch.message(DELETE_TABLE, 0, |m| m.text(1, &table));
            let error = probe.send(&batch.end()).err();
            error.and_then(|error| error.raw_os_error()) != Some(libc::ENOENT)
        };
        let masquerade = match Masquerade::install(&table, [10, 250]) {
            Ok(masquerade) => masquerade,
            Err(error) => {
                eprintln!("SKIPPED: this kernel cannot masquerade: {error}");
                return;
            }
        };
        assert!(exists(), "others are refused: it has an owner");
        drop(masquerade);
        assert!(!exists());
    }
}
