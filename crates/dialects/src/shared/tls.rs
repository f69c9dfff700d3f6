//! TLS as dialects end it that say nothing but which certificate.

use std::sync::Arc;

use routing::model::tls::{
    Alpn, Certificate, ClientCertificates, Termination, TlsAction, TlsVersion, TlsVersions,
};

/// With this certificate, any current version, HTTP/2 or HTTP/1.1, and no client certificates.
pub(crate) fn terminate(certificate: Arc<Certificate>) -> TlsAction {
    TlsAction::Terminate(Termination {
        certificates: vec![certificate],
        versions: TlsVersions {
            min: TlsVersion::V1_2,
            max: TlsVersion::V1_3,
        },
        protocols: vec![Alpn::Http2, Alpn::Http1],
        client: ClientCertificates::None,
    })
}
