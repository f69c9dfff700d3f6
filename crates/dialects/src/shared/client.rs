//! Who may say the client's address.

use std::sync::Arc;

use routing::model::ClientSource;

/// The header that proxies add the address of whoever spoke to them to.
pub(crate) const FORWARDED_FOR: &str = "x-forwarded-for";

/// Behind so many proxies; `None` if there are none.
pub(crate) fn behind(hops: u32) -> Option<Arc<ClientSource>> {
    ClientSource::behind(hops).map(Arc::new)
}
