//! TLS with the members of a cluster, also with certificates of the time of etcd 2.x.
//!
//! In: CA certificates or pinned ones, and the client's own. Out: a [`Tls`] that connects. The etcd and
//! etcdctl of the time accepted certificates that today's libraries refuse: of X.509 version 1, with an
//! RSA key of 1024 bits, an authority's own as a server's. The error says which of these it is, and
//! such a certificate is accepted only if its SHA-256 is pinned.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use ring::signature as ring_signature;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS12;
use rustls::{
    ALL_VERSIONS, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme, StreamOwned,
};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::cluster::certificate::Facts;
use crate::etcd::digest::Digest;

/// The stage that failed and why.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("{0}")]
    Reaching(String),
    #[error("{}", .0.text)]
    Tls(Why),
}

/// Why there is no TLS connection.
#[derive(Debug)]
pub(super) struct Why {
    pub(super) text: String,
    /// Whether a client certificate, or another one, may be what is missing.
    pub(super) wants_certificate: bool,
}

impl From<String> for Why {
    fn from(text: String) -> Self {
        Self {
            text,
            wants_certificate: false,
        }
    }
}

impl Why {
    pub(super) fn certificate(what: &str) -> Self {
        Self {
            text: format!("{what}; it may want a client certificate (--cert, --key)"),
            wants_certificate: true,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts a server by its certificate's digest if `pins` has any, else by `roots`.
    pub(super) fn new(
        roots: RootCertStore,
        pins: Vec<Digest>,
        own: Option<CertifiedKey>,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(default_provider());
        let is_pinned = !pins.is_empty();
        let trust = Trust {
            roots: (!is_pinned && !roots.is_empty())
                .then(|| {
                    let roots = Arc::new(roots);
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                        .build()
                })
                .transpose()
                .map_err(|error| rustls::Error::General(error.to_string()))?,
            pins,
            provider: Arc::clone(&provider),
        };
        // TLS 1.3 has no signature scheme that an RSA key of 1024 bits can use with its hashes.
        let versions = if is_pinned {
            &[&TLS12][..]
        } else {
            ALL_VERSIONS
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust));
        Ok(Self(Arc::new(match own {
            // The server decides whether it accepts it.
            Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
            None => builder.with_no_client_auth(),
        })))
    }

    /// Performs the TLS handshake over `inner`.
    pub(super) fn agree<T: Transport>(
        &self,
        details: &ConnectionDetails<'_>,
        inner: T,
    ) -> Result<TlsTransport, Error> {
        let host = details.uri.host().unwrap_or_default();
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let name = ServerName::try_from(bare.unwrap_or(host))
            .map_err(|error| Error::Other(Box::new(Failed::Tls(error.to_string().into()))))?;
        let mut conn = ClientConnection::new(Arc::clone(&self.0), name.to_owned())?;
        let mut sock = TransportAdapter::new(inner.boxed(), details.current_time.clone());
        sock.set_timeout(details.timeout);
        conn.complete_io(&mut sock)?;
        let config = details.config;
        Ok(TlsTransport {
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
            stream: StreamOwned { conn, sock },
        })
    }
}

pub(super) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl std::fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsTransport").finish_non_exhaustive()
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let input = self.buffers.input_append_buf();
        let amount = self.stream.read(input)?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Trust {
    /// `None` if certificates are pinned, or no authority is known.
    roots: Option<Arc<WebPkiServerVerifier>>,
    pins: Vec<Digest>,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    fn is_pinned(&self) -> bool {
        !self.pins.is_empty()
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.is_pinned() {
            if self.pins.contains(&Digest::of(end_entity)) {
                return Ok(ServerCertVerified::assertion());
            }
            return Err(rustls::Error::General(format!(
                "its certificate has the SHA-256 {}, which is not pinned",
                Digest::of(end_entity)
            )));
        }
        let Some(roots) = &self.roots else {
            return Err(rustls::CertificateError::UnknownIssuer.into());
        };
        roots
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| explained(error, end_entity))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        if self.is_pinned()
            && let Some((_, key)) = Facts::read(cert).and_then(|facts| facts.rsa)
        {
            return verify_with_rsa(message, key, dss);
        }
        verify_tls12_signature(message, cert, dss, algorithms)
            .map_err(|error| explained(error, cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
            .map_err(|error| explained(error, cert))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let schemes = algorithms.supported_schemes().into_iter();
        // Schemes for any RSA key come first, so that a server with a short key can use them.
        let (any, rest): (Vec<_>, Vec<_>) =
            schemes.partition(|scheme| self.is_pinned() && ring_algorithm(*scheme).is_some());
        any.into_iter().chain(rest).collect()
    }
}

/// Replaces a library's error by the reason why the certificate is refused in any case.
fn explained(error: rustls::Error, cert: &CertificateDer<'_>) -> rustls::Error {
    let objections = Facts::read(cert).map(|facts| facts.objections());
    match objections {
        Some(objections) if !objections.is_empty() => rustls::Error::General(format!(
            "TLS does not take its certificate today: {}; `--pin-sha256 {}` trusts it as it is",
            objections.join(", "),
            Digest::of(cert)
        )),
        _ => error,
    }
}

/// Why a handshake failed, and what to do if that is known.
pub(super) fn why(error: &rustls::Error) -> Why {
    use rustls::{AlertDescription as Alert, CertificateError as Fault, Error};
    match error {
        // Our own text, without rustls's prefix.
        Error::General(text) => text.clone().into(),
        Error::InvalidCertificate(Fault::Expired | Fault::ExpiredContext { .. }) => {
            "its certificate has expired".to_owned().into()
        }
        Error::InvalidCertificate(Fault::UnknownIssuer) => {
            let text = "its certificate is of an authority that is not known here (--cacert)";
            text.to_owned().into()
        }
        Error::AlertReceived(
            Alert::CertificateRequired | Alert::BadCertificate | Alert::HandshakeFailure,
        ) => Why::certificate(&error.to_string()),
        _ => error.to_string().into(),
    }
}

/// The algorithm to verify a scheme that RSA keys of 1024 bits can use.
fn ring_algorithm(scheme: SignatureScheme) -> Option<&'static ring_signature::RsaParameters> {
    match scheme {
        SignatureScheme::RSA_PKCS1_SHA256 => {
            Some(&ring_signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY)
        }
        SignatureScheme::RSA_PKCS1_SHA512 => {
            Some(&ring_signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY)
        }
        _ => None,
    }
}

/// Verifies a signature by an RSA key of 1024 bits or more.
fn verify_with_rsa(
    message: &[u8],
    key: &[u8],
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let algorithm: &dyn ring_signature::VerificationAlgorithm = match dss.scheme {
        SignatureScheme::RSA_PSS_SHA256 => &ring_signature::RSA_PSS_2048_8192_SHA256,
        SignatureScheme::RSA_PSS_SHA384 => &ring_signature::RSA_PSS_2048_8192_SHA384,
        SignatureScheme::RSA_PSS_SHA512 => &ring_signature::RSA_PSS_2048_8192_SHA512,
        SignatureScheme::RSA_PKCS1_SHA384 => &ring_signature::RSA_PKCS1_2048_8192_SHA384,
        scheme => match ring_algorithm(scheme) {
            Some(algorithm) => algorithm,
            None => {
                return Err(
                    rustls::PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into(),
                );
            }
        },
    };
    let key = ring_signature::UnparsedPublicKey::new(algorithm, key);
    match key.verify(message, dss.signature()) {
        Ok(()) => Ok(HandshakeSignatureValid::assertion()),
        Err(_) => Err(rustls::CertificateError::BadSignature.into()),
    }
}
