//! The pods of a Job, made from its template; pure.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use kube::ResourceExt;

use super::tally::{FAILURES, INDEX, TRACKING, is_indexed};
use crate::template;

const ENV: &str = "JOB_COMPLETION_INDEX";

/// A pod without a name, and what its name starts with. `index` carries its earlier failures.
pub(super) fn new(job: &Job, index: Option<(i32, i32)>) -> (Pod, String) {
    let spec = job.spec.as_ref();
    let mut pod = spec.map_or_else(Pod::default, |spec| template::pod(&spec.template, job));
    pod.metadata
        .finalizers
        .get_or_insert_default()
        .push(TRACKING.to_owned());
    let name = job.name_any();
    let Some((index, failures)) = index.filter(|_| is_indexed(job)) else {
        pod.metadata.generate_name = Some(format!("{name}-"));
        return (pod, name);
    };
    let base = format!("{name}-{index}");
    pod.metadata.generate_name = Some(format!("{base}-"));
    for map in [&mut pod.metadata.labels, &mut pod.metadata.annotations] {
        map.get_or_insert_default()
            .insert(INDEX.to_owned(), index.to_string());
    }
    if spec.is_some_and(|spec| spec.backoff_limit_per_index.is_some()) {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(FAILURES.to_owned(), failures.to_string());
    }
    let pod_spec = pod.spec.get_or_insert_default();
    // The pods of an Indexed Job find each other by their host names.
    pod_spec.hostname.get_or_insert_with(|| base.clone());
    pod_spec.containers.iter_mut().for_each(tell_index);
    pod_spec
        .init_containers
        .iter_mut()
        .flatten()
        .for_each(tell_index);
    (pod, base)
}

fn tell_index(container: &mut Container) {
    let env = container.env.get_or_insert_default();
    if env.iter().any(|var| var.name == ENV) {
        return;
    }
    let field = ObjectFieldSelector {
        api_version: None,
        field_path: format!("metadata.annotations['{INDEX}']"),
    };
    env.push(EnvVar {
        name: ENV.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(field),
            ..EnvVarSource::default()
        }),
    });
}
