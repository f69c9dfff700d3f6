//! Tests of the ConfigMaps: defaults, bounds, templates and domains.

use std::collections::BTreeMap;
use std::time::Duration;

use super::template::{Field, Template, Values};
use super::*;

fn data(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn error_keys(name: &str, entries: &[(&str, &str)]) -> Vec<String> {
    check(name, &data(entries), false)
        .errors
        .into_iter()
        .map(|error| error.key)
        .collect()
}

#[test]
fn missing_config_maps_mean_knatives_defaults() {
    let autoscaler = Autoscaler::default();
    assert_eq!(autoscaler.stable_window, Duration::from_secs(60));
    assert!((autoscaler.container_concurrency_target_fraction - 0.7).abs() < 1e-9);
    assert_eq!(
        autoscaler.scale_to_zero_grace_period,
        Duration::from_secs(30)
    );
    assert_eq!(Defaults::default().revision_timeout_seconds, 300);
    assert_eq!(
        Defaults::default().container_name(&Values::default()),
        "user-container"
    );
    assert_eq!(
        Network::default().ingress_class,
        crate::names::INGRESS_CLASS
    );
    assert_eq!(Gc::default().max_non_active_revisions, Some(1000));
    assert!(Features::default().enabled(Feature::MultiContainer));
    assert!(!Features::default().allowed(Feature::InitContainers));
    assert!(
        Deployment::default()
            .registries_skipping_tag_resolving
            .contains("ko.local")
    );
}

#[test]
fn bad_values_are_reported_together_and_name_their_keys() {
    let keys = error_keys(
        name::AUTOSCALER,
        &[
            ("stable-window", "5s"),
            ("max-scale-up-rate", "1"),
            ("enable-scale-to-zero", "yes"),
            ("panic-window-percentage", "x"),
        ],
    );
    assert_eq!(
        keys,
        [
            "panic-window-percentage",
            "enable-scale-to-zero",
            "max-scale-up-rate",
            "stable-window"
        ]
    );
    let keys = error_keys(
        name::DEFAULTS,
        &[
            ("revision-timeout-seconds", "700"),
            ("revision-cpu-request", "lots"),
        ],
    );
    assert_eq!(keys, ["revision-cpu-request", "revision-timeout-seconds"]);
    assert_eq!(
        error_keys(name::FEATURES, &[("multi-container", "maybe")]),
        ["multi-container"]
    );
    assert_eq!(
        error_keys(
            name::GC,
            &[
                ("min-non-active-revisions", "5"),
                ("max-non-active-revisions", "2")
            ]
        ),
        ["min-non-active-revisions"]
    );
    assert_eq!(
        error_keys(name::DEPLOYMENT, &[("progress-deadline", "0s")]),
        ["progress-deadline"]
    );
}

#[test]
fn the_example_block_is_ignored_and_keys_without_effect_are_reported() {
    let findings = check(
        name::DEPLOYMENT,
        &data(&[
            ("_example", "x"),
            ("queue-sidecar-image", "q"),
            ("typo", "1"),
        ]),
        false,
    );
    assert!(findings.errors.is_empty());
    assert_eq!(findings.warnings.len(), 2);
    assert!(findings.warnings[0].contains("queue-sidecar-image"));
    assert!(findings.warnings[1].contains("typo"));
}

#[test]
fn what_is_asked_for_and_not_done_here_is_told_and_what_is_turned_off_is_not() {
    let warned = |name: &str, pairs: &[(&str, &str)]| {
        let findings = check(name, &data(pairs), false);
        assert!(findings.errors.is_empty(), "{:?}", findings.errors);
        findings.warnings.len()
    };
    let inner = "system-internal-tls";
    assert_eq!(warned(name::NETWORK, &[(inner, "Enabled")]), 1);
    assert_eq!(warned(name::NETWORK, &[(inner, "disabled")]), 0);
    let local = "cluster-local-domain-tls";
    assert_eq!(warned(name::NETWORK, &[(local, "enabled")]), 0);
    assert_eq!(error_keys(name::NETWORK, &[(local, "yes")]), [local]);
    let direct = "domainmapping-direct-route-traffic";
    assert_eq!(warned(name::FEATURES, &[(direct, "enabled")]), 0);
    assert_eq!(warned(name::FEATURES, &[(direct, "disabled")]), 1);
    assert_eq!(error_keys(name::FEATURES, &[(direct, "on")]), [direct]);
    let issuer = ("issuerRef", "kind: ClusterIssuer\nname: letsencrypt");
    assert_eq!(warned(name::CERT_MANAGER, &[issuer]), 1);
}

#[test]
fn the_older_spellings_of_deployment_keys_count_until_the_newer_one_is_there() {
    let older = ("progressDeadline", "30s");
    let deadline = |pairs: &[(&str, &str)]| {
        let config = Deployment::parse(&data(pairs)).expect("valid");
        config.progress_deadline.as_secs()
    };
    assert_eq!(deadline(&[older]), 30);
    assert_eq!(deadline(&[older, ("progress-deadline", "60s")]), 60);
    let none = check(name::DEPLOYMENT, &data(&[older]), false).warnings;
    assert!(none.is_empty(), "{none:?}");
}

#[test]
fn hosts_follow_the_domain_and_tag_templates() {
    let network = Network::parse(&data(&[(
        "domain-template",
        "{{.Name}}-{{ .Namespace }}.{{- .Domain -}}",
    )]));
    // `{{- .Domain -}}` trims white space only, of which there is none here.
    let network = network.expect("valid");
    let values = Values {
        name: "hello",
        namespace: "prod",
        domain: "example.com",
        tag: "blue",
        ..Values::default()
    };
    assert_eq!(
        network.host(&values).as_deref(),
        Ok("hello-prod.example.com")
    );
    assert_eq!(network.tagged(&values).as_deref(), Ok("blue-hello"));
}

#[test]
fn templates_read_annotations_and_refuse_what_they_cannot_evaluate() {
    let annotations = data(&[("sub", "eu"), ("a.b/c", "us")]);
    let values = Values {
        name: "hello",
        annotations: Some(&annotations),
        ..Values::default()
    };
    for (text, want) in [
        (r#"{{index .Annotations "sub"}}.x"#, "eu.x"),
        (r#"{{ index .Annotations "a.b/c" }}"#, "us"),
        ("{{.Annotations.sub}}-{{.Name}}", "eu-hello"),
        (r#"{{index .Labels "none"}}x"#, "x"),
    ] {
        let template = Template::parse(text, &[Field::Name]).expect(text);
        assert_eq!(template.render(&values), want, "{text}");
    }
    for text in [
        "{{.Name",
        "{{.Tag}}",
        "{{if .Name}}x{{end}}",
        "{{printf .Name}}",
        "{{}}",
    ] {
        assert!(Template::parse(text, &[Field::Name]).is_err(), "{text}");
    }
}

#[test]
fn a_template_that_yields_no_host_name_is_refused() {
    assert_eq!(
        error_keys(
            name::NETWORK,
            &[("domain-template", "{{.Name}}_{{.Domain}}")]
        ),
        ["domain-template"]
    );
    assert_eq!(
        error_keys(name::NETWORK, &[("http-protocol", "off")]),
        ["http-protocol"]
    );
}

#[test]
fn the_domain_with_the_most_matching_labels_wins() {
    let domain = Domain::parse(
        &data(&[
            ("example.com", ""),
            ("example.org", "selector:\n  app: a\n"),
            ("example.net", "selector:\n  app: a\n  tier: web\n"),
        ]),
        "localhost",
    )
    .expect("valid");
    assert_eq!(domain.of(&data(&[])), "example.com");
    assert_eq!(domain.of(&data(&[("app", "a")])), "example.org");
    assert_eq!(
        domain.of(&data(&[("app", "a"), ("tier", "web")])),
        "example.net"
    );
    let local = data(&[
        ("app", "a"),
        (crate::names::label::VISIBILITY, "cluster-local"),
    ]);
    assert_eq!(domain.of(&local), "svc.cluster.local");
    assert_eq!(
        Domain::parse(&data(&[]), "localhost")
            .expect("valid")
            .of(&data(&[])),
        "localhost"
    );
    assert!(Domain::parse(&data(&[("not a domain", "")]), "localhost").is_err());
    assert!(Domain::parse(&data(&[("example.com", "selektor: {}")]), "localhost").is_err());
}

#[test]
fn runtime_classes_are_chosen_by_labels() {
    let text = "kata: {}\ngvisor:\n  selector:\n    secure: \"yes\"\n";
    let deployment = Deployment::parse(&data(&[("runtime-class-name", text)])).expect("valid");
    assert_eq!(deployment.runtime_class(&data(&[])), Some("kata"));
    assert_eq!(
        deployment.runtime_class(&data(&[("secure", "yes")])),
        Some("gvisor")
    );
}

#[test]
fn bad_values_are_refused_in_knatives_words() {
    for (config_map, key, value, message) in [
        (
            name::AUTOSCALER,
            "stable-window",
            "1s",
            "stable-window = 1s, must be in [6s; 1h0m0s] range",
        ),
        (
            name::AUTOSCALER,
            "scale-to-zero-grace-period",
            "soon",
            "failed to parse data: failed to parse \"scale-to-zero-grace-period\": time: invalid duration \"soon\"",
        ),
        (
            name::DEFAULTS,
            "revision-timeout-seconds",
            "700",
            "revision-timeout-seconds (700) cannot be greater than max-revision-timeout-seconds (600)",
        ),
        (
            name::GC,
            "retain-since-create-time",
            "x",
            "failed to parse retain-since-create-time: time: invalid duration \"x\"",
        ),
        (
            name::OBSERVABILITY,
            "metrics-protocol",
            "smoke",
            "unsupported protocol \"smoke\"",
        ),
        (
            name::OBSERVABILITY,
            "tracing-protocol",
            "grpc",
            "endpoint should be set for protocol \"grpc\"",
        ),
        (
            name::OBSERVABILITY,
            "tracing-sampling-rate",
            "1.5",
            "sampling rate 1.500000 should be less than or equal to one",
        ),
        (
            name::OBSERVABILITY,
            "logging.request-log-template",
            "{{if .Request}}{{end}}",
            "logging.request-log-template: the action \"if .Request\" at byte 0 is not supported: write one value, with js, json, html, urlquery or print before it or behind |; conditions and loops do not exist here",
        ),
        (
            name::LOGGING,
            "loglevel.controller",
            "loud",
            "invalid logging level: loud",
        ),
        (
            name::LEADER_ELECTION,
            "buckets",
            "11",
            "buckets: value must be between 1 <= 11 <= 10",
        ),
    ] {
        let errors = check(config_map, &data(&[(key, value)]), false).errors;
        let said = errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        let last = said.last().map(String::as_str);
        assert_eq!(last, Some(message), "{config_map} {key}");
    }
}

#[test]
fn knatives_older_keys_of_the_network_are_read_and_the_newer_ones_win() {
    let older = [
        ("ingress.class", "a.example"),
        ("rolloutDuration", "7"),
        ("httpProtocol", "Redirected"),
        ("tagTemplate", "{{.Name}}-{{.Tag}}"),
    ];
    let network = Network::parse(&data(&older)).expect("valid");
    assert_eq!(network.ingress_class, "a.example");
    assert_eq!(network.rollout_duration.as_secs(), 7);
    assert_eq!(network.http_protocol, HttpProtocol::Redirected);
    let mut newer = older.to_vec();
    newer.push(("rollout-duration", "9"));
    let network = Network::parse(&data(&newer)).expect("valid");
    assert_eq!(network.rollout_duration.as_secs(), 9);
    assert!(
        check(name::NETWORK, &data(&newer), false)
            .warnings
            .is_empty()
    );
}

#[test]
fn the_link_to_logs_names_the_revision() {
    let entry = (
        "logging.revision-url-template",
        "http://logs/?id=${REVISION_UID}",
    );
    let config = Observability::parse(&data(&[entry])).expect("valid");
    assert_eq!(
        config.log_url("u-1").as_deref(),
        Some("http://logs/?id=u-1")
    );
    assert_eq!(Observability::default().log_url("u-1"), None);
}

#[test]
fn requests_are_logged_in_knatives_shape_if_asked_for() {
    assert_eq!(Observability::default().request_log, None);
    let enable = ("logging.enable-request-log", "true");
    let config = Observability::parse(&data(&[enable])).expect("valid");
    let standard = accesslog::Template::parse(accesslog::KNATIVE).expect("valid");
    assert_eq!(config.request_log, Some(standard));
    let template = ("logging.request-log-template", "{{.Response.Code}}");
    let probes = ("logging.enable-probe-request-log", "true");
    let config = Observability::parse(&data(&[enable, template, probes])).expect("valid");
    assert!(config.probe_request_log);
    assert!(
        config
            .request_log
            .is_some_and(|log| log.headers().is_empty())
    );
}

#[test]
fn a_collector_of_spans_is_named_by_its_url_or_refused() {
    let parse = |protocol: &str, endpoint: &str| {
        let given = [
            ("tracing-protocol", protocol),
            ("tracing-endpoint", endpoint),
            ("tracing-sampling-rate", "0.25"),
        ];
        Observability::parse(&data(&given)).map(|config| config.tracing)
    };
    let (url, rate) = ("http://collector.default.svc:4318/v1/traces", 0.25);
    let to = SpanTarget::Http(url.to_owned());
    assert_eq!(parse("http/protobuf", url), Ok(Some(Tracing { to, rate })));
    let to = SpanTarget::Grpc("https://[::1]".to_owned());
    assert_eq!(
        parse("grpc", "https://[::1]"),
        Ok(Some(Tracing { to, rate }))
    );
    let to = SpanTarget::Stdout;
    assert_eq!(parse("stdout", ""), Ok(Some(Tracing { to, rate })));
    assert_eq!(parse("none", ""), Ok(None));
    for bad in [
        "collector:4317",
        "http://",
        "http://:4317",
        "http://a:0",
        "http://a:x",
        "http://a b",
        "http://me:pw@a",
    ] {
        let errors = parse("grpc", bad).expect_err(bad);
        assert_eq!(errors[0].key, "tracing-endpoint", "{bad}");
    }
}

#[test]
fn hops_of_kourier_are_counted_as_envoy_counts_them() {
    let hops = |given: &[(&str, &str)]| Kourier::parse(&data(given)).map(|it| it.client_hops);
    let (count, remote) = ("trusted-hops-count", "use-remote-address");
    for (given, expected) in [
        (vec![], 0),
        (vec![(count, "0")], 0),
        (vec![(remote, "true")], 0),
        (vec![(remote, "false")], 1),
        (vec![(count, "2")], 3),
        (vec![(count, "2"), (remote, "false")], 3),
        (vec![(count, "2"), (remote, "true")], 2),
    ] {
        assert_eq!(hops(&given), Ok(expected), "{given:?}");
    }
    assert!(hops(&[(count, "-1")]).is_err());
}

#[test]
fn what_is_told_of_the_proxy_protocol_is_what_the_gateway_does() {
    let told = |value: &str, has_preamble| {
        let data = data(&[("enable-proxy-protocol", value)]);
        check(name::KOURIER, &data, has_preamble).warnings.join("")
    };
    assert_eq!(told("true", true), "");
    assert_eq!(told("false", false), "");
    assert!(told("true", false).contains("start the gateway with --proxy-protocol"));
    assert!(told("false", true).contains("is started with --proxy-protocol"));
    assert!(check(name::KOURIER, &data(&[]), true).warnings.is_empty());
}
