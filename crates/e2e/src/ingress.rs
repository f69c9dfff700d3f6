//! Kubernetes Ingress: paths, a default backend, TLS, and what is told about what is not served.

use std::net::SocketAddr;

use serde_json::Value;

use crate::{Server, guest, http};

const APP: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: WHO}
spec:
  selector: {matchLabels: {app: WHO}}
  template:
    metadata: {labels: {app: WHO}}
    spec: {containers: [{name: app, image: example.com/e2e/guest, env: [{name: NAME, value: WHO}, {name: PORT, value: '8080'}], ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: WHO}
spec: {selector: {app: WHO}, ports: [{name: web, port: 80, targetPort: 8080}]}
---
";

const INGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  annotations: {nginx.ingress.kubernetes.io/proxy-read-timeout: '60'}
spec:
  ingressClassName: nginx
  rules:
  - host: shop.example.com
    http:
      paths:
      - {path: /env, pathType: Prefix, backend: {service: {name: right, port: {name: web}}}}
      - {path: /env/NAME, pathType: Exact, backend: {service: {name: left, port: {number: 80}}}}
      - {path: /late, pathType: Prefix, backend: {service: {name: late, port: {number: 80}}}}
  - host: '*.example.com'
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: right, port: {number: 80}}}}]}
";

/// What the answer says, once it is 200.
async fn answer(server: &Server, at: SocketAddr, host: &str, path: &str) -> anyhow::Result<String> {
    let answer = server.answered(at, (host, path), 200).await?;
    Ok(answer.body.trim().to_owned())
}

/// Where an Ingress is served, by its status.
async fn address(server: &Server, name: &str) -> anyhow::Result<SocketAddr> {
    let status = || async {
        let ingress = server
            .object(&["ingresses.networking.k8s.io", name])
            .await?;
        let point = ingress["status"]["loadBalancer"]["ingress"][0].clone();
        let ip = point["ip"].as_str().map(str::to_owned);
        let port = point["ports"][0]["port"].as_i64();
        Ok(ip.zip(port))
    };
    let (ip, port) = server.eventually("the gateway's address", status).await?;
    Ok(format!("{ip}:{port}").parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_of_another_controller_is_served_and_told_about() -> anyhow::Result<()> {
    let server = Server::start().await?;
    guest::add_image(&server).await?;
    let apps = [APP.replace("WHO", "left"), APP.replace("WHO", "right")].concat();
    server.apply(&apps).await?;
    server.apply(INGRESS).await?;
    let at = address(&server, "shop").await?;
    let host = "shop.example.com";
    assert_eq!(answer(&server, at, host, "/env/NAME").await?, "left");
    assert_eq!(
        answer(&server, at, "x.example.com", "/env/NAME").await?,
        "right"
    );
    assert_eq!(http::get(at, host, "/envelope").await?.status, 404);
    assert_eq!(http::get(at, "x.y.example.com", "/").await?.status, 404);
    assert_eq!(http::get(at, host, "/late").await?.status, 503);
    let told = || async {
        let events = server.object(&["events"]).await?;
        let events = events["items"].as_array().cloned().unwrap_or_default();
        let has = |reason: &str, part: &str| {
            let says = |event: &Value| {
                let message = event["message"].as_str().unwrap_or_default();
                event["reason"] == reason && message.contains(part)
            };
            events.iter().any(says)
        };
        let all = has("ServiceMissing", "default/late")
            && has("AnnotationNotSupported", "proxy-read-timeout");
        Ok(all.then_some(()))
    };
    server.eventually("events", told).await?;
    // What was missing is served once it is there.
    server.apply(&APP.replace("WHO", "late")).await?;
    let late = || async {
        let answer = http::get(at, host, "/late").await?;
        Ok((answer.status != 503).then_some(()))
    };
    server.eventually("the late Service", late).await?;
    let deleted = server
        .suimon(&["delete", "ingresses.networking.k8s.io", "shop"])
        .await?;
    assert!(deleted.status.success(), "{deleted:?}");
    let gone = server.answered(at, (host, "/env/NAME"), 404).await;
    gone.map(drop)
}

/// An Ingress at `NAME.example.com` with annotations of ingress-nginx.
fn annotated(name: &str, path: &str, annotations: &[(&str, &str)]) -> String {
    let lines = annotations
        .iter()
        .map(|(key, value)| format!("    nginx.ingress.kubernetes.io/{key}: '{value}'\n"));
    let lines: String = lines.collect();
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  annotations:\n{lines}\
         spec:\n  rules:\n  - host: {name}.example.com\n    http: {{paths: [{{path: '{path}', \
         pathType: ImplementationSpecific, backend: {{service: {{name: app, port: {{number: 80}}}}}}}}]}}\n---\n"
    )
}

/// An Ingress that has the app itself asked at a path; who must sign in is sent elsewhere.
fn asked(name: &str, path: &str) -> String {
    let url = format!("http://app.default.svc.cluster.local{path}");
    let sign_in = ("auth-signin", "https://login.example.com/");
    annotated(name, "/", &[("auth-url", &url), sign_in])
}

/// Of the class of ingress-nginx, where a host with a certificate is served over TLS alone.
const TLS_ONLY: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: covered}
spec:
  ingressClassName: nginx
  tls: [{hosts: [covered.example.com], secretName: later}]
  rules: [{host: covered.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: app, port: {number: 80}}}}]}}]
---
";

#[tokio::test(flavor = "multi_thread")]
async fn annotations_of_ingress_nginx_decide_who_passes_and_where_to() -> anyhow::Result<()> {
    let server = Server::start().await?;
    guest::add_image(&server).await?;
    server.apply(&APP.replace("WHO", "app")).await?;
    let users = "apiVersion: v1\nkind: Secret\nmetadata: {name: users}\n\
                 stringData: {auth: 'ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ='}\n---\n";
    let ingresses = [
        users.to_owned(),
        annotated("rewritten", "/app(/|$)(.*)", &[("rewrite-target", "/$2")]),
        annotated("denied", "/", &[("denylist-source-range", "127.0.0.0/8")]),
        annotated(
            "known",
            "/",
            &[("auth-type", "basic"), ("auth-secret", "users")],
        ),
        annotated("closed", "/", &[("auth-tls-secret", "default/ca")]),
        asked("welcome", "/env/NAME"),
        asked("unknown", "/status/401"),
        asked("unwelcome", "/status/403"),
        asked("unclear", "/status/404"),
        TLS_ONLY.to_owned(),
        annotated(
            "moved",
            "/",
            &[("permanent-redirect", "https://new.example.com/a?b=c")],
        ),
        annotated("secure", "/", &[("force-ssl-redirect", "true")]),
    ];
    server.apply(&ingresses.concat()).await?;
    let mut at = address(&server, "rewritten").await?;
    for name in [
        "denied",
        "known",
        "closed",
        "moved",
        "secure",
        "welcome",
        "unknown",
        "unwelcome",
        "unclear",
        "covered",
    ] {
        at = address(&server, name).await?;
    }
    let rewritten = answer(&server, at, "rewritten.example.com", "/App/env/NAME").await?;
    assert_eq!(rewritten, "app");
    let head = async |host: &str, headers: &[(&str, &str)]| {
        let answer = http::get_with(at, host, "/env/NAME", headers).await?;
        let location = answer
            .head
            .lines()
            .find_map(|line| line.strip_prefix("location: "));
        anyhow::Ok((answer.status, location.unwrap_or_default().to_owned()))
    };
    let none = String::new;
    assert_eq!(head("denied.example.com", &[]).await?, (403, none()));
    assert_eq!(head("known.example.com", &[]).await?, (401, none()));
    let ann = [("authorization", "Basic YW5uOnNlY3JldA==")];
    assert_eq!(head("known.example.com", &ann).await?, (200, none()));
    assert_eq!(head("closed.example.com", &[]).await?, (503, none()));
    assert_eq!(head("welcome.example.com", &[]).await?, (200, none()));
    let sign_in = "https://login.example.com/?rd=http://unknown.example.com%2fenv%2fname";
    assert_eq!(
        head("unknown.example.com", &[]).await?,
        (302, sign_in.to_owned())
    );
    assert_eq!(head("unwelcome.example.com", &[]).await?, (403, none()));
    assert_eq!(head("unclear.example.com", &[]).await?, (500, none()));
    let covered = "https://covered.example.com/env/name".to_owned();
    assert_eq!(head("covered.example.com", &[]).await?, (308, covered));
    let moved = "https://new.example.com/a?b=c".to_owned();
    assert_eq!(head("moved.example.com", &[]).await?, (301, moved));
    let (status, location) = head("secure.example.com", &[]).await?;
    assert_eq!(status, 308);
    assert!(
        location.starts_with("https://secure.example.com"),
        "{location}"
    );
    assert!(location.ends_with("/env/name"), "{location}");
    Ok(())
}

/// A canary of the Ingress `shop`, at the app `next`.
fn canary(annotations: &[(&str, &str)]) -> String {
    let all = [&[("canary", "true")], annotations].concat();
    let canary = annotated("shop", "/", &all);
    let canary = canary.replacen("name: shop", "name: canary", 1);
    canary.replace("{name: app,", "{name: next,")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_takes_what_header_cookie_and_weight_give_it() -> anyhow::Result<()> {
    const HOST: &str = "shop.example.com";
    let server = Server::start().await?;
    guest::add_image(&server).await?;
    let apps = ["app", "next"]
        .map(|name| APP.replace("WHO", name))
        .concat();
    server.apply(&apps).await?;
    let by = [
        ("canary-by-header", "X-Canary"),
        ("canary-by-cookie", "canary"),
    ];
    server.apply(&canary(&by)).await?;
    let at = address(&server, "canary").await?;
    // Alone it gets nothing, and is told so.
    assert_eq!(http::get(at, HOST, "/env/NAME").await?.status, 404);
    let told = || async {
        let events = server.object(&["events"]).await?;
        let mut events = events["items"].as_array().into_iter().flatten();
        let is_told = events.any(|event| event["reason"] == "MainIngressMissing");
        Ok(is_told.then_some(()))
    };
    server.eventually("an event", told).await?;
    let sessions = [("affinity", "cookie"), ("session-cookie-name", "route")];
    server.apply(&annotated("shop", "/", &sessions)).await?;
    answer(&server, at, HOST, "/env/NAME").await?;
    let ask = async |headers: &[(&str, &str)]| {
        let answer = http::get_with(at, HOST, "/env/NAME", headers).await?;
        anyhow::ensure!(answer.status == 200, "{answer:?}");
        let cookie = answer
            .head
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "));
        let cookie = cookie.and_then(|cookie| cookie.split(';').next());
        anyhow::Ok((answer.body.trim().to_owned(), cookie.map(str::to_owned)))
    };
    let always = [("x-canary", "always")];
    server
        .eventually("the canary", || async {
            Ok(ask(&always).await.ok().filter(|(who, _)| who == "next"))
        })
        .await?;
    assert_eq!(ask(&[]).await?.0, "app");
    assert_eq!(ask(&[("cookie", "canary=always")]).await?.0, "next");
    let both = [("x-canary", "never"), ("cookie", "canary=always")];
    assert_eq!(ask(&both).await?.0, "app");
    // Half of what nothing decides, and who began somewhere stays there.
    let half = [by.as_slice(), &[("canary-weight", "50")]].concat();
    server.apply(&canary(&half)).await?;
    let both = || async {
        let mut begun = std::collections::BTreeMap::new();
        for _ in 0..32 {
            let (who, cookie) = ask(&[]).await?;
            begun.insert(who, cookie);
        }
        Ok((begun.len() == 2).then_some(begun))
    };
    let begun = server.eventually("both", both).await?;
    for (who, cookie) in begun {
        let cookie = cookie.expect("a session begins");
        for _ in 0..10 {
            assert_eq!(ask(&[("cookie", &cookie)]).await?, (who.clone(), None));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_whose_class_is_ingress_nginxs_is_served_over_tls_alone() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let objects = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  ingressClassName: public
  tls: [{hosts: [shop.example.com], secretName: none}]
  rules:
  - host: shop.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: none, port: {number: 80}}}}]}
";
    server.apply(objects).await?;
    let shop = ("shop.example.com", "/");
    // Its Service is not there.
    server.answered(server.gateway, shop, 503).await?;
    let class = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: public}
spec: {controller: k8s.io/ingress-nginx}
";
    server.apply(class).await?;
    server.answered(server.gateway, shop, 308).await?;
    let deleted = server.suimon(&["delete", "ingressclass", "public"]).await?;
    anyhow::ensure!(deleted.status.success(), "{deleted:?}");
    let answer = server.answered(server.gateway, shop, 503).await;
    answer.map(drop)
}
