//! What users get wrong, and what they are told.

use std::process::Output;

use crate::Server;
use crate::serving::hello;

fn service(spec: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: bad\nspec:\n  template:\n    spec:\n{spec}"
    )
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_refused_with_the_field_and_what_to_do() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let cases = [
        (
            service("      containers:\n      - env: []\n"),
            "spec.template.spec.containers[0].image",
        ),
        (
            service(
                "      containers:\n      - image: a\n        ports: [{containerPort: 8080}]\n      - image: b\n        ports: [{containerPort: 9090}]\n",
            ),
            "more than one container port is set",
        ),
        (
            service("      containers:\n      - image: a\n        bogus: 1\n"),
            "bogus",
        ),
        (
            hello("bad", "x") + "  traffic:\n  - latestRevision: true\n    percent: 50\n",
            "Traffic targets sum to 50, want 100",
        ),
    ];
    for (manifest, expected) in cases {
        let output = server.try_apply(&manifest).await?;
        assert!(!output.status.success(), "accepted: {manifest}");
        assert!(
            said(&output).contains(expected),
            "wanted \"{expected}\" in: {}",
            said(&output)
        );
    }
    server.apply(&hello("good", "Good")).await?;
    assert_eq!(
        server.get("good", "/").await?.status,
        200,
        "the rest keeps running"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_does_not_exist_fails_with_its_name_and_a_remedy() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let output = server
        .try_apply(&service(
            "      containers:\n      - image: dev.local/no/such:image\n",
        ))
        .await?;
    assert!(!output.status.success());
    let said = said(&output);
    assert!(said.contains("dev.local/no/such:image"), "{said}");
    assert!(said.contains("suimon image add"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_exits_at_once_fails_with_its_exit_code() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let added = server
        .suimon(&["image", "add", "dev.local/exits", "--binary", "/bin/false"])
        .await?;
    assert!(added.status.success(), "{}", said(&added));
    let output = server
        .try_apply(&service(
            "      containers:\n      - image: dev.local/exits\n",
        ))
        .await?;
    assert!(!output.status.success());
    assert!(
        said(&output).contains("Container failed with"),
        "{}",
        said(&output)
    );
    let revision = server.object(&["revision", "bad-00001"]).await?;
    assert!(
        revision["status"]["conditions"]
            .to_string()
            .contains("ExitCode1"),
        "{revision}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_never_listens_fails_with_what_to_do() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let added = server
        .suimon(&["image", "add", "dev.local/silent", "--binary", "/bin/sleep"])
        .await?;
    assert!(added.status.success(), "{}", said(&added));
    let manifest = service("      containers:\n      - image: dev.local/silent\n        args: [\"300\"]\n").replace(
        "  template:\n",
        "  template:\n    metadata:\n      annotations:\n        serving.knative.dev/progress-deadline: \"5s\"\n",
    );
    let output = server.try_apply(&manifest).await?;
    assert!(!output.status.success());
    let said = said(&output);
    assert!(
        said.contains("Initial scale was never achieved") || said.contains("listen"),
        "{said}"
    );
    Ok(())
}
