//! How many replicas the measured use of pods asks for; pure.
//!
//! The formula is Kubernetes': the ratio of use to target, with pods that are not ready or not
//! measured taken the cautious way, so that they never make the scale go further.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::MetricTarget;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::{pod, quantity};

/// CPU of a pod that starts says little (Kubernetes' numbers).
const INITIALIZATION: Duration = Duration::from_secs(300);
const FIRST_READINESS: Duration = Duration::from_secs(30);

/// What was measured of one pod: thousandths per container and resource.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) at: Time,
    pub(super) window: Duration,
    /// Container → resource → thousandths.
    pub(super) containers: BTreeMap<String, BTreeMap<String, i64>>,
}

/// What a metric of an autoscaler looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resource<'a> {
    pub(super) name: &'a str,
    /// Only this container.
    pub(super) container: Option<&'a str>,
}

/// Ratios this close to one change nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerance {
    pub(super) up: f64,
    pub(super) down: f64,
}

impl Tolerance {
    fn allows(self, ratio: f64) -> bool {
        ratio >= 1.0 - self.down && ratio <= 1.0 + self.up
    }
}

/// What a metric proposes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// Percent of what was asked for, if the target is one.
    pub(super) utilization: Option<i64>,
    /// Mean of the pods, in thousandths.
    pub(super) average: i64,
}

/// A pod that counts: its use and what it asked for, both in thousandths.
#[derive(Clone, Copy, Debug)]
struct Used {
    usage: i64,
    request: i64,
}

/// The target as a number.
enum Target {
    /// Percent of the requests.
    Utilization(i64),
    /// Thousandths per pod.
    Average(i64),
}

impl Target {
    fn of(target: &MetricTarget) -> Result<Self, String> {
        match (target.type_.as_str(), target.average_utilization, &target.average_value) {
            ("Utilization", Some(percent), _) if percent > 0 => Ok(Self::Utilization(percent.into())),
            (_, _, Some(value)) => match quantity::milli(value).filter(|value| *value > 0) {
                Some(value) => Ok(Self::Average(value)),
                None => Err(format!("invalid resource metric source: the target {:?} is no positive quantity", value.0)),
            },
            _ => Err("invalid resource metric source: neither a utilization target nor a value target was set".to_owned()),
        }
    }

    /// How far the pods are from it, with what to show.
    fn ratio(&self, pods: &[Used]) -> Result<(f64, Option<i64>, i64), String> {
        let sum = |of: fn(&Used) -> i64| pods.iter().map(of).fold(0_i64, i64::saturating_add);
        let usage = sum(|used| used.usage);
        let average = usage / i64::try_from(pods.len()).unwrap_or(i64::MAX).max(1);
        match self {
            Self::Utilization(target) => {
                let requests = sum(|used| used.request);
                if requests == 0 {
                    return Err("no metrics returned matched known pods".to_owned());
                }
                let percent = usage.saturating_mul(100) / requests;
                Ok((percent as f64 / *target as f64, Some(percent), average))
            }
            Self::Average(target) => Ok((average as f64 / *target as f64, None, average)),
        }
    }

    /// What a pod is taken to use that was not measured, when the others use too little.
    fn cautious(&self, request: i64) -> i64 {
        match self {
            Self::Utilization(target) => request.saturating_mul((*target).max(100)) / 100,
            Self::Average(target) => *target,
        }
    }
}

/// Pods by what is known of them; of those that were not measured their requests.
#[derive(Default)]
struct Groups {
    measured: Vec<Used>,
    unready: Vec<i64>,
    missing: Vec<i64>,
}

impl Groups {
    fn of(
        pods: &[Arc<Pod>],
        samples: &BTreeMap<String, Sample>,
        resource: Resource<'_>,
        target: &Target,
        now: &Time,
    ) -> Result<Self, String> {
        let mut groups = Self::default();
        let counts = |pod: &&Arc<Pod>| !pod::is_terminating(pod) && pod::phase(pod) != "Failed";
        for pod in pods.iter().filter(counts) {
            let request = match target {
                Target::Utilization(_) => request(pod, resource)?,
                Target::Average(_) => 0,
            };
            let sample = samples.get(&pod.name_any());
            let usage = sample.and_then(|sample| usage(sample, resource));
            match (sample, usage) {
                _ if pod::phase(pod) == "Pending" => groups.unready.push(request),
                (Some(sample), Some(_)) if resource.name == "cpu" && starts(pod, sample, now) => {
                    groups.unready.push(request);
                }
                (Some(_), Some(usage)) => groups.measured.push(Used { usage, request }),
                _ => groups.missing.push(request),
            }
        }
        Ok(groups)
    }
}

/// Proposes a number of replicas.
pub(super) fn propose(
    pods: &[Arc<Pod>],
    samples: &BTreeMap<String, Sample>,
    resource: Resource<'_>,
    target: &MetricTarget,
    current: i32,
    tolerance: Tolerance,
    now: &Time,
) -> Result<Proposal, String> {
    let target = Target::of(target)?;
    let Groups {
        measured,
        unready,
        missing,
    } = Groups::of(pods, samples, resource, &target, now)?;
    if measured.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
    }
    let (ratio, utilization, average) = target.ratio(&measured)?;
    let proposal = |replicas| Proposal {
        replicas,
        utilization,
        average,
    };
    let waits = !unready.is_empty() && ratio > 1.0;
    if !waits && missing.is_empty() {
        let replicas = if tolerance.allows(ratio) {
            current
        } else {
            up(ratio, measured.len())
        };
        return Ok(proposal(replicas));
    }
    let mut assumed = measured.clone();
    if ratio < 1.0 {
        assumed.extend(missing.iter().map(|request| Used {
            usage: target.cautious(*request),
            request: *request,
        }));
    } else if ratio > 1.0 {
        assumed.extend(missing.iter().map(|request| Used {
            usage: 0,
            request: *request,
        }));
    }
    if waits {
        assumed.extend(unready.iter().map(|request| Used {
            usage: 0,
            request: *request,
        }));
    }
    let (next, ..) = target.ratio(&assumed)?;
    let turned = (ratio < 1.0 && next > 1.0) || (ratio > 1.0 && next < 1.0);
    let replicas = up(next, assumed.len());
    let wrong_way = (next < 1.0 && replicas > current) || (next > 1.0 && replicas < current);
    let stays = tolerance.allows(next) || turned || wrong_way;
    Ok(proposal(if stays { current } else { replicas }))
}

fn up(ratio: f64, pods: usize) -> i32 {
    let replicas = (ratio * pods as f64).ceil();
    if replicas >= f64::from(i32::MAX) {
        i32::MAX
    } else {
        replicas as i32
    }
}

fn usage(sample: &Sample, resource: Resource<'_>) -> Option<i64> {
    let containers = sample.containers.iter();
    let mut wanted =
        containers.filter(|(name, _)| resource.container.is_none_or(|only| only == *name));
    let first = wanted.next()?.1.get(resource.name).copied()?;
    // One container without a number leaves the pod without one.
    wanted.try_fold(first, |sum, (_, of)| {
        Some(sum.saturating_add(*of.get(resource.name)?))
    })
}

fn request(pod: &Pod, resource: Resource<'_>) -> Result<i64, String> {
    let spec = pod.spec.as_ref();
    let sidecars = spec.into_iter().flat_map(|spec| {
        let init = spec.init_containers.iter().flatten();
        init.filter(|container| container.restart_policy.as_deref() == Some("Always"))
    });
    let containers = spec
        .into_iter()
        .flat_map(|spec| &spec.containers)
        .chain(sidecars);
    let mut sum = 0_i64;
    for container in
        containers.filter(|container| resource.container.is_none_or(|only| only == container.name))
    {
        let requests = container
            .resources
            .as_ref()
            .and_then(|all| all.requests.as_ref());
        let Some(request) = requests.and_then(|all| quantity::milli(all.get(resource.name)?))
        else {
            return Err(format!(
                "missing request for {} in container {} of Pod {}",
                resource.name,
                container.name,
                pod.name_any()
            ));
        };
        sum = sum.saturating_add(request);
    }
    Ok(sum)
}

/// Whether the pod's CPU is that of its start.
fn starts(pod: &Pod, sample: &Sample, now: &Time) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref());
    let ready = conditions
        .unwrap_or_default()
        .iter()
        .find(|condition| condition.type_ == "Ready");
    let start = status.and_then(|status| status.start_time.as_ref());
    let (Some(ready), Some(start)) = (ready, start) else {
        return true;
    };
    let since = ready.last_transition_time.as_ref().unwrap_or(start);
    if pod::elapsed(start, now) < INITIALIZATION {
        // Before the first window since it is ready is full.
        return ready.status != "True" || pod::elapsed(since, &sample.at) < sample.window;
    }
    ready.status != "True" && pod::elapsed(start, since) < FIRST_READINESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Time {
        Time(jiff::Timestamp::from_second(1_800_000_000 + second).expect("in range"))
    }

    fn pod(name: &str, ready: bool) -> Arc<Pod> {
        let value = json!({
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {"phase": "Running", "startTime": at(0), "conditions": [
                {"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": at(1)},
            ]},
        });
        Arc::new(serde_json::from_value(value).expect("a Pod"))
    }

    fn propose_for(
        pods: &[Arc<Pod>],
        used: &[(&str, i64)],
        target: serde_json::Value,
    ) -> Result<Proposal, String> {
        let samples = used.iter().map(|(name, milli)| {
            let containers = [("c".to_owned(), [("cpu".to_owned(), *milli)].into())].into();
            let sample = Sample {
                at: at(900),
                window: Duration::from_secs(15),
                containers,
            };
            ((*name).to_owned(), sample)
        });
        let target = serde_json::from_value(target).expect("a target");
        let resource = Resource {
            name: "cpu",
            container: None,
        };
        let current = i32::try_from(pods.len()).expect("few");
        let tolerance = Tolerance { up: 0.1, down: 0.1 };
        propose(
            pods,
            &samples.collect(),
            resource,
            &target,
            current,
            tolerance,
            &at(1000),
        )
    }

    fn replicas(pods: &[Arc<Pod>], used: &[(&str, i64)], percent: i64) -> i32 {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        propose_for(pods, used, target)
            .expect("a proposal")
            .replicas
    }

    #[test]
    fn the_ratio_of_use_to_target_decides_outside_of_the_tolerance() {
        let pods = [pod("a", true), pod("b", true), pod("c", true)];
        assert_eq!(
            replicas(&pods, &[("a", 300), ("b", 500), ("c", 700)], 30),
            5
        );
        assert_eq!(
            replicas(&pods, &[("a", 100), ("b", 100), ("c", 100)], 50),
            1
        );
        assert_eq!(
            replicas(&pods, &[("a", 540), ("b", 540), ("c", 540)], 50),
            3
        );
        let value = json!({"type": "AverageValue", "averageValue": "250m"});
        let proposal =
            propose_for(&pods, &[("a", 500), ("b", 500), ("c", 500)], value).expect("a proposal");
        assert_eq!(
            (proposal.replicas, proposal.average, proposal.utilization),
            (6, 500, None)
        );
    }

    #[test]
    fn what_is_not_ready_or_not_measured_never_makes_the_scale_go_further() {
        let pods = [pod("a", true), pod("b", true), pod("c", true)];
        // Up: the missing one uses nothing; down: it uses all that it asked for.
        assert_eq!(replicas(&pods, &[("a", 600), ("b", 600)], 40), 3);
        assert_eq!(replicas(&pods, &[("a", 100), ("b", 100)], 80), 2);
        let starting = [pod("a", true), pod("b", true), pod("c", false)];
        assert_eq!(
            replicas(&starting, &[("a", 900), ("b", 900), ("c", 900)], 50),
            4
        );
    }

    #[test]
    fn what_cannot_be_judged_is_said() {
        let target = || json!({"type": "Utilization", "averageUtilization": 50});
        let none = propose_for(&[pod("a", true)], &[], target());
        assert_eq!(
            none,
            Err("did not receive metrics for targeted pods (pods might be unready)".to_owned())
        );
        let mut bare = Arc::unwrap_or_clone(pod("a", true));
        bare.spec.get_or_insert_default().containers[0].resources = None;
        let none = propose_for(&[Arc::new(bare)], &[("a", 1)], target());
        assert_eq!(
            none,
            Err("missing request for cpu in container c of Pod a".to_owned())
        );
    }
}
