//! Who may do what, through the door: roles and bindings, impersonation, access reviews.

use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};

use super::*;
use crate::admission::User;

/// A server whose callers the test chooses.
pub(super) struct World {
    pub(super) server: Server,
    tasks: Tasks,
    _dir: tempfile::TempDir,
}

impl World {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let tasks = Tasks::new();
        let server = start(settings(dir.path(), vec![widget_crd()]), &tasks)
            .await
            .expect("server");
        Self {
            server,
            tasks,
            _dir: dir,
        }
    }

    /// A client of somebody who has shown their credentials.
    pub(super) fn user(&self, name: &str, groups: &[&str]) -> Client {
        let mut groups: Vec<Arc<str>> = groups.iter().map(|group| (*group).into()).collect();
        groups.push("system:authenticated".into());
        let user = Arc::new(User {
            name: name.into(),
            groups,
            ..User::default()
        });
        let api = Arc::clone(&self.server.api);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let (api, user) = (Arc::clone(&api), Arc::clone(&user));
            async move {
                Ok::<_, Infallible>(Box::pin(api_http::handle(&api, request, Some(&user))).await)
            }
        });
        Client::new(service, "default")
    }

    /// Creates an object as the administrator.
    pub(super) async fn create<K>(&self, api: &Api<K>, value: Value) -> K
    where
        K: kube::Resource
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let object: K = serde_json::from_value(value).expect("object");
        api.create(&PostParams::default(), &object)
            .await
            .expect("created")
    }

    /// Jane may do `verbs` to `resources` of the namespace `default`.
    async fn grant(&self, name: &str, verbs: &[&str], groups: &[&str], resources: &[&str]) {
        let role = json!({
            "metadata": { "name": name },
            "rules": [{ "verbs": verbs, "apiGroups": groups, "resources": resources }],
        });
        let binding = json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane" }],
        });
        self.create(&self.roles(), role).await;
        self.create(&self.bindings(), binding).await;
    }

    fn roles(&self) -> Api<Role> {
        Api::namespaced(self.server.client(), "default")
    }

    fn bindings(&self) -> Api<RoleBinding> {
        Api::namespaced(self.server.client(), "default")
    }

    pub(super) async fn stop(self) {
        drop(self.server);
        assert_eq!(
            self.tasks.drain(Duration::from_secs(10)).await,
            Outcome::Clean
        );
    }
}

async fn asked(client: &Client, path: &str, question: Value, headers: &[(&str, &str)]) -> Value {
    let mut request = Request::post(path).header("Content-Type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(question.to_string().into_bytes())
        .expect("request");
    client.request(request).await.expect("answered")
}

#[tokio::test]
async fn a_binding_allows_in_its_namespace_what_its_role_says_until_it_is_deleted() {
    let world = World::start().await;
    let jane = world.user("jane", &[]);
    let maps: Api<ConfigMap> = Api::namespaced(jane.clone(), "default");
    let refused = status_of(maps.list(&ListParams::default()).await);
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (
            403,
            "configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\""
        )
    );
    world
        .grant("reader", &["get", "list"], &[""], &["configmaps"])
        .await;
    maps.list(&ListParams::default()).await.expect("allowed");
    let elsewhere: Api<ConfigMap> = Api::namespaced(jane.clone(), "kube-system");
    assert_eq!(
        status_of(elsewhere.list(&ListParams::default()).await).code,
        403
    );
    let everywhere: Api<ConfigMap> = Api::all(jane.clone());
    assert_eq!(
        status_of(everywhere.list(&ListParams::default()).await).message,
        "configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \"\" at the cluster scope"
    );
    let write = status_of(
        maps.create(&PostParams::default(), &config_map("a", "1"))
            .await,
    );
    assert_eq!(write.code, 403);
    let watch = maps.watch(&WatchParams::default(), "0").await;
    assert_eq!(status_of(watch.map(|_| ())).code, 403);
    world
        .bindings()
        .delete("reader", &DeleteParams::default())
        .await
        .expect("deleted");
    assert_eq!(status_of(maps.list(&ListParams::default()).await).code, 403);
    world.stop().await;
}

#[tokio::test]
async fn the_roles_of_the_first_start_are_those_that_clients_expect() {
    let world = World::start().await;
    let roles: Api<ClusterRole> = Api::all(world.server.client());
    let bindings: Api<ClusterRoleBinding> = Api::all(world.server.client());
    for name in [
        "cluster-admin",
        "admin",
        "edit",
        "view",
        "system:aggregate-to-admin",
        "system:aggregate-to-edit",
        "system:aggregate-to-view",
        "system:auth-delegator",
        "system:basic-user",
        "system:discovery",
        "system:public-info-viewer",
        "system:service-account-issuer-discovery",
    ] {
        roles.get(name).await.expect(name);
    }
    bindings.get("cluster-admin").await.expect("bound");
    let bound = json!({
        "metadata": { "name": "viewers" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "devs" }],
    });
    world.create(&bindings, bound).await;
    let client = world.user("jane", &["devs"]);
    let pods: Api<Pod> = Api::all(client.clone());
    pods.list(&ListParams::default()).await.expect("may view");
    let secrets: Api<Secret> = Api::all(client);
    assert_eq!(
        status_of(secrets.list(&ListParams::default()).await).code,
        403
    );
    world.stop().await;
}

#[tokio::test]
async fn a_role_for_a_custom_resource_joins_the_role_that_collects_it() {
    let world = World::start().await;
    let roles: Api<ClusterRole> = Api::all(world.server.client());
    let role = json!({
        "metadata": { "name": "widgets-view", "labels": { "rbac.authorization.k8s.io/aggregate-to-view": "true" } },
        "rules": [{ "verbs": ["get"], "apiGroups": ["example.dev"], "resources": ["widgets"] }],
    });
    world.create(&roles, role).await;
    // `view` collects it, `edit` collects `view`, `admin` collects `edit`.
    eventually(&roles, |roles| {
        ["view", "edit", "admin"].iter().all(|name| {
            roles
                .iter()
                .filter(|role| role.name_any() == *name)
                .flat_map(|role| role.rules.iter().flatten())
                .any(|rule| rule.resources.as_deref().unwrap_or_default() == ["widgets".to_owned()])
        })
    })
    .await;
    roles
        .delete("widgets-view", &DeleteParams::default())
        .await
        .expect("deleted");
    eventually(&roles, |roles| {
        let text = serde_json::to_string(roles).expect("JSON");
        !text.contains("widgets")
    })
    .await;
    world.stop().await;
}

#[tokio::test]
async fn an_impersonator_acts_with_the_rights_of_the_other_and_needs_permission() {
    let world = World::start().await;
    let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let admin = world.server.client();
    let headers = [
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "devs"),
        ("Impersonate-Extra-scope%2Fa", "b"),
    ];
    let who = asked(&admin, review, json!({}), &headers).await;
    assert_eq!(
        who["status"]["userInfo"],
        json!({ "username": "jane", "groups": ["devs", "system:authenticated"], "extra": { "scope/a": ["b"] } })
    );
    let account = [("Impersonate-User", "system:serviceaccount:default:robot")];
    let who = asked(&admin, review, json!({}), &account).await;
    assert_eq!(
        who["status"]["userInfo"]["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );
    let get = |path: &str, user: &str| {
        Request::get(path)
            .header("Impersonate-User", user)
            .body(Vec::new())
            .expect("request")
    };
    let pods = "/api/v1/namespaces/default/pods";
    let refused = admin.request::<Value>(get(pods, "jane")).await;
    assert_eq!(status_of(refused).code, 403);
    let jane = world.user("jane", &[]);
    let refused = jane.request::<Value>(get(pods, "bob")).await;
    assert_eq!(
        status_of(refused).message,
        "users \"bob\" is forbidden: User \"jane\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
    // A service account is impersonated in its namespace, so a Role is enough.
    world
        .grant("act", &["impersonate"], &[""], &["serviceaccounts"])
        .await;
    let request = get(
        "/api/v1/namespaces/default/pods",
        "system:serviceaccount:default:robot",
    );
    let refused = status_of(jane.request::<Value>(request).await);
    assert_eq!(
        refused.message,
        "pods is forbidden: User \"system:serviceaccount:default:robot\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    world.stop().await;
}

#[tokio::test]
async fn reviews_answer_from_the_stored_roles() {
    let world = World::start().await;
    world
        .grant("reader", &["get"], &[""], &["configmaps", "pods/log"])
        .await;
    let question = |verb: &str, namespace: &str| json!({ "spec": { "user": "jane", "resourceAttributes": { "verb": verb, "resource": "configmaps", "namespace": namespace } } });
    let reviews: Api<SubjectAccessReview> = Api::all(world.server.client());
    let ask = async |verb, namespace| {
        let review = world.create(&reviews, question(verb, namespace)).await;
        review.status.expect("answer")
    };
    let yes = ask("get", "default").await;
    assert!(yes.allowed);
    assert_eq!(
        yes.reason.as_deref(),
        Some("RBAC: allowed by RoleBinding \"reader/default\" of Role \"reader\" to User \"jane\"")
    );
    assert!(!ask("list", "default").await.allowed);
    assert!(!ask("get", "kube-system").await.allowed);
    let local: Api<LocalSubjectAccessReview> = Api::namespaced(world.server.client(), "default");
    let mut here = question("get", "default");
    here["metadata"] = json!({ "namespace": "default" });
    assert!(
        world
            .create(&local, here)
            .await
            .status
            .expect("answer")
            .allowed
    );
    let there: LocalSubjectAccessReview =
        serde_json::from_value(question("get", "kube-system")).expect("review");
    assert_eq!(
        status_of(local.create(&PostParams::default(), &there).await).code,
        400
    );
    let nobody: SubjectAccessReview = serde_json::from_value(
        json!({ "spec": { "nonResourceAttributes": { "path": "/version", "verb": "get" } } }),
    )
    .expect("review");
    assert_eq!(
        status_of(reviews.create(&PostParams::default(), &nobody).await).code,
        422
    );
    world.stop().await;
}

#[tokio::test]
async fn everyone_may_ask_what_they_may_do_themselves() {
    let world = World::start().await;
    world
        .grant("reader", &["get"], &[""], &["configmaps"])
        .await;
    let jane = world.user("jane", &[]);
    let own: Api<SelfSubjectAccessReview> = Api::all(jane.clone());
    let question = json!({ "spec": { "resourceAttributes": { "verb": "get", "resource": "configmaps", "namespace": "default" } } });
    assert!(
        world
            .create(&own, question)
            .await
            .status
            .expect("answer")
            .allowed
    );
    let path =
        json!({ "spec": { "nonResourceAttributes": { "verb": "get", "path": "/metrics" } } });
    assert!(
        !world
            .create(&own, path)
            .await
            .status
            .expect("answer")
            .allowed
    );
    let rules: Api<SelfSubjectRulesReview> = Api::all(jane.clone());
    let question = json!({ "spec": { "namespace": "default" } });
    let held = world.create(&rules, question).await.status.expect("answer");
    assert!(!held.incomplete);
    assert!(
        held.resource_rules
            .iter()
            .any(|rule| rule.resources.as_deref() == Some(&["configmaps".to_owned()])),
        "{held:?}"
    );
    let about_others: Api<SubjectAccessReview> = Api::all(jane);
    let question = json!({ "spec": { "user": "bob", "nonResourceAttributes": { "path": "/", "verb": "get" } } });
    let question = serde_json::from_value(question).expect("review");
    let refused = status_of(about_others.create(&PostParams::default(), &question).await);
    assert_eq!(refused.code, 403);
    world.stop().await;
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_have() {
    let world = World::start().await;
    world
        .grant(
            "roles",
            &["get", "create"],
            &["rbac.authorization.k8s.io"],
            &["roles", "rolebindings"],
        )
        .await;
    let jane = world.user("jane", &[]);
    let roles: Api<Role> = Api::namespaced(jane.clone(), "default");
    let role = |verbs: Value, resource: &str, group: &str| -> Role {
        serde_json::from_value(json!({
            "metadata": { "name": "more" },
            "rules": [{ "verbs": verbs, "apiGroups": [group], "resources": [resource] }],
        }))
        .expect("role")
    };
    let more = role(json!(["get"]), "secrets", "");
    let refused = status_of(roles.create(&PostParams::default(), &more).await);
    assert_eq!(refused.code, 403);
    assert!(
        refused
            .message
            .contains("is attempting to grant RBAC permissions not currently held")
            && refused
                .message
                .contains("{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"),
        "{}",
        refused.message
    );
    let same = role(json!(["get"]), "roles", "rbac.authorization.k8s.io");
    roles
        .create(&PostParams::default(), &same)
        .await
        .expect("held");
    let bindings: Api<RoleBinding> = Api::namespaced(jane, "default");
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": "more" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane" }],
    }))
    .expect("binding");
    let refused = status_of(bindings.create(&PostParams::default(), &binding).await);
    assert_eq!(refused.code, 403);
    world.stop().await;
}
