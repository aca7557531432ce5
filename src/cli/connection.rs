//! The flags that say how to reach a cluster, and what they come to.

use std::path::PathBuf;

/// How to reach the cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Connection {
    /// Client URLs of members; one is enough to find the others, more help where some are down
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        env = "ETCDCTL_ENDPOINTS"
    )]
    pub(crate) endpoints: Vec<String>,
    /// PEM file with the certificates that vouch for the servers
    #[arg(long, value_name = "FILE", env = "ETCDCTL_CACERT")]
    pub(crate) cacert: Option<PathBuf>,
    /// PEM file with this client's certificate
    #[arg(long, value_name = "FILE", requires = "key", env = "ETCDCTL_CERT")]
    pub(crate) cert: Option<PathBuf>,
    /// PEM file with this client's key
    #[arg(long, value_name = "FILE", requires = "cert", env = "ETCDCTL_KEY")]
    pub(crate) key: Option<PathBuf>,
    /// Who asks, where auth is enabled; the password comes from --password-file, from
    /// `ETCD_ARK_PASSWORD`, or is asked for
    #[arg(long, value_name = "NAME", env = "ETCD_ARK_USERNAME")]
    pub(crate) username: Option<String>,
    /// A file whose first line is the password
    #[arg(
        long,
        value_name = "FILE",
        requires = "username",
        env = "ETCD_ARK_PASSWORD_FILE"
    )]
    pub(crate) password_file: Option<PathBuf>,
    /// How long to wait for an answer, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "5",
        env = "ETCD_ARK_TIMEOUT"
    )]
    pub(crate) timeout: f64,
}
