//! Cookies of backends whose attributes an HTTPProxy changes.

use std::sync::Arc;

use crate::Server;
use crate::gateway_policies::{Say, answered, backend, is, service};

const PROXY: &str = "
apiVersion: projectcontour.io/v1
kind: HTTPProxy
metadata: {name: shop}
spec:
  virtualhost: {fqdn: cookies.example}
  routes:
  - cookieRewritePolicies: [{name: a, pathRewrite: {value: /shop}, secure: true}]
    services:
    - name: web
      port: 8000
      cookieRewritePolicies: [{name: a, domainRewrite: {value: shop.example}, sameSite: Strict}, {name: c, secure: false}]
";
const TWICE: &str = "
apiVersion: projectcontour.io/v1
kind: HTTPProxy
metadata: {name: twice}
spec:
  virtualhost: {fqdn: twice.example}
  routes:
  - cookieRewritePolicies: [{name: a, secure: true}, {name: a, secure: false}]
    services: [{name: web, port: 8000}]
";

fn says() -> Say {
    let cookies = "set-cookie: a=1; Path=/; Domain=web.internal; HttpOnly\r\n\
                   set-cookie: b=2; Path=/\r\nset-cookie: c=3; Secure\r\n";
    Arc::new(move |_| ("200 OK".to_owned(), cookies.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_httpproxy_changes_the_cookies_that_it_names_and_no_others() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let web = backend(says(), None).await?;
    server.apply(&service("web", &[web])).await?;
    server.apply(PROXY).await?;
    let answer = answered(&server, server.gateway, "cookies.example", 200).await?;
    let lines = answer.head.lines();
    let mut cookies: Vec<_> = lines
        .filter_map(|line| line.strip_prefix("set-cookie: "))
        .collect();
    cookies.sort_unstable();
    // The client of the tests reads heads in lower case.
    let expected = [
        "a=1; httponly; path=/shop; domain=shop.example; samesite=strict; secure",
        "b=2; path=/",
        "c=3",
    ];
    assert_eq!(cookies, expected);

    server.apply(TWICE).await?;
    let told = || async {
        let proxy = server.object(&["httpproxies", "twice"]).await?;
        let conditions = &proxy["status"]["conditions"];
        let is_told = is(conditions, "Valid", "False", "ErrorPresent");
        let error = conditions[0]["errors"][0].clone();
        Ok(is_told.then_some(error))
    };
    let error = server.eventually("a mistake is told", told).await?;
    assert_eq!(error["reason"], "CookieRewritePoliciesInvalid", "{error}");
    Ok(())
}
