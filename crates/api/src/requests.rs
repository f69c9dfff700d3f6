//! What a pod asks of its node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity;

/// Amounts by resource: thousandths of a processor, whole units of all else.
pub type Amounts = BTreeMap<String, i64>;

/// What a pod asks for: its containers together with its sidecars, or the largest init container
/// with the sidecars that run by then, whichever is more; plus the overhead. What the pod asks
/// for as a whole replaces that sum.
pub fn of(pod: &Pod) -> Amounts {
    let Some(spec) = pod.spec.as_ref() else {
        return Amounts::new();
    };
    let mut sum = Amounts::new();
    for container in &spec.containers {
        add(&mut sum, &of_container(container));
    }
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for init in spec.init_containers.iter().flatten() {
        let own = of_container(init);
        if init.restart_policy.as_deref() == Some("Always") {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            most(&mut peak, &sidecars);
        } else {
            let mut beside = sidecars.clone();
            add(&mut beside, &own);
            most(&mut peak, &beside);
        }
    }
    most(&mut sum, &peak);
    whole_pod(spec, &mut sum);
    add(&mut sum, &amounts(spec.overhead.as_ref()));
    sum
}

fn whole_pod(spec: &PodSpec, sum: &mut Amounts) {
    if let Some(resources) = spec.resources.as_ref() {
        sum.extend(of_resources(resources));
    }
}

fn of_container(container: &Container) -> Amounts {
    container
        .resources
        .as_ref()
        .map_or_else(Amounts::new, of_resources)
}

fn of_resources(resources: &ResourceRequirements) -> Amounts {
    // What is limited and not requested counts as requested, as the API's default has it.
    let mut all = amounts(resources.limits.as_ref());
    all.extend(amounts(resources.requests.as_ref()));
    all
}

fn amounts(list: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    let read =
        |(name, quantity): (&String, &Quantity)| Some((name.clone(), amount(name, quantity)?));
    list.into_iter().flatten().filter_map(read).collect()
}

/// A quantity of a resource in that resource's unit; `None` if the text is no quantity.
pub fn amount(resource: &str, quantity: &Quantity) -> Option<i64> {
    let parsed = quantity::Quantity::parse(&quantity.0)?;
    Some(if resource == "cpu" {
        parsed.millis()
    } else {
        parsed.units()
    })
}

fn add(sum: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let total = sum.entry(name.clone()).or_insert(0);
        *total = total.saturating_add(*amount);
    }
}

fn most(sum: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let largest = sum.entry(name.clone()).or_insert(0);
        *largest = (*largest).max(*amount);
    }
}
