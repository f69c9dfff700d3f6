//! Certificates of authorities that lie in a Secret, as PEM, under one of the usual keys.
//!
//! Only the frame is read here: what a certificate says is judged where handshakes are made.

use std::sync::Arc;

use routing::model::tls::CaBundle;

use crate::diagnostic::Effect;
use crate::objects::{Name, Reader};

/// Keys under which authorities are kept, the best first.
const KEYS: [&str; 3] = ["ca.crt", "tls.crt", "cert"];
/// Certificates of one bundle.
const MOST: usize = 512;

/// Why there is no bundle: effect, reason and text.
pub(crate) type Unusable = (Effect, &'static str, String);

/// The certificates of authorities in this Secret.
pub(crate) fn bundle(reader: &Reader<'_>, name: &Name) -> Result<Arc<CaBundle>, Unusable> {
    let Some(data) = reader.secret(name) else {
        let text = format!("Secret {name} does not exist; create it with the key ca.crt");
        return Err((Effect::Waiting, "SecretMissing", text));
    };
    let found = KEYS.iter().find_map(|key| data.get(*key));
    let certificates = found.map(|pem| pem_certificates(pem)).unwrap_or_default();
    if certificates.is_empty() {
        let text = format!("Secret {name} has no certificate in PEM form under the key ca.crt");
        return Err((Effect::Refused, "SecretInvalid", text));
    }
    Ok(Arc::new(CaBundle {
        name: name.to_string().into(),
        certificates,
    }))
}

/// The certificates (DER) of a PEM text; others of its blocks are passed over.
fn pem_certificates(pem: &[u8]) -> Vec<Box<[u8]>> {
    let text = String::from_utf8_lossy(pem);
    let mut certificates = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines().map(str::trim) {
        match (line, &mut open) {
            ("-----BEGIN CERTIFICATE-----", _) => open = Some(String::new()),
            ("-----END CERTIFICATE-----", Some(body)) => {
                certificates.extend(base64(body).map(Vec::into_boxed_slice));
                open = None;
            }
            (line, Some(body)) => body.push_str(line),
            (_, None) => {}
        }
        if certificates.len() == MOST {
            break;
        }
    }
    certificates
}

/// Standard base64 with or without padding. `None` if it is something else.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut held, mut bits) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            // The bits above were taken before; truncation is meant.
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_and_without_padding() {
        assert_eq!(base64("aGVsbG8="), Some(b"hello".to_vec()));
        assert_eq!(base64("aGVsbG8"), Some(b"hello".to_vec()));
        assert_eq!(base64(""), Some(Vec::new()));
        assert_eq!(base64("a b"), None);
    }

    #[test]
    fn every_certificate_of_a_pem_text_is_found() {
        let pem = "x\n-----BEGIN CERTIFICATE-----\naGVs\nbG8=\n-----END CERTIFICATE-----\n\
             -----BEGIN PRIVATE KEY-----\naGVs\n-----END PRIVATE KEY-----\n\
             -----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n";
        let found = pem_certificates(pem.as_bytes());
        assert_eq!(found, [Box::from(*b"hello"), Box::from(*b"a")]);
    }
}
