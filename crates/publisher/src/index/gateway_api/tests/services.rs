//! The same for routes whose parent is a Service.

use super::*;
use api::gateway::v1::HttpRoute;
use routing::{CompiledAction, RequestView};

/// A request for `/` from a namespace.
struct From(Option<&'static str>);

impl RequestView for From {
    fn host(&self) -> &str {
        "any.example"
    }
    fn path(&self) -> &str {
        "/"
    }
    fn header(&self, _: &str) -> Option<&[u8]> {
        None
    }
    fn method(&self) -> &str {
        "GET"
    }
    fn query(&self) -> &str {
        ""
    }
    fn namespace(&self) -> Option<&str> {
        self.0
    }
}

const BIND: &str = "Service default/shop 10.96.0.7:80";

impl Rig {
    fn shop(&mut self) {
        let metadata = json!({"name": "shop", "namespace": "default"});
        let spec = json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]});
        let service = json!({"metadata": metadata, "spec": spec});
        self.apply(|pending| drop(pending.services.insert(name("shop"), read(service))));
    }

    fn at_shop(&mut self, of: &str, path: &str) {
        self.at_shop_from("default", of, path);
    }

    fn at_shop_from(&mut self, namespace: &str, of: &str, path: &str) {
        let parent =
            json!({"group": "", "kind": "Service", "name": "shop", "namespace": "default"});
        let object: Option<Arc<HttpRoute>> = read(json!({
            "metadata": {"name": of, "namespace": namespace, "uid": of, "generation": 1},
            "spec": {
                "parentRefs": [parent],
                "rules": [{
                    "matches": [{"path": {"type": "PathPrefix", "value": path}}],
                    "backendRefs": [{"name": "one", "namespace": "default", "port": 80}],
                }],
            },
        }));
        let name = Name::new(namespace, of);
        self.apply(|pending| drop(pending.http_routes.insert(name, object)));
    }

    fn forget(&mut self, of: &str) {
        self.forget_from("default", of);
    }

    fn forget_from(&mut self, namespace: &str, of: &str) {
        let name = Name::new(namespace, of);
        self.apply(|pending| drop(pending.http_routes.insert(name, None)));
    }

    /// Whose request for `/` of any host is.
    fn owner(&mut self) -> Option<String> {
        self.owner_for(None)
    }

    /// The same for a request from a namespace.
    fn owner_for(&mut self, namespace: Option<&'static str>) -> Option<String> {
        let bind = BindKey::new(BindId(BIND.into()));
        let snapshot = self.snapshot();
        let route = snapshot.select_at(&bind, &From(namespace))?;
        let origin = route.origin();
        let what = match route.action {
            CompiledAction::Respond(_) => " answers",
            _ => "",
        };
        Some(format!("{} {}{what}", origin.kind, origin.name))
    }

    /// Whether new connections from a namespace go to the Service as they are.
    fn is_passed_on(&mut self, namespace: Option<&str>) -> bool {
        let bind = BindKey::new(BindId(BIND.into()));
        self.snapshot().passed_on_at(&bind, namespace).is_some()
    }

    fn is_open(&self) -> bool {
        let binds = &self.index.gateway_api.binds;
        binds.is_open(&BindId(BIND.into()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_has_a_socket_of_the_gateway_as_long_as_any_route_wants_it() {
    let mut rig = Rig::new();
    rig.at_shop("a", "/");
    // The Service is not there yet.
    assert_eq!(rig.owner(), None);
    rig.shop();
    rig.at_shop("b", "/b");
    rig.index.settle_binds(rig.now).await;
    assert!(rig.is_open());
    assert_eq!(rig.owner().as_deref(), Some("HTTPRoute a"));
    rig.forget("a");
    rig.index.settle_binds(rig.now).await;
    assert!(rig.is_open());
    // What no route wants is nobody's.
    assert_eq!(rig.owner(), None);

    rig.forget("b");
    // Until the socket is given back, calls are answered as they will be then.
    assert!(rig.is_open());
    assert_eq!(rig.owner().as_deref(), Some("Service shop"));
    rig.index.settle_binds(rig.now).await;
    assert!(!rig.is_open());
    assert_eq!(rig.owner(), None);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_comes_back_at_once_has_everything_again() {
    let mut rig = Rig::new();
    rig.shop();
    rig.at_shop("a", "/");
    rig.index.settle_binds(rig.now).await;
    rig.forget("a");
    rig.at_shop("b", "/b");
    rig.index.settle_binds(rig.now).await;
    assert!(rig.is_open());
    assert_eq!(rig.owner(), None, "the Service's own answer is gone");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_with_routes_of_its_own_has_those_and_no_others() {
    let mut rig = Rig::new();
    rig.shop();
    rig.at_shop_from("near", "a", "/a");
    // Nobody else is concerned.
    assert_eq!(rig.owner_for(None).as_deref(), Some("Service shop"));
    assert_eq!(rig.owner_for(Some("far")).as_deref(), Some("Service shop"));
    assert!(rig.is_passed_on(None) && rig.is_passed_on(Some("far")));
    assert!(!rig.is_passed_on(Some("near")));
    let unanswered = Some("Service shop answers");
    assert_eq!(rig.owner_for(Some("near")).as_deref(), unanswered);
    rig.at_shop_from("near", "b", "/");
    assert_eq!(rig.owner_for(Some("near")).as_deref(), Some("HTTPRoute b"));

    rig.at_shop("everybody", "/");
    assert!(!rig.is_passed_on(None) && !rig.is_passed_on(Some("far")));
    let (near, far) = (rig.owner_for(Some("near")), rig.owner_for(Some("far")));
    assert_eq!(near.as_deref(), Some("HTTPRoute b"));
    assert_eq!(far.as_deref(), Some("HTTPRoute everybody"));
    rig.forget_from("near", "b");
    assert_eq!(rig.owner_for(Some("near")).as_deref(), unanswered);
    rig.forget_from("near", "a");
    let near = rig.owner_for(Some("near"));
    assert_eq!(near.as_deref(), Some("HTTPRoute everybody"));

    rig.index.settle_binds(rig.now).await;
    rig.forget("everybody");
    assert_eq!(rig.owner_for(Some("near")).as_deref(), Some("Service shop"));
    assert!(rig.is_passed_on(Some("near")));
    rig.index.settle_binds(rig.now).await;
    assert!(!rig.is_open());
    assert_eq!(rig.owner_for(Some("near")), None);
}
