//! Tests of the plan: objects in, KIngress, marks and conditions out.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::condition::READY;
use api::config::{Domain, Features, Network};
use api::networking::v1alpha1::Ingress;
use api::serving::v1::{Configuration, Revision, Route};
use kube::ResourceExt;
use serde_json::{Value, json};

mod tls;

use super::Observed;
use super::plan::{Given, Plan, plan};
use crate::certificate::Ports;
use crate::fixture::{at, config, configuration, object, revision, route, told, written};
use crate::object::Write;
use crate::settings::Config;

const PORTS: Ports = Ports {
    http: Some(8080),
    https: Some(8443),
};

fn latest() -> Route {
    route(json!([{"configurationName": "hello", "latestRevision": true, "percent": 100}]))
}

/// Configuration `hello` with this latest ready revision (empty: none) and value of Ready.
fn following(latest_ready: &str, ready: &str) -> Configuration {
    let mut configuration = configuration();
    configuration.status = Some(object(json!({
        "latestReadyRevisionName": (!latest_ready.is_empty()).then_some(latest_ready),
        "conditions": [{"type": "Ready", "status": ready}],
    })));
    configuration
}

fn observed(configuration: Option<Configuration>, revisions: Vec<Revision>) -> Observed {
    Observed {
        configurations: configuration
            .into_iter()
            .map(|it| (it.name_any(), Arc::new(it)))
            .collect(),
        revisions: revisions
            .into_iter()
            .map(|it| (it.name_any(), Arc::new(it)))
            .collect(),
        ..Observed::default()
    }
}

fn decide_with(route: &Route, observed: &Observed, config: &Config) -> Plan {
    let given = Given {
        config,
        ports: PORTS,
        now: &at(60),
    };
    plan(route, observed, &given)
}

fn decide(route: &Route, observed: &Observed) -> Plan {
    decide_with(route, observed, &config())
}

fn condition<'a>(plan: &'a Plan, type_: &str) -> (&'a str, &'a str, &'a str) {
    told(&plan.status.conditions, type_)
}

/// The children of a first plan, seen by the caches, the KIngress served by the gateway.
fn served(route: &Route, observed: &mut Observed) {
    let plan = decide(route, observed);
    let mut ingress = written(&plan.ingress).as_ref().clone();
    ingress.metadata.generation = Some(1);
    ingress.status = Some(object(json!({
        "observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}],
        "privateLoadBalancer": {"ingress": [
            {"domainInternal": "suimon-gateway-internal.knative-serving.svc.cluster.local"},
        ]},
    })));
    observed.ingress = Some(Arc::new(ingress));
    for placeholder in &plan.placeholders {
        let service = placeholder.object().clone();
        observed
            .services
            .insert(service.name_any(), Arc::new(service));
    }
}

fn hosts(ingress: &Ingress) -> Vec<(String, Vec<String>)> {
    let rules = ingress.spec.rules.iter();
    let of_rule = |rule: &api::networking::v1alpha1::IngressRule| {
        (
            rule.visibility.clone().unwrap_or_default(),
            rule.hosts.clone(),
        )
    };
    rules.map(of_rule).collect()
}

/// `(revision, port, percent)` of the splits of a path.
fn splits(ingress: &Ingress, rule: usize, path: usize) -> Vec<(String, String, i64)> {
    let http = ingress.spec.rules[rule].http.as_ref().expect("paths");
    let splits = http.paths[path].splits.iter();
    let of_split = |split: &api::networking::v1alpha1::IngressBackendSplit| {
        let port = format!("{:?}", split.service_port);
        (
            split.service_name.clone(),
            port,
            split.percent.unwrap_or_default(),
        )
    };
    splits.map(of_split).collect()
}

#[test]
fn a_route_is_served_under_its_public_and_its_local_hosts() {
    let observed = observed(
        Some(following("hello-00001", "True")),
        vec![revision(1, "True")],
    );
    let plan = decide(&latest(), &observed);
    let ingress = written(&plan.ingress);
    let local = [
        "hello.default",
        "hello.default.svc",
        "hello.default.svc.cluster.local",
    ];
    let wanted = vec![
        ("ClusterLocal".to_owned(), local.map(str::to_owned).to_vec()),
        (
            "ExternalIP".to_owned(),
            vec!["hello.default.example.com".to_owned()],
        ),
    ];
    assert_eq!(hosts(&ingress), wanted);
    assert_eq!(
        splits(&ingress, 0, 0),
        [("hello-00001".into(), "Int(80)".into(), 100)]
    );
    let http = ingress.spec.rules[1].http.as_ref().expect("paths");
    let headers = &http.paths[0].splits[0].append_headers;
    assert_eq!(headers["Knative-Serving-Revision"], "hello-00001");
    assert_eq!(headers["Knative-Serving-Namespace"], "default");
    let class = &ingress.annotations()["networking.knative.dev/ingress.class"];
    assert_eq!(class, api::names::INGRESS_CLASS);
    assert_eq!(
        plan.status.url.as_deref(),
        Some("http://hello.default.example.com:8080")
    );
    let address = plan
        .status
        .address
        .as_ref()
        .and_then(|address| address.url.as_deref());
    assert_eq!(address, Some("http://hello.default.svc.cluster.local"));
    let placeholder = plan.placeholders[0].object().spec.clone().expect("a spec");
    let gateway = "suimon-gateway-internal.knative-serving.svc.cluster.local";
    assert_eq!(placeholder.external_name.as_deref(), Some(gateway));
    let message = "Ingress has not yet been reconciled.";
    assert_eq!(
        condition(&plan, READY),
        ("Unknown", "IngressNotConfigured", message)
    );
    let tls = (
        "True",
        "TLSNotEnabled",
        "external-domain-tls is not enabled",
    );
    assert_eq!(condition(&plan, "CertificateProvisioned"), tls);
}

#[test]
fn a_route_is_ready_only_when_the_gateway_serves_this_generation() {
    let mut observed = observed(
        Some(following("hello-00001", "True")),
        vec![revision(1, "True")],
    );
    served(&latest(), &mut observed);
    let plan = decide(&latest(), &observed);
    assert_eq!(condition(&plan, READY).0, "True");
    assert_eq!(
        (&plan.ingress, plan.placeholders.len(), plan.stale.len()),
        (&None, 0, 0)
    );
    let mut newer = observed.ingress.as_deref().expect("made").clone();
    newer.metadata.generation = Some(2);
    observed.ingress = Some(Arc::new(newer));
    assert_eq!(
        condition(&decide(&latest(), &observed), READY).1,
        "IngressNotConfigured"
    );
}

#[test]
fn targets_that_cannot_be_resolved_leave_the_served_split_alone() {
    let missing = "Configuration \"hello\" referenced in traffic not found.";
    let waits = "Configuration \"hello\" is waiting for a Revision to become ready.";
    let never = "Configuration \"hello\" does not have any ready Revision.";
    let pinned = route(json!([{"revisionName": "hello-00001", "percent": 100}]));
    let not_found = "Revision \"hello-00001\" referenced in traffic not found.";
    let not_ready = "Revision \"hello-00001\" is not yet ready.";
    let failed = "Revision \"hello-00001\" failed to become ready.";
    let mut other = revision(1, "True");
    other
        .metadata
        .labels
        .get_or_insert_default()
        .insert("serving.knative.dev/service".into(), "other".into());
    let mut alone = other.clone();
    alone.metadata.labels = None;
    let of_other = "Revision \"hello-00001\" belongs to Service \"other\", not Service \"hello\".";
    let of_none = "Revision \"hello-00001\" does not belong to Service \"hello\".";
    for (route, observed, wanted) in [
        (
            latest(),
            observed(None, vec![]),
            ("False", "ConfigurationMissing", missing),
        ),
        (
            latest(),
            observed(Some(following("", "Unknown")), vec![]),
            ("Unknown", "RevisionMissing", waits),
        ),
        (
            latest(),
            observed(Some(following("", "False")), vec![]),
            ("False", "RevisionMissing", never),
        ),
        (
            pinned.clone(),
            observed(None, vec![]),
            ("False", "RevisionMissing", not_found),
        ),
        (
            pinned.clone(),
            observed(None, vec![revision(1, "")]),
            ("Unknown", "RevisionMissing", not_ready),
        ),
        (
            pinned.clone(),
            observed(None, vec![revision(1, "False")]),
            ("False", "RevisionMissing", failed),
        ),
        (
            pinned.clone(),
            observed(None, vec![other]),
            ("False", "RevisionNotOwned", of_other),
        ),
        (
            pinned,
            observed(None, vec![alone]),
            ("False", "RevisionNotOwned", of_none),
        ),
    ] {
        let plan = decide(&route, &observed);
        assert_eq!(condition(&plan, "AllTrafficAssigned"), wanted);
        assert_eq!(condition(&plan, READY), wanted);
        assert_eq!(plan.ingress, None);
        assert_eq!(
            plan.placeholders.len(),
            1,
            "the name resolves while the revision starts"
        );
    }
}

#[test]
fn percentages_and_tags_become_splits_and_hosts_of_their_own() {
    let route = route(json!([
        {"revisionName": "hello-00001", "percent": 60, "tag": "old"},
        {"configurationName": "hello", "latestRevision": true, "percent": 30},
        {"revisionName": "hello-00002", "percent": 10},
        {"revisionName": "hello-00001", "tag": "test"},
    ]));
    let revisions = vec![revision(1, "True"), revision(2, "True")];
    let observed = observed(Some(following("hello-00002", "True")), revisions);
    let plan = decide(&route, &observed);
    let ingress = written(&plan.ingress);
    let main = [
        ("hello-00001".into(), "Int(80)".into(), 60),
        ("hello-00002".into(), "Int(80)".into(), 40),
    ];
    assert_eq!(splits(&ingress, 1, 0), main);
    let tagged = [("hello-00001".into(), "Int(80)".into(), 100)];
    assert_eq!(
        (splits(&ingress, 3, 0), splits(&ingress, 5, 0)),
        (tagged.to_vec(), tagged.to_vec())
    );
    assert_eq!(hosts(&ingress)[3].1, ["old-hello.default.example.com"]);
    assert_eq!(hosts(&ingress)[4].1[0], "test-hello.default");
    let placeholders = plan
        .placeholders
        .iter()
        .map(|write| write.object().name_any());
    assert_eq!(
        placeholders.collect::<Vec<_>>(),
        ["hello", "old-hello", "test-hello"]
    );
    let traffic = json!(plan.status.traffic);
    assert_eq!(
        traffic[0]["url"],
        "http://old-hello.default.example.com:8080"
    );
    assert_eq!(traffic[1]["revisionName"], "hello-00002");
    assert_eq!(traffic[1]["latestRevision"], true);
    assert_eq!(traffic[3].get("percent"), None);
}

#[test]
fn an_h2c_revision_is_reached_at_the_port_of_its_protocol() {
    let mut revision = revision(1, "True");
    let ports = json!([{"name": "h2c", "containerPort": 8080}]);
    revision.spec.pod.containers[0].ports = Some(object(ports));
    let observed = observed(Some(following("hello-00001", "True")), vec![revision]);
    let ingress = written(&decide(&latest(), &observed).ingress);
    assert_eq!(splits(&ingress, 0, 0)[0].1, "Int(81)");
}

#[test]
fn cluster_local_routes_and_tags_get_no_public_host() {
    let mut hidden = latest();
    hidden.labels_mut().insert(
        "networking.knative.dev/visibility".into(),
        "cluster-local".into(),
    );
    let everything = observed(
        Some(following("hello-00001", "True")),
        vec![revision(1, "True")],
    );
    let plan = decide(&hidden, &everything);
    assert_eq!(hosts(&written(&plan.ingress)).len(), 1);
    let local = "http://hello.default.svc.cluster.local";
    assert_eq!(plan.status.url.as_deref(), Some(local));

    let mut by_domain = config();
    by_domain.domain = Domain::parse(&BTreeMap::new(), "svc.cluster.local").expect("valid");
    let plan = decide_with(&latest(), &everything, &by_domain);
    assert_eq!(plan.status.url.as_deref(), Some(local));

    let tagged = route(json!([{"revisionName": "hello-00001", "percent": 100, "tag": "t"}]));
    let mut everything = observed(None, vec![revision(1, "True")]);
    served(&tagged, &mut everything);
    let mut placeholder = everything.services["t-hello"].as_ref().clone();
    placeholder.labels_mut().insert(
        "networking.knative.dev/visibility".into(),
        "cluster-local".into(),
    );
    everything
        .services
        .insert("t-hello".into(), Arc::new(placeholder));
    let plan = decide(&tagged, &everything);
    assert_eq!(hosts(&written(&plan.ingress)).len(), 3);
    let url = plan.status.traffic[0].url.as_deref();
    assert_eq!(url, Some("http://t-hello.default.svc.cluster.local"));
    assert!(plan.placeholders.is_empty(), "the user's label stays");
}

#[test]
fn revisions_are_marked_before_traffic_moves_and_released_only_after() {
    let revisions = vec![revision(1, "True"), revision(2, "True")];
    let mut observed = observed(Some(following("hello-00001", "True")), revisions);
    served(&latest(), &mut observed);
    let carry = |revision: &mut Revision, state: &str| {
        revision
            .labels_mut()
            .insert("serving.knative.dev/routingState".into(), state.into());
        revision
            .annotations_mut()
            .insert("serving.knative.dev/routes".into(), "hello".into());
    };
    let mut first = revision(1, "True");
    carry(&mut first, "active");
    observed
        .revisions
        .insert("hello-00001".into(), Arc::new(first));
    let moved = Arc::new(following("hello-00002", "True"));
    observed.configurations.insert("hello".into(), moved);

    let moving = decide(&latest(), &observed);
    let marked: Vec<&str> = moving
        .marks
        .revisions
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(marked, ["hello-00002"]);
    let patch = &moving.marks.revisions[0].patch["metadata"];
    assert_eq!(
        patch["labels"]["serving.knative.dev/routingState"],
        "active"
    );
    assert_eq!(patch["annotations"]["serving.knative.dev/routes"], "hello");
    assert!(matches!(moving.ingress, Some(Write::Replace(_))));

    let mut second = revision(2, "True");
    carry(&mut second, "active");
    observed
        .revisions
        .insert("hello-00002".into(), Arc::new(second));
    let mut ingress = written(&moving.ingress).as_ref().clone();
    observed.ingress = Some(Arc::new(ingress.clone()));
    ingress.metadata.generation = Some(2);
    observed.ingress = Some(Arc::new(ingress.clone()));
    assert!(
        decide(&latest(), &observed).marks.revisions.is_empty(),
        "not served yet"
    );
    ingress.status.get_or_insert_default().observed_generation = Some(2);
    observed.ingress = Some(Arc::new(ingress));
    let served = decide(&latest(), &observed);
    let patch = &served.marks.revisions[0];
    assert_eq!(patch.name, "hello-00001");
    let state = &patch.patch["metadata"]["labels"]["serving.knative.dev/routingState"];
    assert_eq!(state, "reserve");
    assert_eq!(
        patch.patch["metadata"]["annotations"]["serving.knative.dev/routes"],
        Value::Null
    );
}

#[test]
fn a_revision_that_was_passed_over_goes_into_reserve() {
    let revisions = vec![revision(1, ""), revision(2, "True"), revision(3, "")];
    let mut observed = observed(Some(following("hello-00002", "True")), revisions);
    served(&latest(), &mut observed);
    let plan = decide(&latest(), &observed);
    let reserved = plan.marks.revisions.iter().filter(|mark| {
        mark.patch["metadata"]["labels"]["serving.knative.dev/routingState"] == "reserve"
    });
    let reserved: Vec<&str> = reserved.map(|mark| mark.name.as_str()).collect();
    assert_eq!(reserved, ["hello-00001"]);
}

#[test]
fn placeholders_of_removed_tags_are_deleted_and_foreign_services_reported() {
    let tagged = route(json!([{"revisionName": "hello-00001", "percent": 100, "tag": "t"}]));
    let mut everything = observed(
        Some(following("hello-00001", "True")),
        vec![revision(1, "True")],
    );
    served(&tagged, &mut everything);
    assert_eq!(decide(&latest(), &everything).stale, ["t-hello"]);
    let mut foreign = everything.services["hello"].as_ref().clone();
    foreign.metadata.owner_references = None;
    everything
        .services
        .insert("hello".into(), Arc::new(foreign));
    let message = "There is an existing placeholder Service \"hello\" that we do not own.";
    let plan = decide(&latest(), &everything);
    assert_eq!(
        condition(&plan, "IngressReady"),
        ("False", "NotOwned", message)
    );
}

#[test]
fn tags_are_chosen_by_header_when_the_feature_is_on() {
    let mut config = config();
    let on = BTreeMap::from([("tag-header-based-routing".to_owned(), "Enabled".to_owned())]);
    config.features = Features::parse(&on).expect("valid");
    let route = route(json!([
        {"revisionName": "hello-00001", "percent": 100},
        {"revisionName": "hello-00002", "tag": "next"},
    ]));
    let observed = observed(None, vec![revision(1, "True"), revision(2, "True")]);
    let ingress = written(&decide_with(&route, &observed, &config).ingress);
    let http = ingress.spec.rules[0].http.as_ref().expect("paths");
    assert_eq!(http.paths[0].headers["Knative-Serving-Tag"].exact, "next");
    assert_eq!(splits(&ingress, 0, 0)[0].0, "hello-00002");
    assert_eq!(
        http.paths[1].append_headers["Knative-Serving-Default-Route"],
        "true"
    );
    assert_eq!(splits(&ingress, 0, 1)[0].0, "hello-00001");
    let of_tag = ingress.spec.rules[2].http.as_ref().expect("paths");
    assert_eq!(
        of_tag.paths[0].append_headers["Knative-Serving-Tag"],
        "next"
    );
}

#[test]
fn a_gradual_rollout_moves_traffic_step_by_step_and_says_so() {
    let mut gradual = latest();
    gradual
        .annotations_mut()
        .insert("serving.knative.dev/rolloutDuration".into(), "61s".into());
    let revisions = || vec![revision(1, "True"), revision(2, "True")];
    let mut observed = observed(Some(following("hello-00001", "True")), revisions());
    served(&gradual, &mut observed);
    let first = decide(&gradual, &observed);
    assert_eq!((condition(&first, READY).0, first.again), ("True", None));

    observed
        .configurations
        .insert("hello".into(), Arc::new(following("hello-00002", "True")));
    let begun = decide(&gradual, &observed);
    let ingress = written(&begun.ingress);
    let split = |ingress: &Ingress| -> Vec<(String, i64)> {
        let splits = splits(ingress, 0, 0).into_iter();
        splits
            .map(|(revision, _, percent)| (revision, percent))
            .collect()
    };
    assert_eq!(
        split(&ingress),
        [
            ("hello-00001".to_owned(), 99),
            ("hello-00002".to_owned(), 1)
        ]
    );
    served(&gradual, &mut observed);
    let serving = decide(&gradual, &observed);
    assert_eq!(condition(&serving, READY).1, "RolloutInProgress");
    let shares: Vec<_> = serving.status.traffic.iter().map(|it| it.percent).collect();
    assert_eq!(shares, [Some(99), Some(1)]);
    // Served within the same second: 60 s for 99 percent in 60 steps of (rounded) 2 percent.
    assert_eq!(serving.again, Some(std::time::Duration::from_secs(1)));

    let ingress = written(&serving.ingress);
    observed.ingress = Some(Arc::new(ingress.as_ref().clone()));
    let given = Given {
        config: &config(),
        ports: PORTS,
        now: &at(61),
    };
    let stepped = written(&plan(&gradual, &observed, &given).ingress);
    assert_eq!(
        split(&stepped),
        [
            ("hello-00001".to_owned(), 97),
            ("hello-00002".to_owned(), 3)
        ]
    );
}

#[test]
fn a_template_that_gives_no_host_name_is_reported() {
    let mut config = config();
    let template = "{{.Name}}.{{index .Annotations \"zone\"}}.{{.Domain}}";
    let network = BTreeMap::from([("domain-template".to_owned(), template.to_owned())]);
    config.network = Network::parse(&network).expect("valid");
    let plan = decide_with(&latest(), &observed(None, vec![]), &config);
    assert_eq!(condition(&plan, READY).1, "ErrorConfig");
}

#[test]
fn a_plan_of_its_own_result_changes_nothing() {
    let mut observed = observed(
        Some(following("hello-00001", "True")),
        vec![revision(1, "True")],
    );
    served(&latest(), &mut observed);
    let first = decide(&latest(), &observed);
    let mut stored = latest();
    stored.status = Some(first.status.clone());
    let given = Given {
        config: &config(),
        ports: PORTS,
        now: &at(999),
    };
    let second = plan(&stored, &observed, &given);
    assert_eq!((second.status, second.ingress), (first.status, None));
}
