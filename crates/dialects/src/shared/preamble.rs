//! The header of a balancer in front (PROXY protocol), where users ask for it.

use routing::model::Preamble;

use crate::fields::Findings;
use crate::objects::Reader;

/// It is asked for at the gateway's shared listeners, or ruled out (`None`). Those are everybody's, so the process says
/// at its start whether it comes there; what differs is told.
pub(crate) fn at_shared(
    wanted: Option<Preamble>,
    reader: &Reader<'_>,
    (findings, field): (&Findings, &str),
) {
    let message = match (reader.gateway_ports().has_preamble, wanted) {
        (true, Some(Preamble::Required)) | (false, None) => return,
        (true, Some(Preamble::Optional) | None) => {
            "at the gateway's shared ports every connection needs the header of the PROXY \
             protocol, since it is started with --proxy-protocol"
        }
        (false, Some(Preamble::Required | Preamble::Optional)) => {
            "the PROXY protocol is read at the gateway's shared ports only if it is started with \
             --proxy-protocol; do so, or choose another port"
        }
    };
    findings.refuse("FieldDiffers", field, message);
}
