//! Kubernetes quantities as whole numbers: `250m`, `1.5`, `64Mi`, `1e3`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Thousandths, rounded up; `None` if the text is no quantity.
pub(crate) fn milli(quantity: &Quantity) -> Option<i64> {
    Some(api::quantity::Quantity::parse(&quantity.0)?.millis())
}

/// Whole units, rounded up; `None` if the text is no quantity.
pub(crate) fn whole(quantity: &Quantity) -> Option<i64> {
    Some(api::quantity::Quantity::parse(&quantity.0)?.units())
}
