//! Certificates of the time of etcd 2.x, which its servers and `etcdctl` accepted and TLS libraries refuse today.
//!
//! In: certificates made by `openssl`, and its own server with them. Out: the name of each fault, and the one way to
//! trust it.

use std::net::{TcpListener, TcpStream};

use etcd_ark::cluster::{Access, AccessError, Cluster, ProbeError};
use etcd_ark::etcd::digest::Digest;

use crate::support::prelude::*;

/// A server that agrees on TLS and knows nothing of etcd.
struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Server {
    fn start(dir: &Path, name: &str, more: &[&str]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut command = server("openssl");
        command
            .args(words(
                "s_server -quiet -www -cipher ALL:@SECLEVEL=0 -accept",
                &[],
            ))
            .arg(port.to_string())
            .arg("-cert")
            .arg(dir.join(format!("{name}.pem")))
            .arg("-key")
            .arg(dir.join(format!("{name}.key")))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = start_server(command);
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(since.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(50));
        }
        let url = format!("https://127.0.0.1:{port}");
        Self { child, url }
    }

    /// What it is called that this server does not answer as etcd does.
    fn silence(&self, access: Access) -> ProbeError {
        let access = Access {
            endpoints: vec![self.url.clone()],
            timeout: Duration::from_secs(10),
            ..access
        };
        let mut found = Cluster::new(&access).unwrap().look(&[], None);
        found.unknown_endpoints.remove(0).silence
    }
}

/// Runs a line as it is typed, and further arguments; `DIR` in them is `dir`.
fn openssl(dir: &Path, line: &str, more: &[&str]) {
    let dir = dir.to_str().unwrap();
    let args = line.split(' ').chain(more.iter().copied());
    let args: Vec<_> = args.map(|arg| arg.replace("DIR", dir)).collect();
    program("openssl", args).exits(0);
}

/// A key and a certificate of it by an authority that is also made.
fn issued(dir: &Path, name: &str, bits: &str, more: &[&str]) {
    if !dir.join("ca.pem").exists() {
        let ca =
            "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout DIR/ca.key -out DIR/ca.pem -subj";
        openssl(dir, ca, &["/CN=old ca"]);
    }
    let [key, csr, pem] = ["key", "csr", "pem"].map(|end| format!("DIR/{name}.{end}"));
    let new = format!("req -newkey rsa:{bits} -nodes -subj /CN=127.0.0.1 -keyout {key} -out {csr}");
    openssl(dir, &new, &[]);
    let sign = "x509 -req -sha256 -days 2 -CA DIR/ca.pem -CAkey DIR/ca.key -CAcreateserial";
    openssl(dir, &format!("{sign} -in {csr} -out {pem}"), more);
}

/// The digest of a certificate, as `openssl` has it.
fn pin(cert: &Path) -> String {
    let cert = cert.to_str().unwrap();
    let shown = program(
        "openssl",
        ["x509", "-noout", "-fingerprint", "-sha256", "-in", cert],
    )
    .exits(0);
    shown.stdout.trim().rsplit('=').next().unwrap().to_owned()
}

fn digest(pin: &str) -> Digest {
    pin.replace(':', "").to_lowercase().parse().unwrap()
}

fn with_ca(dir: &Path) -> Access {
    Access {
        ca_cert: Some(dir.join("ca.pem")),
        ..Access::default()
    }
}

fn names(dir: &Path) -> (PathBuf, String) {
    let extensions = dir.join("san.cnf");
    fs::write(&extensions, "subjectAltName=IP:127.0.0.1\n").unwrap();
    (dir.to_path_buf(), extensions.to_str().unwrap().to_owned())
}

#[test]
fn an_old_server_certificate_is_called_what_it_is_and_can_be_pinned() {
    // Guards against "invalid peer certificate: Other(…)" where an operator needs to know what to do before an upgrade.
    only_with!(need("openssl"));
    let scratch = TempDir::new().unwrap();
    let (dir, san) = names(scratch.path());
    issued(&dir, "version-1", "2048", &[]);
    issued(&dir, "short", "1024", &["-extfile", &san]);
    // An authority that serves with its own certificate.
    let own = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1";
    let files = " -keyout DIR/own.key -out DIR/own.pem";
    openssl(&dir, &format!("{own}{files}"), &[]);
    for (name, ca, called) in [
        ("version-1", "ca", "X.509 version 1"),
        ("short", "ca", "its RSA key has 1024 bits"),
        ("own", "own", "the certificate of an authority"),
    ] {
        let server = Server::start(&dir, name, &["-tls1_2"]);
        let cert = dir.join(format!("{name}.pem"));
        let (pin, other) = (pin(&cert), pin(&dir.join("ca.pem")));
        let vouched = Access {
            ca_cert: Some(dir.join(format!("{ca}.pem"))),
            ..Access::default()
        };
        let told = server.silence(vouched).to_string();
        let printed = format!("--pin-sha256 {}", digest(&pin));
        assert!(
            told.contains(called) && told.contains(&printed),
            "{name}: {told}"
        );
        // With the pin they agree on TLS: what answers is not etcd, and is called so.
        let pinned = |pin: &str| Access {
            pins: vec![digest(pin)],
            ..Access::default()
        };
        let silence = server.silence(pinned(&pin));
        assert!(
            !matches!(silence, ProbeError::Tls { .. }),
            "{name}: {silence}"
        );
        let silence = server.silence(pinned(&other));
        assert_has(&silence.to_string(), "not pinned");
        // As it is printed, on the command line.
        let line = "downgrade check --endpoints {} --pin-sha256 {}";
        let ran = typed(line, &[&server.url, &pin]).exits(3);
        assert!(
            !ran.stderr.contains("TLS") && !ran.stdout.contains("TLS"),
            "{ran:#?}"
        );
    }
}

#[test]
fn an_old_client_certificate_is_sent_and_never_called_a_strangers() {
    // Guards against "the key does not belong to the certificate" of a pair that belongs together.
    only_with!(need("openssl"));
    let scratch = TempDir::new().unwrap();
    let (dir, san) = names(scratch.path());
    issued(&dir, "server", "2048", &["-extfile", &san]);
    issued(&dir, "version-1", "2048", &[]);
    issued(&dir, "short", "1024", &[]);
    let ca = dir.join("ca.pem");
    let asks = [
        "-tls1_2",
        "-Verify",
        "1",
        "-verify_return_error",
        "-CAfile",
        ca.to_str().unwrap(),
    ];
    let server = Server::start(&dir, "server", &asks);
    let client = |cert: &str, key: &str| Access {
        client_cert: Some((
            dir.join(format!("{cert}.pem")),
            dir.join(format!("{key}.key")),
        )),
        ..with_ca(&dir)
    };
    let silence = server.silence(with_ca(&dir));
    assert!(
        matches!(silence, ProbeError::Tls { .. }),
        "without one: {silence}"
    );
    let silence = server.silence(client("version-1", "version-1"));
    assert!(!matches!(silence, ProbeError::Tls { .. }), "{silence}");
    let why = |cert, key| Cluster::new(&client(cert, key)).unwrap_err();
    let short = why("short", "short").to_string();
    assert!(short.contains("an RSA key of 1024 bits"), "{short}");
    let pair = [dir.join("short.pem"), dir.join("short.key")];
    let line = "downgrade check --endpoints {} --cacert {} --cert {} --key {}";
    let ran = typed(line, &[&server.url, &ca, &pair[0], &pair[1]]);
    let hint = "pass a client certificate with an RSA key of 2048 bits or more";
    ran.exits(2).says("an RSA key of 1024 bits").says(hint);
    for (cert, key) in [("version-1", "server"), ("server", "version-1")] {
        let error = why(cert, key);
        assert!(matches!(error, AccessError::KeyMismatch { .. }), "{error}");
    }
}

#[test]
fn preflight_tells_refused_unresolved_expired_and_unwanted_apart_with_a_data_dir_and_without() {
    // Guards against one "cannot be reached" for a member that is down, a mistyped name and a certificate that ran out.
    only_with!(need("openssl"));
    let scratch = TempDir::new().unwrap();
    let (dir, san) = names(scratch.path());
    issued(&dir, "server", "2048", &["-extfile", &san]);
    issued(&dir, "expired", "2048", &["-extfile", &san, "-days", "-1"]);
    let ca = dir.join("ca.pem");
    let ca = ca.to_str().unwrap();
    let asks = ["-Verify", "1", "-verify_return_error", "-CAfile", ca];
    let old = Server::start(&dir, "server", &[&asks[..], &["-tls1_2"]].concat());
    let new = Server::start(&dir, "server", &[&asks[..], &["-tls1_3"]].concat());
    let expired = Server::start(&dir, "expired", &[]);
    let data_dir = dir.join("data");
    small_member(&data_dir);
    let data_dir = ["--data-dir", data_dir.to_str().unwrap()];
    let wants = "it may want a client certificate (--cert, --key)";
    for (url, flags, told) in [
        (
            "http://127.0.0.1:1",
            &[][..],
            "cannot be reached: Connection refused",
        ),
        (
            "http://no-such-host.invalid:2379",
            &[],
            "cannot be reached: failed to lookup",
        ),
        (
            &expired.url,
            &["--cacert", ca],
            "its certificate has expired",
        ),
        (&old.url, &["--cacert", ca], wants),
        (&new.url, &["--cacert", ca], wants),
        (
            &old.url,
            &[],
            "of an authority that is not known here (--cacert)",
        ),
        (
            &old.url.replace("https", "http"),
            &[],
            "does its URL begin with https?",
        ),
    ] {
        for more in [&[][..], &data_dir] {
            let args = ["preflight", "--timeout", "5", "--endpoints", url];
            let ran = ark([&args[..], flags, more].concat()).exits(3);
            let words: Vec<_> = ran.stdout.split_whitespace().collect();
            assert!(words.join(" ").contains(told), "no {told:?} in {ran:#?}");
            let pass = words.join(" ").contains("pass --cert and --key");
            assert_eq!(pass, told == wants, "{ran:#?}");
        }
    }
    let line = "downgrade check --data-dir {} --endpoints {} --cacert {}";
    for url in [&old.url, &new.url] {
        typed(line, &[&data_dir[1], url, &ca])
            .exits(3)
            .says("pass --cert and --key");
    }
    let url = "http://root:hunter2@127.0.0.1:1";
    for command in [&["preflight"][..], &["downgrade", "check"]] {
        let ran = ark([command, &["--endpoints", url]].concat()).exits(2);
        assert!(!ran.stderr.contains("hunter2"), "{ran:#?}");
    }
}
