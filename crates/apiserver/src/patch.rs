//! JSON, merge and strategic merge patches, applied to JSON objects.
//!
//! Patches come from the network: their operations are counted, and what they copy is bounded, so a
//! small body cannot make a huge object.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use crate::status::Status;

mod strategic;
#[cfg(test)]
mod tests;

pub use strategic::strategic;

/// Most operations in one JSON patch, as in Kubernetes.
const MAX_OPERATIONS: usize = 10_000;

/// Most bytes that the `copy` operations of one patch may add: as much as a request body.
const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;

/// RFC 6902.
///
/// # Errors
/// 400 for a document that is no patch, 413 for too many operations, 422 for one that does not apply.
pub fn json(live: &Value, patch: &Value) -> Result<Value, Status> {
    let count = patch.as_array().map_or(0, Vec::len);
    if count > MAX_OPERATIONS {
        let message = format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
        );
        return Err(Status::new(413, "RequestEntityTooLarge", message));
    }
    let operations: Patch = serde_json::from_value(patch.clone())
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    let mut object = live.clone();
    let mut copied = 0;
    for operation in &operations.0 {
        if let PatchOperation::Copy(copy) = operation {
            copied += object.pointer(copy.from.as_str()).map_or(0, size);
            if copied > MAX_COPIED_BYTES {
                let message = format!("the JSON patch copies more than {MAX_COPIED_BYTES} bytes");
                return Err(Status::new(413, "RequestEntityTooLarge", message));
            }
        }
        json_patch::patch(&mut object, std::slice::from_ref(operation))
            .map_err(|error| unprocessable(error.to_string()))?;
    }
    Ok(object)
}

/// RFC 7386.
pub fn merge(live: &Value, patch: &Value) -> Value {
    let mut object = live.clone();
    json_patch::merge(&mut object, patch);
    object
}

/// A patch that is well formed and cannot be applied.
fn unprocessable(why: String) -> Status {
    let message = format!("the server rejected our request due to an error in our request: {why}");
    Status::new(422, "Invalid", message)
}

/// Roughly how many bytes a value takes as JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| size(item) + 1).sum::<usize>() + 2,
        Value::Object(map) => {
            map.iter()
                .map(|(key, value)| key.len() + size(value) + 4)
                .sum::<usize>()
                + 2
        }
        _ => 8,
    }
}
