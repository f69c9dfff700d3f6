//! Knative Serving as users see it.

mod domain;
mod endurance;
mod horizontal;
mod rollout;
mod scale;
mod traffic;

/// A document that follows a manifest: no grace before the last pod stops.
pub(crate) const NO_GRACE: &str = "
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: config-autoscaler
  namespace: knative-serving
data:
  scale-to-zero-grace-period: \"1s\"
";

/// A Service of the sample program.
pub(crate) fn hello(name: &str, target: &str) -> String {
    hello_with(name, target, "", "")
}

/// The same with template annotations and more of the template's spec, each line indented by
/// eight and six spaces.
pub(crate) fn hello_with(name: &str, target: &str, annotations: &str, spec: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: {name}
spec:
  template:
    metadata:
      annotations:
        example.dev/test: \"true\"
{annotations}
    spec:
{spec}
      containers:
      - image: suimon.dev/samples/hello
        env:
        - name: TARGET
          value: \"{target}\"
"
    )
}
