//! Certificates of authorities in PEM form, as Secrets hold them.

use std::sync::Arc;

use k8s_openapi::ByteString;
use routing::model::tls::CaBundle;
use serde_json::Value;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Every certificate in a text; what is between them is passed over. `name` is the user's object.
pub(crate) fn bundle(name: &str, pem: &[u8]) -> Result<Arc<CaBundle>, String> {
    let text = std::str::from_utf8(pem).map_err(|_| "it is not PEM".to_owned())?;
    let mut certificates = Vec::new();
    let mut rest = text;
    while let Some((_, from)) = rest.split_once(BEGIN) {
        let (body, behind) = from
            .split_once(END)
            .ok_or_else(|| "a certificate in it has no end".to_owned())?;
        certificates.push(decode(body)?);
        rest = behind;
    }
    if certificates.is_empty() {
        return Err("it holds no certificate in PEM form".to_owned());
    }
    Ok(Arc::new(CaBundle {
        name: name.into(),
        certificates,
    }))
}

/// The other way round.
pub(crate) fn pem(bundle: &CaBundle) -> String {
    let mut text = String::new();
    for der in &bundle.certificates {
        let base64 = serde_json::to_value(ByteString(der.to_vec())).unwrap_or_default();
        let base64 = base64.as_str().unwrap_or_default();
        text.push_str(BEGIN);
        // RFC 7468, §2: lines of 64 letters.
        for (at, letter) in base64.chars().enumerate() {
            if at % 64 == 0 {
                text.push('\n');
            }
            text.push(letter);
        }
        text.push('\n');
        text.push_str(END);
        text.push('\n');
    }
    text
}

/// Base64 by way of Kubernetes' own type for it.
fn decode(body: &str) -> Result<Box<[u8]>, String> {
    let compact: String = body.split_whitespace().collect();
    let bytes: Result<ByteString, _> = serde_json::from_value(Value::String(compact));
    match bytes {
        Ok(bytes) if !bytes.0.is_empty() => Ok(bytes.0.into()),
        Ok(_) | Err(_) => Err("a certificate in it is not base64".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let written = CaBundle {
            name: "a".into(),
            certificates: vec![vec![7; 100].into(), Box::from(*b"x")],
        };
        let text = pem(&written);
        assert!(text.lines().all(|line| line.len() <= 64), "{text}");
        assert_eq!(bundle("a", text.as_bytes()).as_deref(), Ok(&written));
    }

    #[test]
    fn every_certificate_is_found_and_broken_ones_are_told() {
        let count = |text: &str| bundle("a", text.as_bytes()).map(|found| found.certificates.len());
        let one = format!("{BEGIN}\nMAA=\n{END}\n");
        assert_eq!(count(&one), Ok(1));
        assert_eq!(count(&format!("first\n{one}second\n{one}")), Ok(2));
        assert!(count("").is_err());
        assert!(count(BEGIN).is_err());
        assert!(count(&format!("{BEGIN}\n?\n{END}")).is_err());
        assert!(bundle("a", &[0xff]).is_err());
    }
}
