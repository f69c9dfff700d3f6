//! Services that a HorizontalPodAutoscaler sizes.

use serde_json::json;

use crate::Server;
use crate::serving::{NO_GRACE, hello_with};

const CLASS: &str = "        autoscaling.knative.dev/class: hpa.autoscaling.knative.dev
        autoscaling.knative.dev/metric: memory
        autoscaling.knative.dev/target: \"1\"
        autoscaling.knative.dev/max-scale: \"2\"";
const WITH_ZERO: &str = "        autoscaling.knative.dev/class: hpa.autoscaling.knative.dev
        autoscaling.knative.dev/window: \"6s\"
        autoscaling.suimon.dev/scale-to-zero: \"true\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_the_class_hpa_grows_with_the_memory_that_its_pods_use() -> anyhow::Result<()>
{
    let server = Server::start().await?;
    server.apply(&hello_with("wide", "Wide", CLASS, "")).await?;
    assert_eq!(server.get("wide", "/").await?.body, "Hello Wide!\n");
    let horizontal = server.object(&["hpa", "wide-00001"]).await?;
    assert_eq!(
        horizontal["spec"]["scaleTargetRef"],
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "wide-00001-deployment"})
    );
    assert_eq!(horizontal["spec"]["maxReplicas"], 2);
    let target = &horizontal["spec"]["metrics"][0]["resource"]["target"];
    assert_eq!(
        target,
        &json!({"type": "AverageValue", "averageValue": "1Mi"})
    );
    // Any program uses more than a mebibyte.
    server
        .eventually("a second pod", || async {
            Ok((server.pods("wide").await?.len() == 2).then_some(()))
        })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_the_class_hpa_goes_to_zero_if_it_says_so_and_the_next_request_starts_it()
-> anyhow::Result<()> {
    let server = Server::start().await?;
    let manifest = hello_with("rests", "Rest", WITH_ZERO, "") + NO_GRACE;
    server.apply(&manifest).await?;
    assert_eq!(server.get("rests", "/").await?.status, 200);
    server
        .eventually("no pod", || async {
            Ok(server.pods("rests").await?.is_empty().then_some(()))
        })
        .await?;
    assert_eq!(server.get("rests", "/").await?.body, "Hello Rest!\n");
    Ok(())
}
