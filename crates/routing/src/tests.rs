//! Selection as users meet it, and the compiled matcher against the reference.

use super::*;
use crate::model::*;
use proptest::prelude::*;
use std::sync::Arc;

/// A request in tests.
#[derive(Clone, Debug, Default)]
struct Request {
    host: String,
    path: String,
    headers: Vec<(String, String)>,
    method: String,
    query: String,
}

impl RequestView for Request {
    fn host(&self) -> &str {
        &self.host
    }
    fn path(&self) -> &str {
        &self.path
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_bytes())
    }
    fn method(&self) -> &str {
        if self.method.is_empty() {
            "GET"
        } else {
            &self.method
        }
    }
    fn query(&self) -> &str {
        &self.query
    }
    fn each_value(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        let named = self.headers.iter().filter(|(key, _)| key == name);
        named.for_each(|(_, value)| each(value.as_bytes()));
    }
    fn peer(&self) -> Option<std::net::IpAddr> {
        (self.method != "POST").then(|| [10, 0, 0, 1].into())
    }
    fn port(&self) -> Option<u16> {
        Some(80)
    }
}

fn get(host: &str, path: &str) -> Request {
    Request {
        host: host.into(),
        path: path.into(),
        ..Request::default()
    }
}

pub(crate) fn route(hosts: &[&str], sort_key: i64, matches: Vec<Match>) -> Route {
    // `?.` stands for one label here.
    let pattern = |host: &&str| match (*host, host.strip_prefix("*.")) {
        (label, None) if label.starts_with("?.") => HostPattern::Label(label[2..].into()),
        ("*", _) => HostPattern::Any,
        (_, Some(suffix)) => HostPattern::Suffix(suffix.into()),
        (exact, None) => HostPattern::Exact(exact.into()),
    };
    let origin = Origin {
        dialect: "test",
        kind: "Test".into(),
        namespace: "default".into(),
        name: "test".into(),
        uid: "uid".into(),
        generation: 1,
        field: "spec".into(),
    };
    Route {
        origin,
        bind: None,
        visibility: Visibility::External,
        hosts: hosts.iter().map(pattern).collect(),
        sort_key: SortKey(vec![sort_key]),
        matches,
        request_headers: HeaderOps::default(),
        rewrite_host: None,
        filters: Filters::default(),
        action: Action::Respond(Respond {
            status: 204,
            headers: Vec::new(),
            body: "".into(),
        }),
    }
}

fn prefix(path: &str) -> Match {
    Match {
        path: Some(PathMatch::StringPrefix(path.into())),
        ..Match::default()
    }
}

fn model(routes: Vec<(&str, Route)>) -> Model {
    let routes = routes
        .into_iter()
        .map(|(id, route)| (RouteId(id.into()), Arc::new(route)))
        .collect();
    Model {
        routes,
        ..Model::default()
    }
}

fn backend(id: &str, port: u16) -> Arc<Backend> {
    let endpoint = Endpoint {
        address: ([127, 0, 0, 1], port).into(),
        state: EndpointState::Ready,
        pod: None,
        weight: 1,
        locality: None,
    };
    Arc::new(Backend {
        id: BackendId(id.into()),
        protocol: Protocol::Http1,
        endpoints: vec![endpoint],
        concurrency: 0,
        activation: None,
        timeouts: Timeouts::default(),
        tls: None,
        policy: None,
    })
}

fn forward(backend: &str) -> Action {
    let arm = |weight, id: &str| Arm::new(weight, BackendId(id.into()));
    Action::Forward(Split::new(vec![arm(0, "none"), arm(100, backend)]).expect("a weight"))
}

fn selected(snapshot: &Snapshot, request: &Request) -> Option<String> {
    snapshot
        .select(Visibility::External, request)
        .map(|route| route.id().to_string())
}

#[test]
fn the_most_specific_host_wins_and_nothing_falls_through() {
    let model = model(vec![
        ("exact", route(&["a.b.example"], 0, vec![prefix("/only")])),
        ("long", route(&["*.b.example"], 0, vec![])),
        ("short", route(&["*.example"], 0, vec![])),
        ("any", route(&["*"], 0, vec![])),
        ("label", route(&["?.b.example"], 0, vec![])),
        ("labels", route(&["?.c.d"], 0, vec![])),
    ]);
    let (snapshot, findings) = compile(&model, None);
    assert_eq!(findings, []);
    let check = |host: &str, path: &str, expected: Option<&str>| {
        assert_eq!(
            selected(&snapshot, &get(host, path)).as_deref(),
            expected,
            "{host}{path}"
        );
    };
    check("a.b.example", "/only/this", Some("exact"));
    check("A.B.Example.:8080", "/only", Some("exact"));
    check("a.b.example", "/other", None);
    check("x.y.b.example", "/", Some("long"));
    check("b.example", "/", Some("short"));
    check("example", "/", Some("any"));
    check(".b.example", "/", Some("short"));
    check("x.b.example", "/", Some("label"));
    check("X.C.D:80", "/", Some("labels"));
    check("x.y.c.d", "/", Some("any"));
    check("c.d", "/", Some("any"));
}

#[test]
fn a_cluster_local_route_is_invisible_to_external_listeners() {
    let mut hidden = route(&["hello.default"], 0, vec![]);
    hidden.visibility = Visibility::ClusterLocal;
    let model = model(vec![
        ("hidden", hidden),
        ("open", route(&["hello.example"], 0, vec![])),
    ]);
    let (snapshot, _) = compile(&model, None);
    assert_eq!(selected(&snapshot, &get("hello.default", "/")), None);
    assert!(
        snapshot
            .select(Visibility::ClusterLocal, &get("hello.default", "/"))
            .is_some()
    );
    assert!(
        snapshot
            .select(Visibility::ClusterLocal, &get("hello.example", "/"))
            .is_some()
    );
    assert!(
        snapshot
            .explain(Visibility::External, &get("hello.default", "/"))
            .cluster_local_only
    );
    assert_eq!(snapshot.routes(Visibility::External).len(), 1);
    assert_eq!(snapshot.routes(Visibility::ClusterLocal).len(), 2);
}

#[test]
fn an_endpoint_change_shares_every_host_table() {
    let mut compiler = Compiler::default();
    let mut hello = route(&["hello.example"], 0, vec![]);
    hello.action = forward("default/hello:80");
    compiler.put_route(RouteId("hello".into()), Arc::new(hello));
    compiler.put_backend(backend("default/hello:80", 1));
    let (first, findings) = compiler.compile();
    let missing = Finding::MissingBackend {
        route: RouteId("hello".into()),
        backend: BackendId("none".into()),
    };
    assert_eq!(findings, [missing]);
    compiler.put_backend(backend("default/hello:80", 1));
    assert!(!compiler.is_dirty(), "an equal backend is no change");
    compiler.put_backend(backend("default/hello:80", 2));
    assert!(compiler.is_dirty());
    let (second, findings) = compiler.compile();
    assert_eq!(findings, []);
    assert!(first.shares_host_tables_with(&second));
    let (changed, gone) = second.backend_changes(&first);
    assert_eq!((changed.len(), gone.len()), (1, 0));
    let request = get("hello.example", "/");
    for (snapshot, port) in [(&first, 1), (&second, 2)] {
        let route = snapshot
            .select(Visibility::External, &request)
            .expect("a route");
        let CompiledAction::Forward(split) = &route.action else {
            panic!("not forwarded")
        };
        let backend = snapshot
            .backend_of(split.at(split.total() - 1))
            .expect("a backend");
        assert_eq!(backend.endpoints[0].address.port(), port);
    }
}

#[test]
fn compiling_again_from_scratch_shares_what_is_unchanged() {
    let mut model = model(vec![
        ("a", route(&["a.example"], 0, vec![])),
        ("b", route(&["b.example"], 0, vec![])),
        ("gone", route(&["gone.example"], 0, vec![])),
    ]);
    model
        .backends
        .insert(BackendId("x".into()), backend("x", 1));
    model
        .backends
        .insert(BackendId("y".into()), backend("y", 1));
    let (first, _) = compile(&model, None);
    model.routes.remove(&RouteId("gone".into()));
    model.routes.insert(
        RouteId("b".into()),
        Arc::new(route(&["b.example"], 0, vec![prefix("/b")])),
    );
    model.backends.remove(&BackendId("y".into()));
    let (second, _) = compile(&model, Some(&first));
    let of = |snapshot: &Snapshot, host: &str| {
        snapshot
            .select(Visibility::External, &get(host, "/b"))
            .map(Arc::clone)
    };
    assert!(Arc::ptr_eq(
        &of(&first, "a.example").expect("a"),
        &of(&second, "a.example").expect("a")
    ));
    assert!(!Arc::ptr_eq(
        &of(&first, "b.example").expect("b"),
        &of(&second, "b.example").expect("b")
    ));
    assert!(of(&second, "gone.example").is_none());
    let (changed, gone) = second.backend_changes(&first);
    assert_eq!((changed.len(), gone), (0, vec![BackendId("y".into())]));
}

#[test]
fn a_split_gives_each_arm_its_share_and_zero_weight_none() {
    let arm = |weight, id: &str| Arm::new(weight, BackendId(id.into()));
    let mut split = route(&["*"], 0, vec![]);
    split.action = Action::Forward(
        Split::new(vec![arm(0, "zero"), arm(1, "one"), arm(3, "three")]).expect("weights"),
    );
    let (snapshot, _) = compile(&model(vec![("split", split)]), None);
    let route = snapshot
        .select(Visibility::External, &get("x", "/"))
        .expect("a route");
    let CompiledAction::Forward(split) = &route.action else {
        panic!("not forwarded")
    };
    let picks: Vec<_> = (0..=split.total())
        .map(|point| split.at(point).backend.to_string())
        .collect();
    assert_eq!(picks, ["one", "three", "three", "three", "three"]);
    let weights: Vec<_> = split.weighted().map(|(weight, _)| weight).collect();
    assert_eq!(weights, [1, 3]);
}

#[test]
fn explain_names_the_predicate_that_does_not_hold() {
    let header = HeaderMatch {
        name: "knative-serving-tag".into(),
        value: TextMatch::Exact("blue".into()),
    };
    let tagged = Match {
        path: Some(PathMatch::StringPrefix("/a".into())),
        method: Some("POST".into()),
        headers: vec![header],
        query: vec![QueryMatch {
            name: "a".into(),
            value: TextMatch::Regex("b+".into()),
        }],
        other: Vec::new(),
    };
    let model = model(vec![
        ("tagged", route(&["x"], 0, vec![tagged])),
        ("default", route(&["x"], 1, vec![])),
        ("never", route(&["x"], 2, vec![])),
    ]);
    let (snapshot, _) = compile(&model, None);
    let mut request = get("x", "/b");
    request
        .headers
        .push(("knative-serving-tag".into(), "green".into()));
    let explanation = snapshot.explain(Visibility::External, &request);
    assert_eq!(
        explanation
            .selected()
            .map(|route| route.id().to_string())
            .as_deref(),
        Some("default")
    );
    let Verdict::Missed(missed) = &explanation.considered[0].verdict else {
        panic!("the tagged route matched")
    };
    let texts: Vec<_> = missed[0].iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "path does not begin with /a",
            "method is not POST",
            "header knative-serving-tag is green, wanted blue",
            "query parameter a is missing, wanted a match of b+",
        ]
    );
    assert_eq!(explanation.considered[2].verdict, Verdict::Later);
}

#[test]
fn a_connect_request_takes_routes_for_it_and_no_other() {
    let connect = Match {
        path: Some(PathMatch::Connect),
        ..Match::default()
    };
    let mut routes = vec![
        ("always", route(&["x"], 0, vec![])),
        ("prefix", route(&["x"], 1, vec![prefix("/"), prefix("")])),
        ("connect", route(&["x"], 2, vec![prefix("/y"), connect])),
        ("plain", route(&["y"], 0, vec![])),
    ];
    let ids: Vec<_> = (0..8).map(|number| format!("many{number}")).collect();
    for many in [false, true] {
        if many {
            let others = ids.iter().map(|id| {
                let path = format!("/{id}");
                (&**id, route(&["x"], -1, vec![prefix(&path)]))
            });
            routes.extend(others);
        }
        let (snapshot, _) = compile(&model(routes.clone()), None);
        let request = |host: &str, method: &str| Request {
            method: method.into(),
            ..get(host, "/")
        };
        let tunnel = request("x:443", "CONNECT");
        assert_eq!(selected(&snapshot, &tunnel).as_deref(), Some("connect"));
        assert_eq!(selected(&snapshot, &request("y:443", "CONNECT")), None);
        let plain = request("x", "GET");
        assert_eq!(selected(&snapshot, &plain).as_deref(), Some("always"));
        let explained = snapshot.explain(Visibility::External, &tunnel);
        let taken = explained.selected().map(|route| route.id().to_string());
        assert_eq!(taken.as_deref(), Some("connect"));
    }
}

fn any_host() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a.example",
        "B.example",
        "x.a.example",
        "*.example",
        "*.a.example",
        "?.example",
        "?.a.example",
        "*",
        "example.",
    ])
}

fn any_path_text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["/", "a", "b", "/a", "ab"]), 0..4)
        .prop_map(|parts| parts.concat())
}

fn any_path() -> impl Strategy<Value = Option<PathMatch>> {
    (0..14, any_path_text()).prop_map(|(kind, text)| match kind {
        0..3 => None,
        12 => Some(PathMatch::Regex(format!("{text}b?").into())),
        13 => Some(PathMatch::Connect),
        3..6 => Some(PathMatch::Exact(text.into())),
        6..9 => Some(PathMatch::StringPrefix(text.into())),
        _ => Some(PathMatch::ElementPrefix(text.into())),
    })
}

fn any_header() -> impl Strategy<Value = (String, String)> {
    let text = |options: [&str; 2]| prop::sample::select(options.map(str::to_owned).to_vec());
    (text(["k", "l"]), text(["1", "2"]))
}

fn any_match() -> impl Strategy<Value = Match> {
    let parts = (
        any_path(),
        prop::option::weighted(0.2, prop::sample::select(vec!["GET", "POST"])),
        prop::collection::vec((any_header(), prop::bool::weighted(0.1)), 0..2),
        prop::collection::vec((any_header(), prop::bool::weighted(0.1)), 0..2),
        prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(any_predicate(), 1..3)],
    );
    parts.prop_map(|(path, method, headers, query, other)| {
        let wanted = |value: String, is_regex: bool| match is_regex {
            true => TextMatch::Regex(format!("{value}|3").into()),
            false => TextMatch::Exact(value.into()),
        };
        let headers = headers
            .into_iter()
            .map(|((name, value), regex)| HeaderMatch {
                name: name.into(),
                value: wanted(value, regex),
            });
        let query = query.into_iter().map(|((name, value), regex)| QueryMatch {
            name: name.into(),
            value: wanted(value, regex),
        });
        Match {
            path,
            method: method.map(Into::into),
            headers: headers.collect(),
            query: query.collect(),
            other,
        }
    })
}

fn any_predicate() -> impl Strategy<Value = Predicate> {
    let subject = prop::sample::select(vec![
        Subject::Path,
        Subject::Method,
        Subject::Scheme,
        Subject::Host,
        Subject::Authority,
        Subject::Header("k".into()),
        Subject::Query("k".into()),
        Subject::Cookie("k".into()),
        Subject::Peer,
        Subject::Client,
        Subject::Port,
        Subject::Destination,
        Subject::ServerName,
        Subject::Namespace,
        Subject::Principal,
        Subject::Claim(["k".into()].into()),
    ]);
    let value = prop::sample::select(vec!["1", "/a", "a", "A.example", "", "GET", "10.0.0.1"]);
    let test = (0..11, value, any::<bool>()).prop_map(|(kind, value, ignore_case)| {
        let text = |how| Test::Text {
            how,
            value: value.into(),
            ignore_case,
        };
        match kind {
            0 => Test::Present,
            1 => Test::In([Arc::from(value), "2".into()].into()),
            2 => Test::Network([Network::parse("10.0.0.0/8").expect("a network")].into()),
            3 => Test::Range { min: 0, end: 100 },
            4 => text(TextTest::Prefix),
            5 => text(TextTest::ElementPrefix),
            6 => text(TextTest::Suffix),
            7 => text(TextTest::Contains),
            8 => text(TextTest::Regex),
            _ => text(TextTest::Exact),
        }
    });
    (subject, test, any::<bool>(), any::<bool>()).prop_map(
        |(subject, test, negate, missing_is_empty)| Predicate {
            subject,
            test,
            negate,
            missing_is_empty,
        },
    )
}

const BINDS: [&str; 2] = ["left", "right"];

fn any_bind() -> impl Strategy<Value = Option<BindId>> {
    let names = prop::sample::select(BINDS.to_vec());
    prop::option::weighted(0.6, names.prop_map(|name| BindId(name.into())))
}

fn any_route() -> impl Strategy<Value = Route> {
    let hosts = prop::collection::vec(any_host(), 1..3);
    let matches = prop::collection::vec(any_match(), 0..4);
    let parts = (hosts, -3i64..3, matches, any::<bool>(), any_bind());
    parts.prop_map(|(hosts, key, matches, local, bind)| {
        let mut route = route(&hosts, key, matches);
        route.bind = bind;
        if local {
            route.visibility = Visibility::ClusterLocal;
        }
        route
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    let hosts = vec![
        "a.example",
        "A.example:80",
        "b.example.",
        "x.a.example",
        "q.a.example",
        "example",
        "z",
        ".example",
    ];
    let headers = prop::collection::vec(any_header(), 0..3);
    let query = prop::sample::select(vec!["", "k=1", "l=2&k=2", "k=3&k=1"]);
    let method = prop::sample::select(vec!["GET", "POST", "CONNECT"]);
    let request = (
        prop::sample::select(hosts),
        any_path_text(),
        headers,
        query,
        method,
    );
    request.prop_map(|(host, path, mut headers, query, method)| {
        // Some requests have cookies.
        if headers.len() == 2 {
            headers[0].0 = "cookie".into();
            headers[0].1 = format!("l=0; k={}", headers[0].1);
        }
        Request {
            host: host.into(),
            path,
            headers,
            method: method.into(),
            query: query.into(),
        }
    })
}

/// A record that is put (`Some`) or removed (`None`).
#[derive(Clone, Debug)]
enum Edit {
    Route(u8, Option<Box<Route>>),
    /// A bind and the hosts at which it ends.
    Bind(&'static str, Option<Vec<&'static str>>),
}

fn any_edits() -> impl Strategy<Value = Vec<Edit>> {
    let route = (0u8..20, prop::option::weighted(0.8, any_route()));
    let sealed = prop::collection::vec(any_host(), 0..3);
    let bind = (
        prop::sample::select(BINDS.to_vec()),
        prop::option::weighted(0.8, sealed),
    );
    let edit = prop_oneof![
        4 => route.prop_map(|(number, route)| Edit::Route(number, route.map(Box::new))),
        1 => bind.prop_map(|(name, sealed)| Edit::Bind(name, sealed)),
    ];
    prop::collection::vec(edit, 0..40)
}

impl Edit {
    fn apply(self, model: &mut Model, compiler: &mut Compiler) {
        match self {
            Self::Route(number, edit) => {
                let id = RouteId(format!("route-{number}").into());
                match edit.map(|route| Arc::new(*route)) {
                    Some(route) => {
                        model.routes.insert(id.clone(), Arc::clone(&route));
                        compiler.put_route(id, route);
                    }
                    None => {
                        model.routes.remove(&id);
                        compiler.remove_route(&id);
                    }
                }
            }
            Self::Bind(name, sealed) => {
                let id = BindId(name.into());
                match sealed {
                    Some(sealed) => {
                        let bind = Arc::new(Bind {
                            id: id.clone(),
                            address: ([127, 0, 0, 1], 80).into(),
                            is_tls: false,
                            preamble: None,
                            sealed: route(&sealed, 0, vec![]).hosts,
                            stream: None,
                            gates: Vec::new(),
                        });
                        model.binds.insert(id, Arc::clone(&bind));
                        compiler.put_bind(bind);
                    }
                    None => {
                        model.binds.remove(&id);
                        compiler.remove_bind(&id);
                    }
                }
            }
        }
    }
}

fn agree(snapshot: &Snapshot, model: &Model, requests: &[Request]) -> Result<(), TestCaseError> {
    for request in requests {
        for listener in [Visibility::External, Visibility::ClusterLocal] {
            let expected = reference::select(model, listener, request);
            let got = snapshot.select(listener, request).map(|route| route.id());
            prop_assert_eq!(got, expected, "{:?} {:?}", listener, request);
            let explained = snapshot.explain(listener, request);
            let explained = explained.selected().map(|route| route.id());
            prop_assert_eq!(explained, expected, "explain");
        }
        for bind in BINDS.map(|name| BindId(name.into())) {
            let expected = reference::select_at(model, &bind, request);
            let key = BindKey::new(bind);
            let got = snapshot.select_at(&key, request).map(|route| route.id());
            prop_assert_eq!(got, expected, "{:?} {:?}", key, request);
            let explained = snapshot.explain_at(&key, request);
            let explained = explained.as_ref().and_then(|it| it.selected());
            prop_assert_eq!(explained.map(|route| route.id()), expected, "explain");
        }
    }
    Ok(())
}

#[test]
fn a_bind_ends_the_search_at_its_listeners_hosts() {
    let at = |mut route: Route| {
        route.bind = Some(BindId("gw:80".into()));
        route
    };
    let mut model = model(vec![
        ("any", at(route(&["*"], 0, vec![]))),
        ("wide", at(route(&["*.example"], 0, vec![prefix("/wide")]))),
        (
            "exact",
            at(route(&["a.example"], 0, vec![prefix("/exact")])),
        ),
        ("shared", route(&["a.example"], 0, vec![])),
    ]);
    let id = BindId("gw:80".into());
    let bind = |sealed: &[&str]| {
        Arc::new(Bind {
            id: id.clone(),
            address: ([127, 0, 0, 2], 80).into(),
            sealed: route(sealed, 0, vec![]).hosts,
            is_tls: false,
            preamble: None,
            stream: None,
            gates: Vec::new(),
        })
    };
    let key = BindKey::new(id.clone());
    let check = |model: &Model, path: &str, expected: Option<&str>| {
        let (snapshot, _) = compile(model, None);
        let found = snapshot.select_at(&key, &get("a.example", path));
        assert_eq!(found.map(|route| &*route.id().0), expected, "{path}");
    };
    check(&model, "/exact", None);
    model.binds.insert(id.clone(), bind(&["*"]));
    check(&model, "/exact", Some("exact"));
    check(&model, "/wide", Some("wide"));
    check(&model, "/", Some("any"));
    model.binds.insert(id.clone(), bind(&["*", "*.example"]));
    check(&model, "/wide", Some("wide"));
    check(&model, "/", None);
    model.binds.insert(id.clone(), bind(&["*", "b.example"]));
    let (snapshot, _) = compile(&model, None);
    assert!(
        snapshot
            .select_at(&key, &get("b.example", "/wide"))
            .is_none()
    );
}

#[test]
fn guards_that_nobody_enforces_are_reported() {
    let guards = Guards {
        credentials: Some(Arc::new(Credentials::Basic {
            realm: "r".into(),
            users: vec![
                ("known".into(), Secret("$2y$05$x".into())),
                ("also".into(), Secret("$6$salt$x".into())),
                ("unknown".into(), Secret("$6$rounds=2000000$salt$x".into())),
            ],
            user_header: None,
            forward: false,
        })),
        ..Guards::default()
    };
    let guarded = Filters::from(FilterSet {
        guards: Some(Arc::new(guards)),
        ..FilterSet::default()
    });
    let arm = Arm::new(1, BackendId("b".into()));
    let mut route = route(&["a"], 0, Vec::new());
    route.filters = guarded;
    route.action = Action::Forward(Split::new(vec![arm]).expect("a weight"));
    let mut model = model(vec![("r", route)]);
    let backend = backend("b", 1);
    model.backends.insert(backend.id.clone(), backend);
    let (_, findings) = compile(&model, None);
    let texts: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("user unknown"), "{texts:?}");
}

proptest! {
    #[test]
    fn compiled_matcher_agrees_with_reference(
        edits in any_edits(),
        requests in prop::collection::vec(any_request(), 1..20),
    ) {
        let (mut model, mut compiler) = (Model::default(), Compiler::default());
        let mut last = Snapshot::default();
        for (at, edit) in edits.into_iter().enumerate() {
            edit.apply(&mut model, &mut compiler);
            if at % 7 == 0 {
                agree(&compiler.compile().0, &model, &requests)?;
                last = compile(&model, Some(&last)).0;
                agree(&last, &model, &requests)?;
            }
        }
        agree(&compiler.compile().0, &model, &requests)?;
        agree(&compile(&model, None).0, &model, &requests)?;
        agree(&compile(&model, Some(&last)).0, &model, &requests)?;
    }
}
