//! Resources that are measured when they are read and never stored: pods and nodes of
//! `metrics.k8s.io`.
//!
//! They are read and listed; everything else is refused, as by Kubernetes' metrics-server.

use std::sync::PoisonError;

use serde_json::{Value, json};

use super::{Api, Call, Reply, shape};
use crate::connect::Measure;
use crate::status::Status;

impl Api {
    /// Registers who measures a resource.
    pub(crate) fn measure(&self, resource: &str, measure: Measure) {
        let mut measures = self
            .measures
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        measures.insert(resource.to_owned(), measure);
    }

    /// Measures the object or the objects of a call.
    pub(crate) async fn measured(&self, call: &Call) -> Result<Reply, Status> {
        if call.options.watch || !call.subresource.is_empty() {
            return Err(Status::method_not_allowed());
        }
        let measure = self
            .measures
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&call.resource())
            .cloned()
            .ok_or_else(Status::no_such_path)?;
        let labels = match call.options.label_selector.as_str() {
            "" => None,
            text => Some(shape::parse_labels(text)?),
        };
        let fields = match call.options.field_selector.as_str() {
            "" => None,
            text => Some(shape::parse_fields(&call.kind, text)?),
        };
        let mut found = measure(call.namespace.clone(), call.name.clone()).await;
        if !call.name.is_empty() {
            let one = found.pop().ok_or_else(|| call.not_found())?;
            return Ok(Reply::value(200, one));
        }
        found.retain(|object| {
            labels.as_ref().is_none_or(|labels| labels.matches(object))
                && fields.as_ref().is_none_or(|fields| fields.matches(object))
        });
        Ok(Reply::value(200, list(call, found)))
    }
}

fn list(call: &Call, items: Vec<Value>) -> Value {
    json!({
        "kind": call.kind.list_kind,
        "apiVersion": call.api_version(),
        "metadata": {},
        "items": items,
    })
}
