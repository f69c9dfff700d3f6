//! TLS as dialects end it that say nothing but which certificate.

use std::sync::Arc;

use routing::model::Crypto;
use routing::model::tls::{
    Alpn, Certificate, ClientCertificates, Termination, TlsVersion, TlsVersions,
};

/// With these certificates (none means one of the gateway's own), any current version, HTTP/2 or HTTP/1.1, and no client certificates.
pub(crate) fn terminate(certificates: Vec<Arc<Certificate>>) -> Termination {
    Termination {
        certificates,
        versions: TlsVersions {
            min: TlsVersion::V1_2,
            max: TlsVersion::V1_3,
        },
        crypto: Crypto::ANY,
        protocols: vec![Alpn::Http2, Alpn::Http1],
        client: ClientCertificates::None,
    }
}
