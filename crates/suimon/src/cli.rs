//! The command line as written: every flag with its help text, nothing resolved yet.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Knative and its ingress gateway in one binary.
#[derive(Debug, Parser)]
#[command(name = "suimon", version, about, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub access: Access,
}

/// How commands find the API.
#[derive(Clone, Debug, Args)]
pub struct Access {
    /// Kubeconfig of the API [default: $KUBECONFIG, else the one in the data directory]
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Data directory of `suimon up` [default: $XDG_DATA_HOME/suimon]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Namespace of namespaced objects [default: the kubeconfig's]
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// Log filter, for example `debug` or `proxy=debug,info`
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything on this machine: API, controllers, pods and gateway
    Up(Up),
    /// Create or update a Service, wait until it is Ready and print its URL
    Deploy(Deploy),
    /// Apply manifests (server-side) and wait for Knative Services
    Apply(Apply),
    /// List objects, or print one
    Get(Get),
    /// Show an object with its conditions and events
    Describe(Named),
    /// Delete objects
    Delete(Delete),
    /// Print the logs of a Service, a Revision or a Pod
    Logs(Logs),
    /// Manage the local image store
    Image {
        #[command(subcommand)]
        command: Image,
    },
    /// Show what the gateway serves and where each route came from
    Routes(Routes),
    /// Say which route a request would take, and why the others did not match
    Explain(Explain),
    /// Say what the gateway would not serve of these files as written, without a server
    Lint(Lint),
    /// Write these files' routes as Gateway API objects, and say what is not the same then
    Migrate(Migrate),
}

/// Flags of `suimon up`. Every one can stand in the file given with `--config`, without dashes.
#[derive(Clone, Debug, Default, Args)]
pub struct Up {
    /// Manifests to apply once the API answers; a directory means its *.yaml, *.yml and *.json
    #[arg(short, long = "file", value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// Address that the gateway and the API listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<IpAddr>,
    /// Port of the gateway for HTTP [default: 80 if it can be bound, else 8080; 0: any free]
    #[arg(long, value_name = "PORT")]
    pub http_port: Option<u16>,
    /// Port of the gateway for HTTPS [default: 443 if it can be bound, else 8443; 0: any free]
    #[arg(long, value_name = "PORT")]
    pub https_port: Option<u16>,
    /// The gateway's two external ports are reached through a balancer that sends the PROXY protocol
    #[arg(long)]
    pub proxy_protocol: bool,
    /// Proxies in front of the gateway's external ports: the client is the address so many places
    /// from the end of X-Forwarded-For, and their X-Forwarded-Proto is believed [default: 0]
    #[arg(long, value_name = "N")]
    pub trusted_hops: Option<u32>,
    /// The gateway's external HTTPS port serves HTTP/3 too, over UDP; needs a build with the
    /// feature `http3`
    #[arg(long, hide = cfg!(not(feature = "http3")))]
    pub http3: bool,
    /// Port of the gateway for cluster-local hosts, always on loopback [default: 8081, else any free]
    #[arg(long, value_name = "PORT")]
    pub local_port: Option<u16>,
    /// Port of the gateway for HTTPS of cluster-local hosts, on loopback too [default: 8444, else any free]
    #[arg(long, value_name = "PORT")]
    pub local_https_port: Option<u16>,
    /// Port of the API [default: 6443; 0: any free]
    #[arg(long, value_name = "PORT")]
    pub api_port: Option<u16>,
    /// Port of the admin endpoint (metrics, readiness), always on loopback [default: 9901, else any free]
    #[arg(long, value_name = "PORT")]
    pub admin_port: Option<u16>,
    /// Domain of Services [default: config-domain, at first `localhost`]
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Runtime of pods without a runtimeClassName [default: oci when root on Linux, else process]
    #[arg(long, value_name = "NAME")]
    pub runtime: Option<Runtime>,
    /// Zone of this machine: its Node's `topology.kubernetes.io/zone`, and what policies that
    /// prefer near endpoints go by [default: none]
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// Addresses of Services, an IPv4 network [default: 10.96.0.0/16, or the first below it that
    /// is free on this machine; a data directory keeps its own]
    #[arg(long, value_name = "CIDR")]
    pub service_range: Option<services::Range>,
    /// Loopback addresses for Services of type LoadBalancer [default: 127.96.0.0/16; its second
    /// number follows that of the Services' addresses]
    #[arg(long, value_name = "CIDR")]
    pub load_balancer_range: Option<services::Range>,
    /// Loopback addresses for Gateways, one each [default: 127.64.0.0/16, or the first below it
    /// that no other Suimon on this machine has; a data directory keeps its own]
    #[arg(long, value_name = "CIDR")]
    pub gateway_range: Option<services::Range>,
    /// Threads of the gateway [default: one per core]
    #[arg(long, value_name = "N")]
    pub gateway_threads: Option<usize>,
    /// Controller whose GatewayClasses are served beside Suimon's own; repeatable [default: every
    /// controller's]
    #[arg(long, value_name = "CONTROLLER")]
    pub adopt_gateway_class: Vec<String>,
    /// YAML file with any of these settings; flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// How pods run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// A program on the host with a port of its own
    Process,
    /// A container: namespaces, cgroups, own network
    Oci,
}

/// Flags of `suimon deploy`.
#[derive(Clone, Debug, Args)]
pub struct Deploy {
    /// Name of the Service
    pub name: String,
    /// Image to run
    #[arg(long, value_name = "REF", required_unless_present = "program")]
    pub image: Option<String>,
    /// Environment variable of the container
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Port that the program listens on [default: 8080; it gets it as $PORT]
    #[arg(long)]
    pub port: Option<u16>,
    /// Requests in flight per pod
    #[arg(long, value_name = "N")]
    pub concurrency: Option<i64>,
    /// Seconds to wait until the Service is Ready
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u64,
    /// Program and its arguments, put into the image store under the Service's name
    #[arg(last = true, value_name = "COMMAND")]
    pub program: Vec<String>,
    #[command(flatten)]
    pub format: Format,
}

/// Flags of `suimon apply`.
#[derive(Clone, Debug, Args)]
pub struct Apply {
    /// Manifests; `-` reads standard input
    #[arg(short, long = "file", value_name = "FILE|DIR", required = true)]
    pub files: Vec<PathBuf>,
    /// Do not wait until Knative Services are Ready
    #[arg(long)]
    pub no_wait: bool,
    /// Seconds to wait
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u64,
}

/// Flags of `suimon get`.
#[derive(Clone, Debug, Args)]
pub struct Get {
    /// Kind, plural or short name; several separated by commas; or KIND/NAME
    pub kind: String,
    /// Name of one object
    pub name: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Label selector
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    #[command(flatten)]
    pub format: Format,
}

/// One object.
#[derive(Clone, Debug, Args)]
pub struct Named {
    /// Kind, plural or short name; or KIND/NAME
    pub kind: String,
    /// Name of the object
    pub name: Option<String>,
}

/// Flags of `suimon delete`.
#[derive(Clone, Debug, Args)]
pub struct Delete {
    /// Kind, plural or short name; or KIND/NAME
    #[arg(required_unless_present = "files")]
    pub kind: Option<String>,
    /// Names of the objects
    pub names: Vec<String>,
    /// Delete what these manifests name
    #[arg(short, long = "file", value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// Wait until the objects are gone
    #[arg(long)]
    pub wait: bool,
}

/// Flags of `suimon logs`.
#[derive(Clone, Debug, Args)]
pub struct Logs {
    /// A Service; or revision/NAME, pod/NAME
    pub name: String,
    /// Keep printing as lines are written
    #[arg(short, long)]
    pub follow: bool,
    /// Container, if the pod has several
    #[arg(short, long)]
    pub container: Option<String>,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    pub tail: Option<i64>,
    /// The container's previous run
    #[arg(short, long)]
    pub previous: bool,
}

/// `suimon image …`
#[derive(Clone, Debug, Subcommand)]
pub enum Image {
    /// Add a program or an archive under an image name
    Add {
        /// Image name as manifests use it
        name: String,
        /// A program for this machine
        #[arg(
            long,
            value_name = "PATH",
            conflicts_with = "archive",
            required_unless_present = "archive"
        )]
        binary: Option<PathBuf>,
        /// An OCI or Docker archive (`docker save`)
        #[arg(long, value_name = "TAR")]
        archive: Option<PathBuf>,
    },
    /// Fetch an image from its registry
    Pull {
        /// Image name
        name: String,
    },
    /// List images
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Remove an image
    Remove {
        /// Image name
        name: String,
    },
}

/// Flags of `suimon routes`.
#[derive(Clone, Debug, Args)]
pub struct Routes {
    #[command(flatten)]
    pub format: Format,
}

/// Flags of `suimon explain`.
#[derive(Clone, Debug, Args)]
pub struct Explain {
    /// Method of the request
    pub method: String,
    /// URL of the request
    pub url: String,
    /// Header of the request
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// As the cluster-local listener would serve it
    #[arg(long)]
    pub cluster_local: bool,
    /// Address of the client, for routes that depend on it
    #[arg(long, value_name = "IP")]
    pub client: Option<IpAddr>,
    #[command(flatten)]
    pub format: Format,
}

/// Flags of `suimon lint`.
#[derive(Clone, Debug, Args)]
pub struct Lint {
    /// Manifests; a directory means its *.yaml, *.yml and *.json; `-` reads standard input
    #[arg(short, long = "file", value_name = "FILE|DIR", required = true)]
    pub files: Vec<PathBuf>,
    /// For a gateway that is started with --proxy-protocol
    #[arg(long)]
    pub proxy_protocol: bool,
    #[command(flatten)]
    pub format: Format,
}

/// Flags of `suimon migrate`.
#[derive(Clone, Debug, Args)]
pub struct Migrate {
    /// Manifests with their Services; a directory means its *.yaml, *.yml and *.json; `-` reads
    /// standard input
    #[arg(short, long = "file", value_name = "FILE|DIR", required = true)]
    pub files: Vec<PathBuf>,
    /// Class of the Gateway that is written
    #[arg(long, value_name = "CLASS", default_value = api::gateway::CLASS)]
    pub class: String,
    #[command(flatten)]
    pub format: Format,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Format {
    /// Print for programs [default: a table]
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Encoding>,
}

/// Encodings for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Encoding {
    Json,
    Yaml,
}
