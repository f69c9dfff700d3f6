//! Knative Serving as users see it.

mod endurance;
mod horizontal;
mod rollout;
mod scale;
mod traffic;

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
