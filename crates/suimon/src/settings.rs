//! Flags and file → settings of `suimon up`, validated; all mistakes are reported together.

mod access_log;
mod acme;
mod limits;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::cli::{self, Runtime};

/// Ports that are tried for the gateway when none is given.
const HTTP_PORTS: [u16; 2] = [80, 8080];
const HTTPS_PORTS: [u16; 3] = [443, 8443, 0];
const LOCAL_PORTS: [u16; 2] = [8081, 0];
const LOCAL_HTTPS_PORTS: [u16; 2] = [8444, 0];
const ADMIN_PORTS: [u16; 2] = [9901, 0];
const API_PORT: u16 = 6443;
/// Proxies one behind the other.
const MOST_HOPS: u32 = 64;

/// What `suimon up` runs with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub files: Vec<PathBuf>,
    pub data_dir: PathBuf,
    pub listen: IpAddr,
    /// Tried in order; the first that can be bound is used.
    pub http_ports: Vec<u16>,
    pub https_ports: Vec<u16>,
    /// Whether external clients begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Proxies in front of the external ports that are believed.
    pub trusted_hops: u32,
    #[cfg(feature = "http3")]
    pub http3: bool,
    pub local_ports: Vec<u16>,
    pub local_https_ports: Vec<u16>,
    pub api_port: u16,
    pub admin_ports: Vec<u16>,
    /// Only set when the user named one.
    pub domain: Option<String>,
    pub runtime: Runtime,
    /// A label's value.
    pub zone: Option<String>,
    pub gateway_threads: usize,
    /// Controllers whose GatewayClasses are served; none given means every controller's.
    pub adopt_gateway_class: Vec<String>,
    /// Only set when the user named one.
    pub service_range: Option<services::Range>,
    pub load_balancer_range: Option<services::Range>,
    pub gateway_range: Option<services::Range>,
    pub limits: proxy::Limits,
    /// Requests that may wait for a revision, at least.
    pub revision_queue: usize,
    /// Memory of this process beyond which nothing new is served, if the user named one.
    pub memory_bytes: Option<u64>,
    pub object_bytes: Option<u64>,
    /// How often names of backends are looked up.
    pub dns_time: Duration,
    pub access_log: Option<proxy::AccessLog>,
    /// A public authority that signs certificates.
    pub acme: Option<authority::acme::Settings>,
}

/// The settings file: the flags' names without dashes and the gateway's limits, all optional.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    #[serde(default)]
    file: Vec<PathBuf>,
    data_dir: Option<PathBuf>,
    listen: Option<IpAddr>,
    http_port: Option<u16>,
    https_port: Option<u16>,
    #[serde(default)]
    proxy_protocol: bool,
    trusted_hops: Option<u32>,
    #[serde(default)]
    http3: bool,
    local_port: Option<u16>,
    local_https_port: Option<u16>,
    api_port: Option<u16>,
    admin_port: Option<u16>,
    domain: Option<String>,
    runtime: Option<Runtime>,
    zone: Option<String>,
    gateway_threads: Option<usize>,
    #[serde(default)]
    adopt_gateway_class: Vec<String>,
    service_range: Option<String>,
    load_balancer_range: Option<String>,
    gateway_range: Option<String>,
    #[serde(default)]
    limits: limits::Limits,
    access_log: Option<access_log::AccessLog>,
    acme: Option<acme::Acme>,
}

impl Settings {
    /// Resolves flags over the file over the defaults.
    pub fn resolve(flags: cli::Up, access: &cli::Access) -> anyhow::Result<Self> {
        let file = match &flags.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let mut mistakes = Vec::new();
        let domain = flags.domain.or(file.domain);
        if let Some(domain) = domain.as_deref().filter(|domain| !is_domain(domain)) {
            mistakes.push(format!(
                "domain: \"{domain}\" is not a DNS name such as example.com"
            ));
        }
        let runtime = flags
            .runtime
            .or(file.runtime)
            .unwrap_or_else(default_runtime);
        if runtime == Runtime::Oci && !can_run_containers() {
            mistakes.push("runtime: oci needs root on Linux; use process".to_owned());
        }
        let zone = flags.zone.or(file.zone);
        if let Some(zone) = zone.as_deref().filter(|zone| !is_label_value(zone)) {
            mistakes.push(format!(
                "zone: \"{zone}\" is not a label's value: up to 63 letters, digits, '-', '_' and '.', with letters or digits at both ends"
            ));
        }
        let gateway_threads = flags
            .gateway_threads
            .or(file.gateway_threads)
            .unwrap_or_else(cores);
        if !(1..=1024).contains(&gateway_threads) {
            mistakes.push(format!(
                "gateway-threads: {gateway_threads} is not within 1 to 1024"
            ));
        }
        let trusted_hops = flags.trusted_hops.or(file.trusted_hops).unwrap_or(0);
        if trusted_hops > MOST_HOPS {
            mistakes.push(format!(
                "trusted-hops: {trusted_hops} is not within 0 to {MOST_HOPS}"
            ));
        }
        let mut range = |flag: Option<services::Range>, name: &str, text: Option<String>| {
            let text = text.filter(|_| flag.is_none());
            match text.map(|text| text.parse::<services::Range>()).transpose() {
                Ok(parsed) => flag.or(parsed),
                Err(error) => {
                    mistakes.push(format!("{name}: {error}"));
                    None
                }
            }
        };
        let service_range = range(flags.service_range, "service-range", file.service_range);
        let load_balancer_range = range(
            flags.load_balancer_range,
            "load-balancer-range",
            file.load_balancer_range,
        );
        let gateway_range = range(flags.gateway_range, "gateway-range", file.gateway_range);
        for (name, range) in [
            ("load-balancer-range", load_balancer_range),
            ("gateway-range", gateway_range),
        ] {
            if let Some(range) = range.filter(|range| !range.address.is_loopback()) {
                mistakes.push(format!("{name}: {range} is not within 127.0.0.0/8"));
            }
        }
        let limits::Resolved {
            gateway: limits,
            revision_queue,
            memory_bytes,
            object_bytes,
            dns_time,
        } = file.limits.resolve(&mut mistakes);
        let access_log = file.access_log.and_then(|log| log.resolve(&mut mistakes));
        let http3 = flags.http3 || file.http3;
        if http3 && cfg!(not(feature = "http3")) {
            mistakes.push(
                "http3: this program was built without it; build it with \
                 `cargo build --release --features http3`"
                    .to_owned(),
            );
        }
        let data_dir = data_dir(access.data_dir.as_deref().or(file.data_dir.as_deref()))?;
        let acme = file
            .acme
            .and_then(|acme| acme.resolve(&data_dir, &mut mistakes));
        let files = if flags.files.is_empty() {
            file.file
        } else {
            flags.files
        };
        for path in files
            .iter()
            .filter(|path| !path.exists() && *path != Path::new("-"))
        {
            mistakes.push(format!("file: {} does not exist", path.display()));
        }
        if !mistakes.is_empty() {
            bail!("{}", mistakes.join("\n       "));
        }
        let one_or = |port: Option<u16>, defaults: &[u16]| {
            port.map_or_else(|| defaults.to_vec(), |port| vec![port])
        };
        Ok(Self {
            files,
            data_dir,
            listen: flags
                .listen
                .or(file.listen)
                .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            http_ports: one_or(flags.http_port.or(file.http_port), &HTTP_PORTS),
            https_ports: one_or(flags.https_port.or(file.https_port), &HTTPS_PORTS),
            proxy_protocol: flags.proxy_protocol || file.proxy_protocol,
            trusted_hops,
            #[cfg(feature = "http3")]
            http3,
            local_ports: one_or(flags.local_port.or(file.local_port), &LOCAL_PORTS),
            local_https_ports: one_or(
                flags.local_https_port.or(file.local_https_port),
                &LOCAL_HTTPS_PORTS,
            ),
            api_port: flags.api_port.or(file.api_port).unwrap_or(API_PORT),
            admin_ports: one_or(flags.admin_port.or(file.admin_port), &ADMIN_PORTS),
            domain,
            runtime,
            zone,
            gateway_threads,
            adopt_gateway_class: if flags.adopt_gateway_class.is_empty() {
                file.adopt_gateway_class
            } else {
                flags.adopt_gateway_class
            },
            service_range,
            load_balancer_range,
            gateway_range,
            limits,
            revision_queue,
            memory_bytes,
            object_bytes,
            dns_time,
            access_log,
            acme,
        })
    }
}

impl Settings {
    /// How requests wait for revisions.
    pub fn scaling(&self) -> scaling::Settings {
        scaling::Settings {
            queue_depth: self.revision_queue,
        }
    }
}

/// The data directory: as given, else `$XDG_DATA_HOME/suimon`, else `~/.local/share/suimon`.
pub fn data_dir(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        return std::path::absolute(path).with_context(|| format!("cannot use {}", path.display()));
    }
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    match (set("XDG_DATA_HOME"), set("HOME")) {
        (Some(data), _) => Ok(data.join("suimon")),
        (None, Some(home)) => Ok(home.join(".local/share/suimon")),
        (None, None) => {
            bail!("neither XDG_DATA_HOME nor HOME is set; name a directory with --data-dir")
        }
    }
}

fn read(path: &Path) -> anyhow::Result<File> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_str(&text)
        .with_context(|| format!("{} is not a valid settings file", path.display()))
}

fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.len() <= 253 && domain.split('.').all(label)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Kubernetes' rule for values of labels.
fn is_label_value(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ends = [text.bytes().next(), text.bytes().last()];
    text.len() <= 63
        && text.bytes().all(inner)
        && ends
            .iter()
            .all(|end| end.is_some_and(|end| end.is_ascii_alphanumeric()))
}

fn default_runtime() -> Runtime {
    if can_run_containers() {
        Runtime::Oci
    } else {
        Runtime::Process
    }
}

fn can_run_containers() -> bool {
    cfg!(target_os = "linux") && node::is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_lower_case_labels() {
        assert!(is_domain("localhost"));
        assert!(is_domain("127.0.0.1.sslip.io"));
        assert!(!is_domain("-bad.example"));
        assert!(!is_domain("Upper.example"));
        assert!(!is_domain("a..b"));
    }

    #[cfg(not(feature = "http3"))]
    #[test]
    fn a_build_without_http3_says_what_is_missing() {
        let flags = cli::Up {
            http3: true,
            ..cli::Up::default()
        };
        let access = cli::Access {
            kubeconfig: None,
            data_dir: None,
            namespace: None,
            log: None,
        };
        let error = Settings::resolve(flags, &access).expect_err("it is not there");
        assert!(error.to_string().contains("--features http3"), "{error}");
    }

    #[test]
    fn an_unknown_key_of_the_settings_file_is_refused() {
        let error = serde_saphyr::from_str::<File>("http-prot: 80\n").expect_err("a typo");
        assert!(error.to_string().contains("http-prot"), "{error}");
    }
}
