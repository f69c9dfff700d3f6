//! Basic and key authentication at the gateway's door.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use routing::model::{Credentials, Secret, TokenPlace};

use super::*;

fn with(credentials: Credentials) -> Guards {
    Guards {
        credentials: Some(Arc::new(credentials)),
        ..Guards::default()
    }
}

fn basic(login: &str) -> String {
    let login = STANDARD.encode(login);
    get(
        "/",
        &format!("Authorization: basic {login}\r\nX-User: forged\r\n"),
    )
}

#[tokio::test]
async fn a_user_is_known_by_the_hash_of_the_password() {
    let server = RawServer::echoing().await;
    let users = [
        ("plain", "{PLAIN}myPassword"),
        ("sha", "{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE="),
        (
            "bcrypt",
            "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC",
        ),
    ];
    let users = users.map(|(name, hash)| (Arc::from(name), Secret(hash.into())));
    let credentials = Credentials::Basic {
        realm: "shop".into(),
        users: users.into(),
        user_header: Some("x-user".into()),
        forward: false,
    };
    let gateway = guarded(&server, with(credentials)).await;
    for user in ["plain", "sha", "bcrypt", "bcrypt"] {
        let answer = ask(gateway.address, basic(&format!("{user}:myPassword"))).await;
        let seen = answer.text();
        assert_eq!(answer.status(), 200, "{user}: {seen}");
        assert!(seen.contains(&format!("x-user: {user}\n")), "{seen}");
        assert!(
            !seen.contains("forged") && !seen.contains("uthorization"),
            "{seen}"
        );
        let wrong = ask(gateway.address, basic(&format!("{user}:other"))).await;
        assert_eq!(wrong.status(), 401);
    }
    for request in [GET.to_owned(), basic("nobody:myPassword"), basic("plain")] {
        let answer = ask(gateway.address, request).await;
        assert_eq!(answer.status(), 401);
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Basic realm=\"shop\"")
        );
    }
}

#[tokio::test]
async fn a_consumer_is_known_by_the_key_in_any_of_its_places() {
    let server = RawServer::echoing().await;
    let credentials = Credentials::Key {
        places: vec![
            TokenPlace::Header {
                name: "x-key".into(),
                prefix: "".into(),
            },
            TokenPlace::Query("key".into()),
            TokenPlace::Cookie("key".into()),
        ],
        keys: vec![
            ("one".into(), Secret("k1".into())),
            ("two".into(), Secret("k2".into())),
        ],
        consumer_header: Some("x-consumer".into()),
        forward: false,
    };
    let gateway = guarded(&server, with(credentials)).await;
    for (request, consumer) in [
        (get("/", "X-Key: k1\r\n"), "one"),
        (get("/?key=k2", ""), "two"),
        (get("/", "Cookie: a=b; key=k2\r\n"), "two"),
    ] {
        let answer = ask(gateway.address, request).await;
        let seen = answer.text();
        assert_eq!(answer.status(), 200);
        assert!(
            seen.contains(&format!("x-consumer: {consumer}\n")),
            "{seen}"
        );
        assert!(!seen.contains("k1") && !seen.contains("?key="), "{seen}");
    }
    let wrong = [
        get("/", ""),
        get("/", "X-Key: k3\r\n"),
        get("/", "X-Key: k\r\n"),
    ];
    assert_eq!(statuses(&gateway, &wrong).await, [401, 401, 401]);
}
