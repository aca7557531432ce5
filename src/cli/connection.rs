//! The flags for the connection to a cluster, and their meaning.
//!
//! In: flags, their environment variables, and those of etcdctl 2.x. Out: an [`Access`]. The
//! password comes from a file, from the environment, or from the terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::{Access, User};
use crate::etcd::digest::Digest;
use crate::fs::auxiliary::{MOST, read_small};
use crate::interrupt::Interrupted;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

use crate::cli::error::{CliError, Kind, Result};
use crate::cli::values::duration;

/// The variables for the endpoints in etcdctl 2.2 and 2.1.
const OLDER_ENDPOINTS: [&str; 2] = ["ETCDCTL_ENDPOINT", "ETCDCTL_PEERS"];
/// Further variables with the meaning of a flag.
const ALSO_READ: [(&str, &[&str]); 5] = [
    ("endpoints", &OLDER_ENDPOINTS),
    ("cacert", &["ETCDCTL_CA_FILE"]),
    ("cert", &["ETCDCTL_CERT_FILE"]),
    ("key", &["ETCDCTL_KEY_FILE"]),
    ("password-file", &["ETCD_ARK_PASSWORD"]),
];
/// The default time limit for a member's answer, in the form of `--timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time limit.
const LONGEST: Duration = Duration::from_secs(3600);

/// How to reach the cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Connection {
    /// Client URLs of members, comma-separated; one will do
    ///
    /// `ETCDCTL_ENDPOINT` and `ETCDCTL_PEERS` of etcdctl 2.x are read, too.
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        env = "ETCDCTL_ENDPOINTS"
    )]
    endpoints: Vec<String>,
    #[command(flatten)]
    tls: Tls,
    /// User, if authentication is enabled
    ///
    /// The password comes from --password-file, from `ETCD_ARK_PASSWORD`, or from a prompt.
    #[arg(long, value_name = "NAME", env = "ETCD_ARK_USERNAME")]
    username: Option<String>,
    /// File with the password in its first line
    #[arg(
        long,
        value_name = "FILE",
        requires = "username",
        env = "ETCD_ARK_PASSWORD_FILE"
    )]
    password_file: Option<PathBuf>,
    /// How long to wait for each member
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "5s",
        value_parser = timeout,
        env = "ETCD_ARK_TIMEOUT"
    )]
    timeout: Duration,
}

/// How to agree on TLS with the servers.
#[derive(Debug, clap::Args)]
pub(crate) struct Tls {
    /// CA certificates of the servers, PEM
    ///
    /// `ETCDCTL_CA_FILE`, `ETCDCTL_CERT_FILE` and `ETCDCTL_KEY_FILE` of etcdctl 2.x are read, too.
    #[arg(long, value_name = "FILE", env = "ETCDCTL_CACERT")]
    cacert: Option<PathBuf>,
    /// Trust exactly the server certificate with this SHA-256 (repeatable)
    ///
    /// As `openssl x509 -noout -fingerprint -sha256` prints it; for certificates that TLS refuses today.
    #[arg(long, value_name = "HEX", value_delimiter = ',', value_parser = fingerprint, env = "ETCD_ARK_PIN_SHA256")]
    pin_sha256: Vec<Digest>,
    /// Client certificate, PEM
    #[arg(long, value_name = "FILE", env = "ETCDCTL_CERT")]
    cert: Option<PathBuf>,
    /// Client key, PEM
    #[arg(long, value_name = "FILE", env = "ETCDCTL_KEY")]
    key: Option<PathBuf>,
}

impl Connection {
    pub(crate) fn is_given(&self) -> bool {
        !self.named().is_empty()
    }

    /// The same flags for a printed command; none of them contains a password.
    pub(crate) fn flags(&self) -> Vec<(&'static str, String)> {
        let mut flags = Vec::new();
        let endpoints = self.named();
        if !endpoints.is_empty() {
            flags.push(("--endpoints", endpoints.join(",")));
        }
        flags.extend(self.tls_flags());
        flags.extend(self.username.clone().map(|name| ("--username", name)));
        flags.extend(path_flag("--password-file", self.password_file.as_ref()));
        if self.timeout != DEFAULT_TIMEOUT {
            flags.push(("--timeout", self.timeout.as_secs_f64().to_string()));
        }
        flags
    }

    /// The same for the certificates only.
    pub(crate) fn tls_flags(&self) -> Vec<(&'static str, String)> {
        let names = ["--cacert", "--cert", "--key"].into_iter();
        let paths = names.zip(self.tls_paths());
        let given = paths.filter_map(|(flag, path)| path_flag(flag, path));
        let pins = self.tls.pin_sha256.iter();
        let pins = pins.map(|pin| ("--pin-sha256", pin.to_string()));
        given.chain(pins).collect()
    }

    /// The files of the CA, of the client's certificate and of its key.
    pub(crate) fn tls_paths(&self) -> [Option<&PathBuf>; 3] {
        let Tls {
            cacert, cert, key, ..
        } = &self.tls;
        [cacert, cert, key].map(Option::as_ref)
    }

    /// The access by the flags and the environment; prompts for a missing password.
    pub(crate) fn access(&self) -> Result<Access> {
        let mut access = self.tls.access()?;
        let has_tls =
            access.ca_cert.is_some() || access.client_cert.is_some() || !access.pins.is_empty();
        let scheme = if has_tls { "https" } else { "http" };
        // etcdctl 2.x accepts HOST:PORT as a URL.
        let whole = |endpoint: String| {
            if endpoint.contains("://") {
                endpoint
            } else {
                format!("{scheme}://{endpoint}")
            }
        };
        access.endpoints = self.named().into_iter().map(whole).collect();
        access.user = self
            .username
            .as_deref()
            .map(|name| self.user(name))
            .transpose()?;
        access.timeout = self.timeout;
        Ok(access)
    }

    /// The endpoints as given.
    fn named(&self) -> Vec<String> {
        let split = |text: &str| {
            let parts = text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty());
            parts.map(str::to_owned).collect::<Vec<_>>()
        };
        let given: Vec<_> = self.endpoints.iter().flat_map(|text| split(text)).collect();
        let older = OLDER_ENDPOINTS.iter().map(|name| split(&variable(name)));
        let mut all = std::iter::once(given).chain(older);
        all.find(|named| !named.is_empty()).unwrap_or_default()
    }

    fn user(&self, name: &str) -> Result<User> {
        if name.contains(':') {
            return Err(CliError::usage("`--username` takes a name and no password: others on this machine can read a command line").hint("pass the password with `--password-file`, in ETCD_ARK_PASSWORD, or when asked for it"));
        }
        let from_environment = variable("ETCD_ARK_PASSWORD");
        let password = match &self.password_file {
            Some(path) => {
                let text = first_line(&read_small(path, MOST)?);
                text.map_err(|error| {
                    error.context(&format!("cannot read a password from `{}`", path.display()))
                })?
            }
            None if !from_environment.is_empty() => from_environment,
            None => asked_for(name)?,
        };
        Ok(User {
            name: name.to_owned(),
            password,
        })
    }
}

impl Tls {
    /// An access without endpoints, with these certificates.
    pub(crate) fn access(&self) -> Result<Access> {
        // Under the names of etcdctl 2.x.
        let or_older = |given: &Option<PathBuf>, name: &str| {
            let older = Some(variable(name)).filter(|value| !value.is_empty());
            given.clone().or(older.map(PathBuf::from))
        };
        let cert = or_older(&self.cert, "ETCDCTL_CERT_FILE");
        let key = or_older(&self.key, "ETCDCTL_KEY_FILE");
        if cert.is_some() != key.is_some() {
            return Err(
                CliError::usage("a client's certificate and its key go together")
                    .hint("pass both `--cert` and `--key`, or neither"),
            );
        }
        Ok(Access {
            ca_cert: or_older(&self.cacert, "ETCDCTL_CA_FILE"),
            pins: self.pin_sha256.clone(),
            client_cert: cert.zip(key),
            ..Access::default()
        })
    }
}

fn path_flag(flag: &'static str, path: Option<&PathBuf>) -> Option<(&'static str, String)> {
    Some((flag, path?.to_string_lossy().into_owned()))
}

/// The variables for `flag` besides its own.
pub(crate) fn also_read(flag: &str) -> &'static [&'static str] {
    let found = ALSO_READ.iter().find(|(name, _)| *name == flag);
    found.map_or(&[], |(_, variables)| variables)
}

/// A variable; empty if it is not set.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// A SHA-256 in hexadecimal, with or without colons.
fn fingerprint(text: &str) -> Result<Digest, String> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let parsed = digits.to_ascii_lowercase().parse();
    parsed.map_err(|_| "not the 64 hexadecimal digits of a SHA-256".to_owned())
}

/// A duration, or a number of seconds, as in older releases.
fn timeout(text: &str) -> std::result::Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number).ok());
    let given = match seconds {
        Some(given) => given,
        None => duration(text)?.unsigned_abs(),
    };
    if given.is_zero() || given > LONGEST {
        return Err(format!(
            "not above 0 and at most {} seconds",
            LONGEST.as_secs()
        ));
    }
    Ok(given)
}

fn first_line(bytes: &[u8]) -> Result<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().next().filter(|line| !line.is_empty());
    let empty = || Kind::Failed.error("its first line is empty");
    Ok(line.ok_or_else(empty)?.to_owned())
}

/// Reads the password from the terminal without showing it.
fn asked_for(name: &str) -> Result<String> {
    let no_terminal = || {
        CliError::usage(format!(
            "no password for `{name}`, and no terminal to ask for it"
        ))
        .hint("pass the password with `--password-file`, or in ETCD_ARK_PASSWORD")
    };
    let terminal = File::options().read(true).write(true).open("/dev/tty");
    let terminal = terminal.map_err(|_| no_terminal())?;
    let usual = tcgetattr(&terminal).map_err(|_| no_terminal())?;
    let hidden = Hidden::new(&terminal, usual);
    let hidden = hidden
        .map_err(|error| CliError::from(error).context("the terminal would show the password"))?;
    let mut shown = &terminal;
    write!(shown, "password of {name}: ")?;
    let typed = typed_line(&terminal);
    drop(hidden);
    writeln!(shown)?;
    typed
}

/// Reads a line key by key.
fn typed_line(mut terminal: &File) -> Result<String> {
    let mut line = Vec::new();
    let mut key = [0];
    while terminal.read(&mut key)? > 0 {
        match key[0] {
            b'\n' | b'\r' => {
                let not_utf8 = |_| CliError::usage("the password is not UTF-8");
                return String::from_utf8(line).map_err(not_utf8);
            }
            // Ctrl-C and Ctrl-D, which send no signals in this mode.
            0x03 | 0x04 => return Err(std::io::Error::other(Interrupted).into()),
            // Ctrl-U deletes the line.
            0x15 => line.clear(),
            // Backspace deletes all bytes of a character.
            0x08 | 0x7f => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            byte => line.push(byte),
        }
    }
    Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())
}

/// A terminal that shows nothing of what is typed and sends no signals, until this is dropped: a
/// signal would end the program without restoring the terminal.
struct Hidden<'t> {
    terminal: &'t File,
    usual: Termios,
}

impl<'t> Hidden<'t> {
    fn new(terminal: &'t File, usual: Termios) -> std::io::Result<Self> {
        let mut hidden = usual.clone();
        hidden.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Flush, &hidden)?;
        Ok(Self { terminal, usual })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to restore.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.usual);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        connection: Connection,
    }

    fn access(args: &[&str]) -> Result<Access> {
        let args = std::iter::once(&"etcd-ark").chain(args);
        let line = Line::try_parse_from(args);
        let line = line.map_err(|error| CliError::usage(error.to_string()))?;
        line.connection.access()
    }

    #[test]
    fn an_endpoint_without_a_scheme_is_what_the_certificates_make_of_it() {
        let bare = ["--endpoints", "a:2379, http://b:2379,,c"];
        let plain = access(&bare).unwrap();
        assert_eq!(
            plain.endpoints,
            ["http://a:2379", "http://b:2379", "http://c"]
        );
        let with_tls = access(&[&bare[..], &["--cacert", "ca.pem"]].concat()).unwrap();
        assert_eq!(
            with_tls.endpoints,
            ["https://a:2379", "http://b:2379", "https://c"]
        );
        assert_eq!(plain.timeout, Duration::from_secs(5));
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        for wrong in ["0", "-1", "nan", "inf", "1e300", "4000", "2h", ""] {
            assert!(access(&["--timeout", wrong]).is_err(), "{wrong}");
        }
        for quarter in ["0.25", "250ms"] {
            let short = access(&["--timeout", quarter]).unwrap();
            assert_eq!(short.timeout, Duration::from_millis(250));
        }
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file_and_never_an_argument() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "right: and long \r\nsecond line\n").unwrap();
        let file = file.to_str().unwrap();
        let user = access(&["--username", "root", "--password-file", file]).unwrap();
        let user = user.user.unwrap();
        assert_eq!(
            (user.name.as_str(), user.password.as_str()),
            ("root", "right: and long ")
        );
        let refused = access(&["--username", "root:secret", "--password-file", file]).unwrap_err();
        assert!(!refused.message.contains("secret"), "{refused:?}");
        assert_eq!(refused.kind, Kind::Usage);
        for (name, text) in [("empty", ""), ("no first line", "\nsecret")] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let path = path.to_str().unwrap();
            access(&["--username", "root", "--password-file", path]).unwrap_err();
        }
    }
}
