//! Node ports and load balancers' addresses; pure but for the books it keeps.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use k8s_openapi::api::core::v1::{
    LoadBalancerIngress, LoadBalancerStatus, PortStatus, Service, ServicePort,
};
use reconcile::Key;

use super::addresses::{AddressRange, Addresses};
use super::plan::{Problem, type_of};

/// Which node ports are taken, and by whom. TCP and UDP have numbers of their own.
#[derive(Debug)]
pub(super) struct NodePorts {
    range: RangeInclusive<u16>,
    owners: HashMap<(u16, String), Key>,
    next: u16,
}

impl NodePorts {
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        Self {
            next: *range.start(),
            range,
            owners: HashMap::new(),
        }
    }

    /// Takes what a stored Service has; whoever came first keeps it.
    pub(super) fn note(&mut self, service: &Service, owner: &Key) {
        let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
        for port in ports.into_iter().flatten() {
            let number = port.node_port.and_then(|port| u16::try_from(port).ok());
            if let Some(number) = number.filter(|number| *number != 0) {
                self.claim(number, port.protocol.as_deref().unwrap_or("TCP"), owner);
            }
        }
    }

    pub(super) fn release(&mut self, owner: &Key) {
        self.owners.retain(|_, key| key != owner);
    }

    /// Takes the port for `owner`; answers who has it if that is someone else.
    fn claim(&mut self, port: u16, protocol: &str, owner: &Key) -> Option<Key> {
        let entry = self.owners.entry((port, protocol.to_owned()));
        let holder = entry.or_insert_with(|| owner.clone());
        (holder != owner).then(|| holder.clone())
    }

    fn allocate(&mut self, protocol: &str, owner: &Key) -> Option<u16> {
        let (first, last) = (*self.range.start(), *self.range.end());
        for _ in self.range.clone() {
            // Onwards from the last one, so that a freed port rests for a while.
            let port = self.next;
            self.next = if port >= last { first } else { port + 1 };
            if !self.owners.contains_key(&(port, protocol.to_owned())) {
                self.claim(port, protocol, owner);
                return Some(port);
            }
        }
        None
    }
}

fn wants_node_ports(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let allocates = spec.and_then(|spec| spec.allocate_load_balancer_node_ports) != Some(false);
    match type_of(service) {
        "NodePort" => true,
        "LoadBalancer" => allocates,
        _ => false,
    }
}

/// The Service's ports as they should be, if they change, and notes them in `books`.
pub(super) fn node_ports(
    service: &Service,
    key: &Key,
    books: &mut NodePorts,
) -> (Option<Vec<ServicePort>>, Option<Problem>) {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.clone());
    let mut ports = ports.unwrap_or_default();
    let before = ports.clone();
    let mut problem = None;
    // Ports that the Service had before and has no more are free again.
    books.release(key);
    if service.metadata.deletion_timestamp.is_some() {
        return (None, None);
    }
    let wanted = wants_node_ports(service);
    let kept = type_of(service) == "LoadBalancer";
    for port in &mut ports {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        let written = port.node_port.filter(|number| *number != 0);
        match written.map(u16::try_from) {
            Some(Ok(number)) if wanted || kept => {
                if let Some(other) = books.claim(number, &protocol, key) {
                    problem = Some(Problem {
                        reason: "NodePortAllocated",
                        message: format!(
                            "node port {number}: provided port is already allocated to Service {other}"
                        ),
                    });
                }
            }
            Some(_) => port.node_port = None,
            None => {}
        }
    }
    // After those that users chose, so that none of them is given away.
    for port in ports
        .iter_mut()
        .filter(|port| wanted && port.node_port.is_none_or(|number| number == 0))
    {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        match books.allocate(&protocol, key) {
            Some(number) => port.node_port = Some(i32::from(number)),
            None => {
                problem = Some(Problem {
                    reason: "NodePortsExhausted",
                    message: "every node port is taken, delete Services or choose one outside of the range".to_owned(),
                });
            }
        }
    }
    ((ports != before).then_some(ports), problem)
}

/// The loopback address that stands for the Service's load balancer now.
pub(super) fn balancer(service: &Service, range: AddressRange) -> Option<Ipv4Addr> {
    let status = service.status.as_ref()?.load_balancer.as_ref()?;
    let ingress = status.ingress.as_deref()?.first()?;
    let ip = ingress.ip.as_deref()?.parse().ok()?;
    range.contains(ip).then_some(ip)
}

/// `status.loadBalancer` as it should be; `None` leaves it to someone else.
pub(super) fn load_balancer(
    service: &Service,
    key: &Key,
    range: AddressRange,
    books: &mut Addresses,
) -> (Option<LoadBalancerStatus>, Option<Problem>) {
    let spec = service.spec.clone().unwrap_or_default();
    let status = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let given =
        status.is_some_and(|status| status.ingress.as_ref().is_some_and(|all| !all.is_empty()));
    let mine = balancer(service, range);
    let asks = type_of(service) == "LoadBalancer" && spec.load_balancer_class.is_none();
    if !asks || (given && mine.is_none()) || service.metadata.deletion_timestamp.is_some() {
        books.release(key);
        // Whoever serves it (the gateway for its own Services) writes the address.
        return (
            mine.map(|_| LoadBalancerStatus::default())
                .filter(|_| !asks),
            None,
        );
    }
    let wished = spec.load_balancer_ip.as_deref().filter(|ip| !ip.is_empty());
    let wished = wished
        .and_then(|ip| ip.parse().ok())
        .filter(|ip| range.contains(*ip));
    let address = match wished.or(mine) {
        Some(address) => match books.claim(address, key) {
            None => Some(address),
            Some(other) => {
                let problem = Problem {
                    reason: "LoadBalancerAddressAllocated",
                    message: format!(
                        "the load balancer's address {address} belongs to Service {other}, choose another or leave it out"
                    ),
                };
                return (None, Some(problem));
            }
        },
        None => books.allocate(key),
    };
    let Some(address) = address else {
        let problem = Problem {
            reason: "LoadBalancerAddressesExhausted",
            message: "every address for load balancers is taken, delete Services or choose a larger range".to_owned(),
        };
        return (None, Some(problem));
    };
    let ports = spec.ports.iter().flatten().map(|port| PortStatus {
        port: port.port,
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        error: None,
    });
    let ingress = LoadBalancerIngress {
        ip: Some(address.to_string()),
        ip_mode: Some("Proxy".to_owned()),
        ports: Some(ports.collect()),
        hostname: None,
    };
    let status = LoadBalancerStatus {
        ingress: Some(vec![ingress]),
    };
    (Some(status), None)
}
