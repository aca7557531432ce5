//! Certificates for a server on the loopback and its clients, made again for each test.
//!
//! In: a directory. Out: PEM files in it: an authority's certificate, and pairs that it signed.

use std::path::{Path, PathBuf};

use fs_err as fs;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    pub cert: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// A new authority; its files in `dir` begin with its name.
    pub fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().unwrap();
        let cert = dir.join(format!("{name}.pem"));
        fs::write(&cert, params.self_signed(&key).unwrap().pem()).unwrap();
        Self {
            dir: dir.to_path_buf(),
            issuer: Issuer::new(params, key),
            cert,
        }
    }

    /// A pair for a server at 127.0.0.1, or for a client: etcd's own gateway is both.
    pub fn signs(&self, name: &str) -> Pair {
        self.signs_for(name, "127.0.0.1")
    }

    /// A pair for a server at `host`.
    pub fn signs_for(&self, name: &str, host: &str) -> Pair {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let pair = Pair {
            cert: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}.key")),
        };
        fs::write(&pair.cert, signed.pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }
}
