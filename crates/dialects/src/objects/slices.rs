//! Endpoints: the EndpointSlices of Services, by the Service that a label names.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{Dependency, Name, Objects, Reader};
use crate::lean;

/// Label on an EndpointSlice: the Service that it belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Slices {
    /// By Service, sorted by the slice's own name; mostly one or two.
    by_service: HashMap<Name, Vec<(Arc<str>, EndpointSlice)>>,
    service_of: HashMap<Name, Name>,
}

impl Objects {
    /// Sets or removes an EndpointSlice. Returns what changed: the endpoints of its Service, and
    /// of the Service it belonged to before.
    pub fn put_slice(
        &mut self,
        name: &Name,
        object: Option<Arc<EndpointSlice>>,
    ) -> Vec<Dependency> {
        let labels = object
            .as_ref()
            .and_then(|slice| slice.metadata.labels.as_ref());
        let service = labels.and_then(|labels| labels.get(SERVICE_NAME));
        let service = service.map(|service| Name::new(&name.namespace, service));
        let before = self.slices.service_of.get(name).cloned();
        let mut changed = Vec::new();
        if let Some(before) = before
            && service.as_ref() != Some(&before)
        {
            self.slices.service_of.remove(name);
            if let Some(slices) = self.slices.by_service.get_mut(&before) {
                slices.retain(|(known, _)| *known != name.name);
                if slices.is_empty() {
                    self.slices.by_service.remove(&before);
                }
            }
            changed.push(Dependency::Endpoints(before));
        }
        if let (Some(service), Some(slice)) = (service, object) {
            self.slices.service_of.insert(name.clone(), service.clone());
            let slices = self.slices.by_service.entry(service.clone()).or_default();
            let slice = lean::slice(&slice);
            let is_same = match slices.binary_search_by(|(known, _)| known.cmp(&name.name)) {
                Ok(at) => {
                    let is_same = slices[at].1 == slice;
                    slices[at].1 = slice;
                    is_same
                }
                Err(at) => {
                    if slices.is_empty() {
                        slices.reserve_exact(1);
                    }
                    slices.insert(at, (Arc::clone(&name.name), slice));
                    false
                }
            };
            if !is_same {
                changed.push(Dependency::Endpoints(service));
            }
        }
        changed
    }
}

impl<'a> Reader<'a> {
    /// The EndpointSlices of a Service, by name.
    pub(crate) fn slices(
        &self,
        service: &Name,
    ) -> impl Iterator<Item = &'a EndpointSlice> + use<'a> {
        self.note(Dependency::Endpoints(service.clone()));
        self.slices_unnoted(service)
    }

    /// The same without remembering it, for callers that [note](Self::note) it only if what they
    /// saw decides their result.
    pub(crate) fn slices_unnoted(
        &self,
        service: &Name,
    ) -> impl Iterator<Item = &'a EndpointSlice> + use<'a> {
        let slices = self.objects.slices.by_service.get(service);
        slices.into_iter().flatten().map(|(_, slice)| slice)
    }
}
