//! Tokens of service accounts: asked for, reviewed, verified by others, and ended.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenReview, TokenReviewStatus};
use k8s_openapi::api::core::v1::ServiceAccount;

use super::access::World;
use super::door::{Door, open};
use super::*;

const OWN: &str = "https://kubernetes.default.svc.cluster.local";

fn accounts(client: &Client) -> Api<ServiceAccount> {
    Api::namespaced(client.clone(), "default")
}

async fn request(client: &Client, spec: Value) -> kube::Result<String> {
    let request: TokenRequest = serde_json::from_value(json!({ "spec": spec })).expect("request");
    let answer = accounts(client)
        .create_token_request("robot", &PostParams::default(), &request)
        .await?;
    Ok(answer
        .status
        .and_then(|status| status.token)
        .expect("token"))
}

async fn review(client: &Client, token: &str, audiences: &[&str]) -> TokenReviewStatus {
    let review: TokenReview =
        serde_json::from_value(json!({ "spec": { "token": token, "audiences": audiences } }))
            .expect("review");
    let reviews: Api<TokenReview> = Api::all(client.clone());
    let answer = reviews
        .create(&PostParams::default(), &review)
        .await
        .expect("reviewed");
    answer.status.expect("answer")
}

#[tokio::test]
async fn a_token_names_its_account_for_the_audiences_that_were_asked_for() {
    let world = World::start().await;
    let client = world.server.client();
    world
        .create(
            &accounts(&client),
            json!({ "metadata": { "name": "robot" } }),
        )
        .await;
    let token = request(&client, json!({ "audiences": ["vault", OWN] }))
        .await
        .expect("token");
    let known = review(&client, &token, &["vault", "other"]).await;
    assert_eq!(known.authenticated, Some(true));
    assert_eq!(known.audiences, Some(vec!["vault".to_owned()]));
    let user = known.user.expect("user");
    assert_eq!(
        user.username.as_deref(),
        Some("system:serviceaccount:default:robot")
    );
    assert_eq!(
        user.groups,
        Some(vec![
            "system:serviceaccounts".into(),
            "system:serviceaccounts:default".into(),
            "system:authenticated".into()
        ])
    );
    let other = review(&client, &token, &["other"]).await;
    assert_ne!(other.authenticated, Some(true));
    assert!(other.error.expect("why").contains("audiences"));
    let forged = review(&client, "a.b.c", &[]).await;
    assert_ne!(forged.authenticated, Some(true));
    world.stop().await;
}

#[tokio::test]
async fn a_token_ends_with_its_account_and_with_the_pod_that_it_is_bound_to() {
    let world = World::start().await;
    let client = world.server.client();
    let robot = json!({ "metadata": { "name": "robot" } });
    world.create(&accounts(&client), robot.clone()).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod = |account: &str| json!({ "metadata": { "name": format!("p-{account}") }, "spec": { "serviceAccountName": account, "containers": [{ "name": "c", "image": "i" }] } });
    world.create(&pods, pod("robot")).await;
    world.create(&pods, pod("default")).await;
    let bound = |name: &str| json!({ "audiences": [], "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": name } });
    let refused = status_of(request(&client, bound("p-default")).await);
    assert_eq!(refused.code, 400);
    assert_eq!(
        status_of(request(&client, bound("nothing")).await).code,
        404
    );
    let with_pod = request(&client, bound("p-robot")).await.expect("token");
    let alone = request(&client, json!({ "audiences": [] }))
        .await
        .expect("token");
    let extra = review(&client, &with_pod, &[])
        .await
        .user
        .expect("user")
        .extra;
    assert_eq!(
        extra.expect("extra")["authentication.kubernetes.io/pod-name"],
        ["p-robot"]
    );
    pods.delete("p-robot", &DeleteParams::default())
        .await
        .expect("deleted");
    assert_ne!(
        review(&client, &with_pod, &[]).await.authenticated,
        Some(true)
    );
    assert_eq!(review(&client, &alone, &[]).await.authenticated, Some(true));
    accounts(&client)
        .delete("robot", &DeleteParams::default())
        .await
        .expect("deleted");
    assert_ne!(review(&client, &alone, &[]).await.authenticated, Some(true));
    world.create(&accounts(&client), robot).await;
    let again = review(&client, &alone, &[]).await;
    assert!(again.error.expect("why").contains("made again"));
    world.stop().await;
}

#[tokio::test]
async fn a_token_request_is_checked() {
    let world = World::start().await;
    let client = world.server.client();
    let missing = status_of(request(&client, json!({ "audiences": [] })).await);
    assert_eq!(missing.message, "serviceaccounts \"robot\" not found");
    world
        .create(
            &accounts(&client),
            json!({ "metadata": { "name": "robot" } }),
        )
        .await;
    let short = request(&client, json!({ "audiences": [], "expirationSeconds": 60 })).await;
    assert_eq!(
        status_of(short).message,
        "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes"
    );
    world.stop().await;
}

impl Door {
    async fn get_as(&self, token: &str, path: &str) -> String {
        self.get(path, &format!("Authorization: Bearer {token}\r\n"))
            .await
    }
}

fn body(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").expect("body");
    serde_json::from_str(body).expect("JSON")
}

#[tokio::test]
async fn a_token_opens_the_door_and_anyone_may_verify_it_with_the_published_key() {
    let door = open().await;
    let client = door.server.client();
    let robot: ServiceAccount =
        serde_json::from_value(json!({ "metadata": { "name": "robot" } })).expect("account");
    accounts(&client)
        .create(&PostParams::default(), &robot)
        .await
        .expect("created");
    let token = request(&client, json!({ "audiences": [] }))
        .await
        .expect("token");
    let refused = door.get_as(&token, "/api/v1/namespaces/default/pods").await;
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    assert!(refused.contains("system:serviceaccount:default:robot"));
    let documents = door
        .get_as(&token, "/.well-known/openid-configuration")
        .await;
    assert!(documents.starts_with("HTTP/1.1 200"), "{documents}");
    assert_eq!(body(&documents)["issuer"], OWN);
    assert_eq!(
        body(&documents)["jwks_uri"],
        "https://localhost/openid/v1/jwks"
    );
    let keys = door.get_as(&token, "/openid/v1/jwks").await;
    assert!(keys.contains("application/jwk-set+json"), "{keys}");
    let key = &body(&keys)["keys"][0];
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64");
    let coordinate = |name: &str| decode(key[name].as_str().expect("coordinate"));
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let (text, signature) = token.rsplit_once('.').expect("three parts");
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(text.as_bytes(), &decode(signature))
        .expect("the key of the document verifies the token");
    let header: Value =
        serde_json::from_slice(&decode(text.split_once('.').expect("header").0)).expect("JSON");
    assert_eq!(header["kid"], key["kid"]);
    // A token for others is not one for us.
    let foreign = request(&client, json!({ "audiences": ["vault"] }))
        .await
        .expect("token");
    let refused = door.get_as(&foreign, "/openid/v1/jwks").await;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    door.tasks.drain(Duration::from_secs(10)).await;
}
