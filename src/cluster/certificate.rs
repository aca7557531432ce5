//! The contents of a certificate, even of one that today's TLS libraries refuse to read.
//!
//! ```text
//! Certificate = SEQUENCE { tbs, signature algorithm, signature }
//! tbs         = SEQUENCE { [0] version, serial, algorithm, issuer, validity, subject, key, … [3] extensions }
//! key         = SEQUENCE { SEQUENCE { algorithm, … }, BIT STRING }, of RSA the bits of SEQUENCE { modulus, exponent }
//! ```
//!
//! In: DER. Out: [`Facts`], or `None` if it is not a certificate. Source: RFC 5280, section 4.1.

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// The context-specific tags of a version and of the extensions.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// 1.2.840.113549.1.1.1.
const RSA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 2.5.29.19.
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 0x13];
/// The start of an authority's basic constraints: the BOOLEAN true.
const TRUE: [u8; 3] = [0x01, 0x01, 0xff];
/// The shortest RSA key that TLS libraries accept today, in bits.
pub(super) const LEAST_RSA_BITS: usize = 2048;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts<'a> {
    /// 1 to 3.
    pub(super) version: u8,
    /// The subject's public key, as its bytes in the certificate.
    pub(super) spki: &'a [u8],
    /// For an RSA key: its bits, and the DER of its modulus and exponent.
    pub(super) rsa: Option<(usize, &'a [u8])>,
    pub(super) is_authority: bool,
}

impl<'a> Facts<'a> {
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let mut certificate = Der(Der(der).next_of(SEQUENCE)?);
        let mut tbs = Der(certificate.next_of(SEQUENCE)?);
        let mut version = 1;
        if tbs.0.first() == Some(&VERSION) {
            let number = Der(tbs.next_of(VERSION)?).next_of(INTEGER)?;
            version = number.first()?.checked_add(1)?;
        }
        tbs.next_of(INTEGER)?;
        for _ in ["algorithm", "issuer", "validity", "subject"] {
            tbs.next_of(SEQUENCE)?;
        }
        let from = tbs.0;
        let mut key = Der(tbs.next_of(SEQUENCE)?);
        let spki = from.get(..from.len() - tbs.0.len())?;
        let algorithm = Der(key.next_of(SEQUENCE)?).next_of(OBJECT_ID)?;
        let bits = key.next_of(BIT_STRING)?;
        let rsa = if algorithm == RSA {
            // The first byte counts unused bits.
            let public = bits.get(1..)?;
            let modulus = Der(Der(public).next_of(SEQUENCE)?).next_of(INTEGER)?;
            Some((bit_length(modulus), public))
        } else {
            None
        };
        Some(Self {
            version,
            spki,
            rsa,
            is_authority: is_authority(tbs).unwrap_or(false),
        })
    }

    /// The reasons why TLS libraries refuse it in any case, as text.
    pub(super) fn objections(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.version < 3 {
            found.push(format!("it is of X.509 version {}, not 3", self.version));
        }
        if let Some((bits, _)) = self.rsa
            && bits < LEAST_RSA_BITS
        {
            found.push(format!(
                "its RSA key has {bits} bits, under {LEAST_RSA_BITS}"
            ));
        }
        if self.is_authority {
            found.push("it is the certificate of an authority, not of a server".to_owned());
        }
        found
    }
}

/// Whether the extensions after the key say that it is an authority's.
fn is_authority(mut rest: Der<'_>) -> Option<bool> {
    loop {
        let (tag, inside) = rest.next()?;
        if tag != EXTENSIONS {
            continue;
        }
        let mut extensions = Der(Der(inside).next_of(SEQUENCE)?);
        while let Some((_, extension)) = extensions.next() {
            let mut extension = Der(extension);
            if extension.next_of(OBJECT_ID)? != BASIC_CONSTRAINTS {
                continue;
            }
            // The optional "critical" comes first; the value is last.
            let mut value = None;
            while let Some((_, found)) = extension.next() {
                value = Some(found);
            }
            let constraints = Der(value?).next_of(SEQUENCE)?;
            return Some(constraints.starts_with(&TRUE));
        }
        return Some(false);
    }
}

fn bit_length(number: &[u8]) -> usize {
    let mut significant = number.iter().skip_while(|byte| **byte == 0);
    let first = significant
        .next()
        .map_or(0, |byte| 8 - byte.leading_zeros() as usize);
    first + 8 * significant.count()
}

#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element's tag and content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let length = if first < 0x80 {
            usize::from(first)
        } else {
            let bytes = rest.get(..usize::from(first & 0x7f))?;
            rest = rest.get(bytes.len()..)?;
            if bytes.len() > 4 {
                return None;
            }
            bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte))
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, which must have this tag.
    fn next_of(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.next()?;
        (found == tag).then_some(content)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_no_certificate_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Facts::read(&bytes);
        }
    }
}
