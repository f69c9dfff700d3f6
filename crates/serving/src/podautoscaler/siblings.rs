//! What a revision owes to its Service: its share of the Service's own minimum, and as many pods
//! as the revisions before it have for the traffic that it takes over.
//!
//! The second is for a rollout: traffic moves once the revision is Ready, and it is Ready once
//! these pods are, so the load of ten pods does not meet one. Nothing else of the Service is
//! looked at; a revision of a plain Configuration has no siblings here.

use api::autoscaling::annotation::SERVICE_MIN_SCALE;
use api::serving::v1::{Route, Service, TrafficTarget};
use kube::ResourceExt;

/// One revision among those of its Service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Siblings<'a> {
    pub(super) revision: &'a str,
    pub(super) service: &'a Service,
    pub(super) route: &'a Route,
    /// Whether it is the newest that the Service has made.
    pub(super) is_newest: bool,
    /// Whether traffic moves little by little, which leaves the autoscaler time.
    pub(super) is_gradual: bool,
}

impl Siblings<'_> {
    /// Pods that the Service's minimum asks of this revision: its share, rounded up, so that no
    /// revision with traffic starts cold.
    pub(super) fn floor(&self) -> u32 {
        let asked = self.service.annotations().get(SERVICE_MIN_SCALE);
        let asked = asked.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        let percent = u64::from(self.percent());
        let pods = (u64::from(asked) * percent).div_ceil(100);
        u32::try_from(pods).unwrap_or(u32::MAX)
    }

    /// Pods of other revisions for the traffic that will be this one's; `size` tells how many a
    /// revision has.
    pub(super) fn taken_over(&self, size: impl Fn(&str) -> u32) -> u32 {
        let traffic = self.traffic();
        let is_new = self.is_newest && !traffic.iter().any(|it| self.is_named(it));
        if !is_new || self.is_gradual {
            return 0;
        }
        let moving = traffic.iter().filter(|it| it.latest_revision == Some(true));
        let pods = moving.filter_map(|target| {
            let name = target.revision_name.as_deref()?;
            let of_it = traffic
                .iter()
                .filter(|it| it.revision_name.as_deref() == Some(name));
            let whole: u64 = of_it.map(|it| u64::from(percent(it))).sum();
            let moved = u64::from(size(name)) * u64::from(percent(target));
            Some(if whole == 0 { 0 } else { moved.div_ceil(whole) })
        });
        u32::try_from(pods.sum::<u64>()).unwrap_or(u32::MAX)
    }

    /// Of the Service's traffic that is this revision's, or will be once it is Ready.
    fn percent(&self) -> u32 {
        let traffic = self.traffic();
        if traffic.iter().any(|it| self.is_named(it)) {
            let own = traffic.iter().filter(|it| self.is_named(it));
            return own.map(percent).sum();
        }
        if !self.is_newest {
            return 0;
        }
        let asked = self.route.spec.traffic.iter();
        let moving = asked.filter(|it| it.latest_revision == Some(true));
        moving.map(percent).sum()
    }

    fn traffic(&self) -> &[TrafficTarget] {
        let status = self.route.status.as_ref();
        status.map_or(&[], |status| &status.traffic)
    }

    fn is_named(&self, target: &TrafficTarget) -> bool {
        target.revision_name.as_deref() == Some(self.revision)
    }
}

fn percent(target: &TrafficTarget) -> u32 {
    let percent = target.percent.and_then(|it| u32::try_from(it).ok());
    percent.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(min: &str) -> Service {
        let annotations = json!({"autoscaling.suimon.dev/min-scale": min});
        let object = json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Service",
            "metadata": {"name": "hello", "annotations": annotations}, "spec": {},
        });
        serde_json::from_value(object).expect("a Service")
    }

    /// A Route that asks for all traffic to the newest and has this traffic now.
    fn route(traffic: Value) -> Route {
        let object = json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Route", "metadata": {"name": "hello"},
            "spec": {"traffic": [{"latestRevision": true, "percent": 100}]},
            "status": {"traffic": traffic},
        });
        serde_json::from_value(object).expect("a Route")
    }

    fn floor(revision: &str, min: &str, traffic: Value, is_newest: bool) -> u32 {
        let (service, route) = (service(min), route(traffic));
        Siblings {
            revision,
            service: &service,
            route: &route,
            is_newest,
            is_gradual: false,
        }
        .floor()
    }

    fn taken_over(traffic: Value) -> u32 {
        let (service, route) = (service("0"), route(traffic));
        let siblings = Siblings {
            revision: "c",
            service: &service,
            route: &route,
            is_newest: true,
            is_gradual: false,
        };
        siblings.taken_over(|name| if name == "a" { 10 } else { 4 })
    }

    #[test]
    fn the_minimum_of_a_service_is_shared_by_traffic_and_rounded_up() {
        let traffic = json!([
            {"revisionName": "a", "percent": 90},
            {"revisionName": "b", "percent": 9, "latestRevision": true},
            {"revisionName": "b", "percent": 1},
            {"revisionName": "c", "percent": 0, "tag": "old"},
        ]);
        let floor = |revision, min| floor(revision, min, traffic.clone(), false);
        assert_eq!((floor("a", "5"), floor("b", "5")), (5, 1));
        assert_eq!((floor("c", "5"), floor("gone", "5")), (0, 0));
        assert_eq!((floor("a", "0"), floor("a", "many")), (0, 0));
        assert_eq!(floor("a", "4294967295"), 3_865_470_566);
    }

    #[test]
    fn a_new_revision_counts_with_the_traffic_that_it_is_about_to_get() {
        let of_old = json!([{"revisionName": "a", "percent": 100, "latestRevision": true}]);
        assert_eq!(floor("b", "3", of_old.clone(), true), 3);
        assert_eq!(floor("b", "3", json!([]), true), 3);
        // Neither an older one that has no traffic any more.
        assert_eq!(floor("b", "3", of_old, false), 0);
    }

    #[test]
    fn a_new_revision_takes_over_pods_with_the_traffic_that_follows_the_newest() {
        let all = json!([{"revisionName": "a", "percent": 100, "latestRevision": true}]);
        assert_eq!(taken_over(all), 10);
        let part = json!([
            {"revisionName": "a", "percent": 25, "latestRevision": true},
            {"revisionName": "a", "percent": 50},
            {"revisionName": "b", "percent": 25},
        ]);
        // A third of its pods, rounded up.
        assert_eq!(taken_over(part), 4);
        let pinned = json!([{"revisionName": "a", "percent": 100}]);
        assert_eq!(taken_over(pinned), 0);
        let there = json!([
            {"revisionName": "a", "percent": 99, "latestRevision": true},
            {"revisionName": "c", "percent": 1, "latestRevision": true},
        ]);
        assert_eq!(taken_over(there), 0, "it has traffic already");
        assert_eq!(taken_over(json!([])), 0);
    }
}
