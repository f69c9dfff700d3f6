//! CertificateSigningRequests: who asks is recorded, who may approve is checked, and what is
//! approved for clients of this server is signed by its CA in the same write.
//!
//! Requests for other signers are stored, as in Kubernetes: whoever signs them writes their status.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{CertificateSigningRequestParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::admission::User;
use crate::auth::attributes::{Attributes, ResourceTarget};
use crate::auth::{self, MASTERS};
use crate::crud::Call;
use crate::status::{FieldError, Status};
use crate::store::Store;

const GROUP: &str = "certificates.k8s.io";
/// The signer that this server is.
const CLIENTS: &str = "kubernetes.io/kube-apiserver-client";
/// As long as Kubernetes signs if nothing is asked for.
const STANDARD_LIFE: u64 = 365 * 24 * 60 * 60;
/// Clocks of clients may be behind.
const BACKDATED: u64 = 5 * 60;

/// What the server says about a new request: who made it.
pub(crate) fn fill_in(user: &User, value: &mut Value) {
    let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    for field in ["uid", "groups", "extra"] {
        spec.remove(field);
    }
    spec.insert("username".into(), json!(&*user.name));
    spec.insert("groups".into(), json!(user.groups));
    if !user.uid.is_empty() {
        spec.insert("uid".into(), json!(&*user.uid));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".into(), json!(user.extra));
    }
}

/// Findings about a request.
pub(crate) fn validate(value: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let spec = &value["spec"];
    if old.is_some_and(|old| old["spec"] != *spec) {
        let detail = "field is immutable";
        return vec![FieldError::invalid("spec", &json!("object"), detail)];
    }
    let mut errors = Vec::new();
    let given = json!("<bytes>");
    match parse(spec) {
        Err(why) => errors.push(FieldError::invalid("spec.request", &given, why)),
        Ok(request) if spec["signerName"] == CLIENTS && is_master(&request) => {
            let detail = format!("a certificate of the group {MASTERS} is not signed on request");
            errors.push(FieldError::invalid("spec.request", &given, detail));
        }
        Ok(_) => {}
    }
    if spec["usages"].as_array().is_none_or(Vec::is_empty) {
        errors.push(FieldError::required("spec.usages", ""));
    } else if spec["signerName"] == CLIENTS && usages(spec).is_none() {
        let known = "client auth, digital signature, key encipherment";
        let detail = format!("{CLIENTS} signs for these only: {known}; and needs client auth");
        errors.push(FieldError::invalid("spec.usages", &spec["usages"], detail));
    }
    if spec["expirationSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds < 600)
    {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        let value = &spec["expirationSeconds"];
        errors.push(FieldError::invalid("spec.expirationSeconds", value, detail));
    }
    errors
}

fn parse(spec: &Value) -> Result<CertificateSigningRequestParams, String> {
    let text = spec["request"].as_str().unwrap_or_default();
    let pem = STANDARD.decode(text).map_err(|error| error.to_string())?;
    let pem = String::from_utf8(pem).map_err(|_| "PEM block type must be CERTIFICATE REQUEST")?;
    CertificateSigningRequestParams::from_pem(&pem).map_err(|error| error.to_string())
}

fn is_master(request: &CertificateSigningRequestParams) -> bool {
    use rcgen::{DnType, DnValue};
    let subject = request.params.distinguished_name.iter();
    subject
        .filter(|(kind, _)| **kind == DnType::OrganizationName)
        .any(|(_, value)| match value {
            DnValue::Utf8String(text) => text == MASTERS,
            DnValue::PrintableString(text) => text.as_str() == MASTERS,
            // Nobody writes a group in another encoding who does not want to hide it.
            _ => true,
        })
}

/// `None` if something else than what clients need is asked for.
fn usages(spec: &Value) -> Option<()> {
    let usages = spec["usages"].as_array()?;
    let known = ["client auth", "digital signature", "key encipherment"];
    let fit = usages
        .iter()
        .all(|usage| known.iter().any(|own| usage == own));
    (fit && usages.iter().any(|usage| usage == "client auth")).then_some(())
}

/// Refuses an approval by who may not decide for the signer.
pub(crate) fn check_approval(store: &Store, call: &Call, old: &Value) -> Result<(), Status> {
    let signer = old["spec"]["signerName"].as_str().unwrap_or_default();
    let target = ResourceTarget {
        group: GROUP,
        resource: "signers",
        name: signer,
        ..ResourceTarget::default()
    };
    auth::permit(store, &call.user, &Attributes::resource("approve", target))
}

/// Of a write to `approval` only the conditions count; an approved request is signed.
pub(crate) fn approve(issuer: Option<&Issuer<'static, KeyPair>>, new: &mut Value, old: &Value) {
    let conditions = new
        .pointer_mut("/status/conditions")
        .map_or(Value::Null, Value::take);
    let mut status = old["status"].clone();
    if !status.is_object() {
        status = json!({});
    }
    let has = |kind: &str| {
        let list = conditions.as_array();
        list.into_iter().flatten().any(|condition| {
            condition["type"] == kind && condition["status"].as_str().unwrap_or("True") == "True"
        })
    };
    let sign = has("Approved")
        && !has("Denied")
        && status["certificate"].is_null()
        && old["spec"]["signerName"] == CLIENTS;
    if !conditions.is_null() {
        status["conditions"] = conditions;
    }
    if sign && let Some(issuer) = issuer {
        match certificate(issuer, &old["spec"], Timestamp::now()) {
            Ok(pem) => status["certificate"] = json!(STANDARD.encode(pem)),
            Err(why) => {
                let failed = json!({ "type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why });
                if let Some(list) = status["conditions"].as_array_mut() {
                    list.push(failed);
                }
            }
        }
    }
    new["status"] = status;
}

fn certificate(
    issuer: &Issuer<'static, KeyPair>,
    spec: &Value,
    now: Timestamp,
) -> Result<String, String> {
    let mut request = parse(spec)?;
    let life = spec["expirationSeconds"].as_u64().unwrap_or(STANDARD_LIFE);
    let now = u64::try_from(now.as_second()).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let params = &mut request.params;
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(BACKDATED));
    params.not_after = epoch + Duration::from_secs(now + life.min(STANDARD_LIFE));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    let certificate = request
        .signed_by(issuer)
        .map_err(|error| error.to_string())?;
    Ok(certificate.pem())
}
