//! One request to one server, and the ways in which it can fail.
//!
//! In: an [`Access`], the URL of a server, a path. Out: an [`Answer`], or a [`ProbeError`] that tells
//! these ways apart. Whatever a server does, a request ends at its time limit, and no more
//! is read than the size limit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use ureq::http::{HeaderMap, Response};
use ureq::tls::{Certificate, PemItem, parse_pem};
#[cfg(feature = "object-store")]
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Error, RequestBuilder};

use crate::cluster::certificate::{Facts, LEAST_RSA_BITS};
use crate::cluster::connector::{ByStage, Names};
use crate::cluster::response::{base_of, message, shown, without_user};
use crate::cluster::tls::{self, Failed, Tls, Why};
use crate::cluster::{Access, AccessError, MEMBERS, ProbeError};
use crate::etcd::ids::{ClusterId, MemberId};
use crate::fs::auxiliary::{MOST, MOST_BUNDLE, read_small};

/// Bytes of the longest answer that is read, other than of a list of members.
pub(super) const SHORT: u64 = 64 << 10;
/// Bytes of the longest list of members that is read.
pub(super) const LONG: u64 = 1 << 20;
/// Bytes of the longest head of an answer.
const HEAD: usize = 16 << 10;
/// Where distributions keep the trusted CA certificates.
const SYSTEM_CERTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

#[derive(Clone)]
pub struct Cluster {
    pub(super) agent: Agent,
    /// The endpoints' URLs, without a path.
    pub(super) endpoints: Vec<String>,
    pub(super) timeout: Duration,
    /// The `Authorization` header, and whether it may be sent over plain HTTP.
    user: Option<(Arc<str>, bool)>,
}

/// A server's answer of any status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum Method<'r> {
    Get,
    /// A PUT with this form as its body.
    Put(&'r [u8]),
    Delete,
}

/// Requests to one server within one time limit.
#[derive(Debug)]
pub(super) struct Talk<'c> {
    cluster: &'c Cluster,
    pub(super) url: &'c str,
    allowed: Duration,
    until: Instant,
    pub(super) expected: Option<ClusterId>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("endpoints", &self.endpoints)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Reads the files in `access`; asks no member yet.
    pub fn new(access: &Access) -> Result<Self, AccessError> {
        let endpoint = |url: &String| {
            base_of(url).ok_or_else(|| AccessError::Endpoint(shown(&without_user(url))))
        };
        let endpoints: Vec<_> = access
            .endpoints
            .iter()
            .map(endpoint)
            .collect::<Result<_, _>>()?;
        let roots = root_certs(access.ca_cert.as_deref())?;
        let tls = Tls::new(roots, access.pins.clone(), client_cert(access)?)
            .map_err(|error| AccessError::Tls(error.to_string()))?;
        let config = Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("etcd-ark/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(HEAD)
            .input_buffer_size(2 * HEAD)
            .output_buffer_size(HEAD)
            .build();
        let plain = endpoints.iter().any(|url| url.starts_with("http:"));
        let user = access.user.as_ref().map(|user| {
            let secret = STANDARD.encode(format!("{}:{}", user.name, user.password));
            (Arc::from(format!("Basic {secret}")), plain)
        });
        Ok(Self {
            agent: Agent::with_parts(config, ByStage::new(tls), Names::default()),
            endpoints,
            timeout: access.timeout,
            user,
        })
    }

    /// Prepares requests to the server at `url`, which [`base_of`] gave.
    pub(super) fn talk<'c>(&'c self, url: &'c str, expected: Option<ClusterId>) -> Talk<'c> {
        Talk {
            cluster: self,
            url,
            allowed: self.timeout,
            until: Instant::now() + self.timeout,
            expected,
        }
    }

    /// The user's header for a server at `url`. A member may name any URL as its own:
    /// the password is not sent over plain HTTP unless the user gave an endpoint with it.
    fn user_for(&self, url: &str) -> Option<&str> {
        let (header, may_be_plain) = self.user.as_ref()?;
        (*may_be_plain || url.starts_with("https:")).then_some(header)
    }
}

impl Talk<'_> {
    /// Requests `path`; accepts any status.
    pub(super) fn fetch(&self, path: &str, limit: u64) -> Result<Answer, ProbeError> {
        self.exchange(&Method::Get, path, None, |response| {
            response.body_mut().with_config().limit(limit).read_to_vec()
        })
    }

    /// Sends a request as the user; accepts any status.
    pub(super) fn exchange_as_user(
        &self,
        method: &Method<'_>,
        path: &str,
        limit: u64,
    ) -> Result<Answer, ProbeError> {
        let user = self.cluster.user_for(self.url);
        self.exchange(method, path, user, |response| {
            response.body_mut().with_config().limit(limit).read_to_vec()
        })
    }

    /// Requests `path`, which must exist.
    pub(super) fn get(&self, path: &str, limit: u64) -> Result<Answer, ProbeError> {
        let answer = self.fetch(path, limit)?;
        self.accept(path, answer)
    }

    /// The server's cluster, which is the expected one.
    pub(super) fn cluster_id(&self) -> Result<ClusterId, ProbeError> {
        let answer = self.fetch(MEMBERS, SHORT)?;
        let named = answer.cluster_id();
        named.ok_or_else(|| self.not_etcd(MEMBERS, answer))
    }

    /// Requests the headers of `path`, as the user.
    pub(super) fn head_as_user(&self, path: &str) -> Result<Answer, ProbeError> {
        let user = self.cluster.user_for(self.url);
        let answer = self.exchange(&Method::Get, path, user, |response| {
            if response.status().is_success() {
                return Ok(Vec::new());
            }
            let body = response.body_mut().with_config().limit(SHORT);
            body.read_to_vec()
        })?;
        self.accept(path, answer)
    }

    fn exchange(
        &self,
        method: &Method<'_>,
        path: &str,
        user: Option<&str>,
        read: impl FnOnce(&mut Response<Body>) -> Result<Vec<u8>, Error>,
    ) -> Result<Answer, ProbeError> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.too_slow());
        }
        let url = format!("{}{path}", self.url);
        let agent = &self.cluster.agent;
        let attempt = || {
            let mut response = match method {
                Method::Get => prepared(agent.get(&url), left, user).call()?,
                Method::Put(form) => prepared(agent.put(&url), left, user)
                    .content_type("application/x-www-form-urlencoded")
                    .send(*form)?,
                Method::Delete => prepared(agent.delete(&url), left, user).call()?,
            };
            let body = read(&mut response)?;
            let (head, _) = response.into_parts();
            Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body,
            })
        };
        // No answer of a server may panic this program.
        let answer = catch_unwind(AssertUnwindSafe(attempt))
            .map_err(|_| self.rubbish("what it sent made the HTTP library fail"))?
            .map_err(|error| self.silence(error))?;
        match (self.expected, answer.cluster_id()) {
            (Some(expected), Some(found)) if expected != found => Err(self.other_cluster(found)),
            _ => Ok(answer),
        }
    }

    fn accept(&self, path: &str, answer: Answer) -> Result<Answer, ProbeError> {
        let url = self.url.to_owned();
        match answer.status {
            200 => Ok(answer),
            401 | 403 => Err(ProbeError::NotAllowed { url }),
            300..=399 => Err(self.rubbish("it redirects to another server")),
            // The text of servers written in Go.
            400 if message(&answer.body).contains("HTTP request to an HTTPS server") => {
                Err(self.no_tls(&"it uses TLS: its URL begins with https".to_owned().into()))
            }
            status => Err(ProbeError::Refused {
                url: url + path,
                status,
                message: message(&answer.body),
            }),
        }
    }

    /// Why an answer without a cluster id is not from an etcd member.
    pub(super) fn not_etcd(&self, path: &str, answer: Answer) -> ProbeError {
        let begins = shown(&String::from_utf8_lossy(&answer.body));
        let why = format!("it names no cluster: {begins}");
        self.accept(path, answer)
            .err()
            .unwrap_or_else(|| self.rubbish(why))
    }

    pub(super) fn other_cluster(&self, found: ClusterId) -> ProbeError {
        let url = self.url.to_owned();
        ProbeError::OtherCluster { url, found }
    }

    pub(super) fn other_member(&self, found: MemberId) -> ProbeError {
        let url = self.url.to_owned();
        ProbeError::OtherMember { url, found }
    }

    /// The answer is not valid.
    pub(super) fn rubbish(&self, why: impl Into<String>) -> ProbeError {
        ProbeError::Rubbish {
            url: self.url.to_owned(),
            why: why.into(),
        }
    }

    fn too_slow(&self) -> ProbeError {
        ProbeError::TooSlow {
            url: self.url.to_owned(),
            after: self.allowed,
        }
    }

    fn no_tls(&self, why: &Why) -> ProbeError {
        ProbeError::Tls {
            url: self.url.to_owned(),
            why: shown(&why.text),
            wants_certificate: why.wants_certificate,
        }
    }

    fn silence(&self, error: Error) -> ProbeError {
        let url = self.url.to_owned();
        let why = shown(&error.to_string());
        match error {
            Error::Timeout(_) => self.too_slow(),
            Error::Other(error) => match error.downcast_ref() {
                Some(Failed::Reaching(why)) => ProbeError::Unreachable {
                    url,
                    why: shown(why),
                },
                Some(Failed::Tls(why)) => self.no_tls(why),
                None => self.rubbish(why),
            },
            Error::Rustls(error) => self.no_tls(&tls::why(&error)),
            Error::Tls(_) => self.no_tls(&why.into()),
            Error::Io(error) => self.broken_off(&error),
            Error::BodyExceedsLimit(limit) => {
                self.rubbish(format!("its answer has more than {limit} bytes"))
            }
            Error::LargeResponseHeader(..) => self.rubbish("the head of its answer has no end"),
            Error::Protocol(_) => self.rubbish(format!("this is not HTTP: {why}")),
            _ => self.rubbish(why),
        }
    }

    /// The meaning of an error on an established connection.
    fn broken_off(&self, error: &io::Error) -> ProbeError {
        let inner = error.get_ref();
        if let Some(alert) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return self.no_tls(&tls::why(alert));
        }
        // With TLS 1.3 a server may refuse a client's certificate, or a missing one, after the
        // handshake, and its alert may be lost with the connection.
        if self.url.starts_with("https:") {
            return self.no_tls(&Why::certificate("it hung up"));
        }
        self.rubbish("it hung up without an answer; does its URL begin with https?")
    }
}

/// A request with the time limit `left`, with the user's header.
fn prepared<B>(
    request: RequestBuilder<B>,
    left: Duration,
    user: Option<&str>,
) -> RequestBuilder<B> {
    let request = request.config().timeout_global(Some(left)).build();
    match user {
        Some(user) => request.header("Authorization", user),
        None => request,
    }
}

impl Answer {
    pub(super) fn cluster_id(&self) -> Option<ClusterId> {
        self.header("X-Etcd-Cluster-Id")
    }

    pub(super) fn header<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.headers.get(name)?.to_str().ok()?.trim().parse().ok()
    }
}

/// TLS with this machine's trusted certificates, and no client certificate.
#[cfg(feature = "object-store")]
pub(crate) fn system_tls() -> TlsConfig {
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&system_certs()))
        .unversioned_rustls_crypto_provider(Arc::new(default_provider()))
        .build()
}

fn root_certs(ca_cert: Option<&Path>) -> Result<RootCertStore, AccessError> {
    let certs = match ca_cert {
        Some(path) => certificates(path, certificates_in)?,
        None => system_certs(),
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(ders(&certs));
    Ok(roots)
}

fn ders(certs: &[Certificate<'static>]) -> Vec<CertificateDer<'static>> {
    let certs = certs.iter();
    certs
        .map(|cert| CertificateDer::from(cert.der()).into_owned())
        .collect()
}

/// The certificates in the file `SSL_CERT_FILE`, as OpenSSL's tools use it, or in the distribution's.
fn system_certs() -> Vec<Certificate<'static>> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let known = SYSTEM_CERTS.iter().map(PathBuf::from);
    let pem = named
        .into_iter()
        .chain(known)
        .find_map(|path| read_small(&path, MOST_BUNDLE).ok());
    pem.map_or_else(Vec::new, |pem| certificates_in(&pem))
}

/// The client's certificate and key, if they fit together. The server decides whether it accepts the
/// certificate: one of X.509 version 1 is sent unchanged.
fn client_cert(access: &Access) -> Result<Option<CertifiedKey>, AccessError> {
    let Some((cert, key)) = &access.client_cert else {
        return Ok(None);
    };
    let chain = ders(&certificates(cert, all_certificates_in)?);
    let pem = read_small(key, MOST)?;
    let der = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| AccessError::Pem {
        path: key.clone(),
        what: "private key without a passphrase",
    })?;
    let facts = chain.first().and_then(|cert| Facts::read(cert));
    let signing = default_provider().key_provider.load_private_key(der);
    let signing = signing.map_err(|why| {
        let bits = facts
            .as_ref()
            .and_then(|facts| facts.rsa)
            .map(|(bits, _)| bits);
        let why = match bits.filter(|bits| *bits < LEAST_RSA_BITS) {
            Some(bits) => format!(
                "it is an RSA key of {bits} bits, and TLS signs with {LEAST_RSA_BITS} or more today"
            ),
            None => why.to_string(),
        };
        let key = key.clone();
        AccessError::Key { key, why }
    })?;
    let public = signing.public_key();
    if let (Some(facts), Some(public)) = (&facts, public)
        && facts.spki != public.as_ref()
    {
        return Err(AccessError::KeyMismatch {
            cert: cert.clone(),
            key: key.clone(),
        });
    }
    Ok(Some(CertifiedKey::new(chain, signing)))
}

fn certificates(
    path: &Path,
    read: fn(&[u8]) -> Vec<Certificate<'static>>,
) -> Result<Vec<Certificate<'static>>, AccessError> {
    let found = read(&read_small(path, MOST_BUNDLE)?);
    if found.is_empty() {
        let path = path.to_path_buf();
        let what = "certificate";
        return Err(AccessError::Pem { path, what });
    }
    Ok(found)
}

/// The certificates in a PEM file that can be trust anchors.
fn certificates_in(pem: &[u8]) -> Vec<Certificate<'static>> {
    let is_valid = |certificate: &Certificate<'_>| {
        let der = CertificateDer::from(certificate.der());
        RootCertStore::empty().add(der.into_owned()).is_ok()
    };
    let all = all_certificates_in(pem).into_iter();
    all.filter(is_valid).collect()
}

/// The certificates in a PEM file that can be parsed.
fn all_certificates_in(pem: &[u8]) -> Vec<Certificate<'static>> {
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    let is_certificate = |certificate: &Certificate<'_>| Facts::read(certificate.der()).is_some();
    parse_pem(pem)
        .filter_map(certificate)
        .filter(is_certificate)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_endpoint_is_never_told() {
        for url in [
            "http://root:s3cret@10.0.0.1:2379",
            "https://root:s3cret@/@h:1",
            "root:s3cret@10.0.0.1:2379",
            "http://s3cret@",
        ] {
            let access = Access {
                endpoints: vec![url.to_owned()],
                ..Access::default()
            };
            let told = Cluster::new(&access).unwrap_err().to_string();
            assert!(!told.contains("s3cret") && told.contains('@'), "{told}");
        }
    }
}
