//! The guest program (`src/bin/guest.rs`) as an image, and Services that run it.

use crate::Server;
use crate::program::program;
use crate::server::text;

/// Name under which the store holds the program.
pub(crate) const IMAGE: &str = "example.com/e2e/guest";

/// Adds the guest to the server's image store.
pub(crate) async fn add_image(server: &Server) -> anyhow::Result<()> {
    add_image_as(server, IMAGE).await
}

/// The same under another name, which a file says.
pub(crate) async fn add_image_as(server: &Server, name: &str) -> anyhow::Result<()> {
    let path = program("guest")?;
    let path = path.to_string_lossy();
    let added = server
        .suimon(&["image", "add", name, "--binary", &path])
        .await?;
    anyhow::ensure!(added.status.success(), "{}", text(&added.stderr));
    Ok(())
}

/// A Service of the guest; `container` is more of the container, `spec` more of the pod, in flow
/// style.
pub(crate) fn service(name: &str, container: &str, spec: &str) -> String {
    let comma = |text: &str| match text.is_empty() {
        true => String::new(),
        false => format!(", {text}"),
    };
    format!(
        "{{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {{name: {name}}}, \
         spec: {{template: {{spec: {{containers: [{{image: {IMAGE}{}}}]{}}}}}}}}}\n",
        comma(container),
        comma(spec)
    )
}
