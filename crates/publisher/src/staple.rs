//! An OCSP response (RFC 6960, 4.2.1): whether it speaks well of a certificate, and how long.
//!
//! Clients check the signature; here only what would make every handshake fail is refused.

use routing::model::tls::Staple;
use x509_parser::asn1_rs::{Any, Class, Enumerated, FromDer as _, GeneralizedTime, Oid, Tag, oid};
use x509_parser::prelude::X509Certificate;

/// id-pkix-ocsp-basic.
const BASIC: Oid<'_> = oid!(1.3.6.1.5.5.7.48.1.1);

/// Reads a response that is to be about this certificate.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub(crate) fn read(response: &[u8], certificate: &[u8]) -> Result<Staple, String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Err("is about a certificate that cannot be read".to_owned());
    };
    let status = status(response).ok_or_else(|| "is no OCSP response in DER".to_owned())?;
    if status != 0 {
        return Err(format!(
            "says that the authority could not answer (status {status}): ask it again"
        ));
    }
    let said = basic(response).ok_or_else(|| "is no basic OCSP response".to_owned())?;
    let serial = certificate.tbs_certificate.raw_serial();
    let about = said.iter().find(|said| said.serial == serial);
    let about = about.ok_or_else(|| "is about another certificate".to_owned())?;
    match about.verdict {
        0 => Ok(Staple {
            response: response.into(),
            until: about.until,
            is_required: false,
        }),
        1 => Err("says that the certificate is revoked".to_owned()),
        _ => Err("says that its authority does not know the certificate".to_owned()),
    }
}

/// What is said about one certificate.
struct Said<'a> {
    serial: &'a [u8],
    /// 0 good, 1 revoked, 2 unknown.
    verdict: u32,
    /// In seconds since 1970.
    until: Option<i64>,
}

/// `OCSPResponse.responseStatus`.
fn status(response: &[u8]) -> Option<u32> {
    let (_, outer) = sequence(response)?;
    let (_, status) = Enumerated::from_der(outer).ok()?;
    Some(status.0)
}

/// `BasicOCSPResponse.tbsResponseData.responses`.
fn basic(response: &[u8]) -> Option<Vec<Said<'_>>> {
    let (_, outer) = sequence(response)?;
    let (rest, _) = Enumerated::from_der(outer).ok()?;
    let (_, bytes) = sequence(tagged(rest, 0)?.1)?;
    let (rest, kind) = Oid::from_der(bytes).ok()?;
    if kind != BASIC {
        return None;
    }
    let (_, octets) = Any::from_der(rest).ok()?;
    let (_, answer) = sequence(octets.data)?;
    let (_, mut data) = sequence(answer)?;
    // The version, who answers, and when.
    if let Some((rest, _)) = tagged(data, 0) {
        data = rest;
    }
    for _ in 0..2 {
        data = Any::from_der(data).ok()?.0;
    }
    let (_, mut all) = sequence(data)?;
    let mut said = Vec::new();
    while !all.is_empty() {
        let (rest, one) = sequence(all)?;
        said.push(single(one)?);
        all = rest;
    }
    Some(said)
}

/// `SingleResponse`.
fn single(one: &[u8]) -> Option<Said<'_>> {
    let (rest, id) = sequence(one)?;
    // The hash's algorithm, the issuer's name and its key.
    let mut id = id;
    for _ in 0..3 {
        id = Any::from_der(id).ok()?.0;
    }
    let (_, serial) = Any::from_der(id).ok()?;
    let (rest, verdict) = Any::from_der(rest).ok()?;
    let (rest, _since) = GeneralizedTime::from_der(rest).ok()?;
    let until = match tagged(rest, 0) {
        Some((_, until)) => {
            let (_, until) = GeneralizedTime::from_der(until).ok()?;
            Some(until.utc_datetime().ok()?.unix_timestamp())
        }
        None => None,
    };
    Some(Said {
        serial: serial.data,
        verdict: verdict.tag().0,
        until,
    })
}

/// The content of the SEQUENCE that comes first, behind what follows it.
fn sequence(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, any) = Any::from_der(bytes).ok()?;
    (any.tag() == Tag::Sequence).then_some((rest, any.data))
}

/// The same of an explicitly tagged field.
fn tagged(bytes: &[u8], tag: u32) -> Option<(&[u8], &[u8])> {
    let (rest, any) = Any::from_der(bytes).ok()?;
    let is_it = any.class() == Class::ContextSpecific && any.tag().0 == tag;
    is_it.then_some((rest, any.data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SerialNumber};

    /// DER of a tag with these contents.
    fn der(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
        let body = contents.concat();
        let mut all = vec![tag];
        match u8::try_from(body.len()) {
            Ok(length) if length < 0x80 => all.push(length),
            _ => {
                let length = u16::try_from(body.len()).expect("short");
                all.push(0x82);
                all.extend(length.to_be_bytes());
            }
        }
        all.extend(body);
        all
    }

    /// A response about one certificate, with a signature of nobody.
    fn response(status: u8, serial: &[u8], verdict: u8, until: Option<&[u8]>) -> Vec<u8> {
        let algorithm = der(0x30, &[&der(0x06, &[&[0x2b, 0x0e, 0x03, 0x02, 0x1a]])]);
        let hash = der(0x04, &[&[7; 20]]);
        let id = der(0x30, &[&algorithm, &hash, &hash, &der(0x02, &[serial])]);
        let time = der(0x18, &[b"20260101000000Z"]);
        let until = until.map_or_else(Vec::new, |it| der(0xa0, &[&der(0x18, &[it])]));
        let verdict = match verdict {
            1 => der(0xa1, &[&time]),
            other => der(0x80 | other, &[]),
        };
        let single = der(0x30, &[&id, &verdict, &time, &until]);
        let responder = der(0xa2, &[&hash]);
        let data = der(0x30, &[&responder, &time, &der(0x30, &[&single])]);
        let answer = der(0x30, &[&data, &algorithm, &der(0x03, &[&[0; 9]])]);
        let kind = der(0x06, &[&[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]]);
        let bytes = der(0x30, &[&kind, &der(0x04, &[&answer])]);
        let status = der(0x0a, &[&[status]]);
        der(0x30, &[&status, &der(0xa0, &[&bytes])])
    }

    fn certificate(serial: &[u8]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).expect("names");
        params.serial_number = Some(SerialNumber::from_slice(serial));
        let key = KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        made.der().to_vec()
    }

    #[test]
    fn a_good_response_holds_until_its_next_update() {
        let (certificate, serial) = (certificate(&[1, 2, 3]), [1, 2, 3]);
        let der = response(0, &serial, 0, Some(b"20260102000000Z"));
        let staple = read(&der, &certificate).expect("it is good");
        assert_eq!(staple.until, Some(1_767_312_000));
        assert_eq!(&*staple.response, &*der);
        let endless = response(0, &serial, 0, None);
        assert_eq!(read(&endless, &certificate).expect("good").until, None);
    }

    #[test]
    fn what_would_fail_every_handshake_is_refused_with_its_reason() {
        let certificate = certificate(&[1, 2, 3]);
        let good = response(0, &[1, 2, 3], 0, None);
        for (der, expected) in [
            (b"text".to_vec(), "is no OCSP response in DER"),
            (
                good[..good.len() - 40].to_vec(),
                "is no OCSP response in DER",
            ),
            (
                der(0x30, &[&der(0x0a, &[&[0]])]),
                "is no basic OCSP response",
            ),
            (response(3, &[1, 2, 3], 0, None), "(status 3)"),
            (response(0, &[9], 0, None), "is about another certificate"),
            (response(0, &[1, 2, 3], 1, None), "is revoked"),
            (response(0, &[1, 2, 3], 2, None), "does not know"),
        ] {
            let error = read(&der, &certificate).expect_err(expected);
            assert!(error.contains(expected), "{error} is not {expected}");
        }
        // Cut anywhere it is an error, never a panic.
        for end in 0..good.len() {
            assert!(read(&good[..end], &certificate).is_err());
        }
    }
}
