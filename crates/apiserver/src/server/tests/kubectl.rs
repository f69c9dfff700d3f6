//! The real `kubectl` against the TLS port. Skipped, and said so, where it is not installed.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use super::*;

mod auth;

struct Kubectl {
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Kubectl {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        // A cache of its own: another server's discovery must not be mistaken for this one's.
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", &self.home);
        command
    }

    fn output(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(input.as_bytes())
            .expect("written");
        child.wait_with_output().expect("kubectl ends")
    }

    /// What it prints; it must succeed.
    fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "kubectl {arguments:?} failed: {errors}"
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What it complains; it must fail.
    fn fails(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input);
        assert!(!output.status.success(), "kubectl {arguments:?} must fail");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// Runs `check` with kubectl and a fresh server that knows widgets.
async fn with_kubectl(check: impl FnOnce(&Kubectl) + Send + 'static) {
    if Command::new("kubectl")
        .arg("version")
        .arg("--client")
        .output()
        .is_err()
    {
        let mut err = std::io::stderr();
        writeln!(
            err,
            "SKIPPED: kubectl is not installed, so it was not tested against this server"
        )
        .expect("stderr");
        return;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let tasks = Tasks::new();
    let mut settings = settings(dir.path(), vec![widget_crd()]);
    settings.listen = Some(([127, 0, 0, 1], 0).into());
    let server = start(settings, &tasks).await.expect("server");
    let kubectl = Kubectl {
        kubeconfig: dir.path().join("kubeconfig"),
        home: dir.path().join("home"),
    };
    tokio::task::spawn_blocking(move || check(&kubectl))
        .await
        .expect("checked");
    drop(server);
    assert_eq!(tasks.drain(Duration::from_secs(10)).await, Outcome::Clean);
}

const WIDGET: &str =
    "apiVersion: example.dev/v1\nkind: Widget\nmetadata: {name: w}\nspec: {color: red}\n";
const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: nginx, ports: [{containerPort: 80}]}
";

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_applies_reads_changes_and_deletes_custom_resources() {
    with_kubectl(|kubectl| {
        assert_eq!(
            kubectl.ok(&["apply", "-f", "-"], WIDGET),
            "widget.example.dev/w created\n"
        );
        assert_eq!(
            kubectl.ok(&["apply", "-f", "-"], WIDGET),
            "widget.example.dev/w unchanged\n"
        );
        let blue = WIDGET.replace("red", "blue");
        assert_eq!(
            kubectl.ok(&["apply", "-f", "-"], &blue),
            "widget.example.dev/w configured\n"
        );
        let color = [
            "get",
            "wd",
            "w",
            "-o",
            "jsonpath={.spec.color} {.spec.size} {.metadata.generation}",
        ];
        assert_eq!(kubectl.ok(&color, ""), "blue 3 2");
        assert!(kubectl.ok(&["get", "wd"], "").starts_with("NAME   AGE\nw "));
        assert!(
            kubectl
                .ok(&["describe", "wd", "w"], "")
                .contains("Color:  blue")
        );
        assert!(
            kubectl
                .ok(&["label", "wd", "w", "a=b"], "")
                .contains("labeled")
        );
        assert_eq!(
            kubectl.ok(&["get", "wd", "-l", "a=b", "-o", "name"], ""),
            "widget.example.dev/w\n"
        );
        let patch = [
            "patch",
            "wd",
            "w",
            "--type=json",
            "-p",
            r#"[{"op":"replace","path":"/spec/size","value":9}]"#,
        ];
        assert!(kubectl.ok(&patch, "").contains("patched"));
        assert!(
            kubectl
                .ok(
                    &[
                        "wait",
                        "--for=jsonpath={.spec.size}=9",
                        "wd/w",
                        "--timeout=10s"
                    ],
                    ""
                )
                .contains("condition met")
        );
        assert!(
            kubectl
                .ok(&["explain", "wd.spec.size"], "")
                .contains("FIELD: size <integer>")
        );
        let edited = kubectl
            .command(&["edit", "wd", "w"])
            .env("EDITOR", "sed -i s/blue/green/")
            .output()
            .expect("edit");
        assert!(
            edited.status.success(),
            "{}",
            String::from_utf8_lossy(&edited.stderr)
        );
        assert_eq!(
            kubectl.ok(&["get", "wd", "w", "-o", "jsonpath={.spec.color}"], ""),
            "green"
        );
        assert_eq!(
            kubectl.ok(&["delete", "wd", "w"], ""),
            "widget.example.dev \"w\" deleted\n"
        );
        assert_eq!(
            kubectl.fails(&["get", "wd", "w"], ""),
            "Error from server (NotFound): widgets.example.dev \"w\" not found\n"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_applies_built_in_kinds_from_both_sides() {
    with_kubectl(|kubectl| {
        assert_eq!(
            kubectl.ok(&["apply", "-f", "-"], DEPLOYMENT),
            "deployment.apps/web created\n"
        );
        assert_eq!(
            kubectl.ok(&["apply", "-f", "-"], DEPLOYMENT),
            "deployment.apps/web unchanged\n"
        );
        assert_eq!(
            kubectl.ok(&["apply", "--server-side", "-f", "-"], DEPLOYMENT),
            "deployment.apps/web serverside-applied\n"
        );
        assert!(
            kubectl
                .ok(&["scale", "deploy", "web", "--replicas=5"], "")
                .contains("scaled")
        );
        let conflict = kubectl.fails(&["apply", "--server-side", "-f", "-"], DEPLOYMENT);
        assert!(
            conflict.contains("conflict with \"kubectl\"") && conflict.contains(".spec.replicas"),
            "{conflict}"
        );
        kubectl.ok(
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            DEPLOYMENT,
        );
        assert!(
            kubectl
                .ok(&["set", "image", "deploy/web", "c=busybox"], "")
                .contains("image updated")
        );
        let images = [
            "get",
            "deploy",
            "web",
            "-o",
            "jsonpath={.spec.template.spec.containers[*].image} {.spec.replicas}",
        ];
        assert_eq!(kubectl.ok(&images, ""), "busybox 2");
        let table = kubectl.ok(&["get", "deploy"], "");
        assert!(
            table.starts_with("NAME   READY   UP-TO-DATE   AVAILABLE   AGE\nweb    0/2 "),
            "{table}"
        );
        assert!(
            kubectl
                .ok(&["apply", "--dry-run=server", "-f", "-"], DEPLOYMENT)
                .contains("configured (server dry run)")
        );
        assert!(
            kubectl
                .ok(&["explain", "deploy.spec.replicas"], "")
                .contains("<integer>")
        );
        assert!(
            kubectl
                .ok(&["delete", "deploy", "web", "--cascade=foreground"], "")
                .contains("deleted")
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_is_told_what_is_wrong() {
    with_kubectl(|kubectl| {
        let unknown = kubectl.fails(&["apply", "-f", "-"], &WIDGET.replace("color", "colour"));
        assert!(
            unknown.contains("strict decoding error: unknown field \"spec.colour\""),
            "{unknown}"
        );
        let warned = kubectl.output(
            &["apply", "--validate=warn", "-f", "-"],
            &WIDGET.replace("color", "colour"),
        );
        assert_eq!(
            String::from_utf8_lossy(&warned.stderr),
            "Warning: unknown field \"spec.colour\"\n"
        );
        let invalid = kubectl.fails(
            &["apply", "-f", "-"],
            &WIDGET.replace("red", "red, size: 0"),
        );
        assert!(
            invalid.contains("spec.size in body should be greater than or equal to 1"),
            "{invalid}"
        );
        let unmapped = kubectl.fails(&["apply", "-f", "-"], &WIDGET.replace("Widget", "Gizmo"));
        assert!(
            unmapped.contains("no matches for kind \"Gizmo\" in version \"example.dev/v1\""),
            "{unmapped}"
        );
        let nowhere = kubectl.fails(&["apply", "-n", "nowhere", "-f", "-"], WIDGET);
        assert!(
            nowhere.contains("namespaces \"nowhere\" not found"),
            "{nowhere}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_creates_built_in_kinds_which_it_sends_as_protobuf() {
    with_kubectl(|kubectl| {
        assert_eq!(
            kubectl.ok(&["create", "namespace", "work"], ""),
            "namespace/work created\n"
        );
        kubectl.ok(&["create", "configmap", "cm", "--from-literal=a=b"], "");
        kubectl.ok(
            &["create", "secret", "generic", "s", "--from-literal=a=b"],
            "",
        );
        kubectl.ok(
            &[
                "create",
                "deployment",
                "d",
                "--image=nginx",
                "--replicas=0",
                "--port=80",
            ],
            "",
        );
        kubectl.ok(
            &["create", "service", "clusterip", "svc", "--tcp=80:http"],
            "",
        );
        kubectl.ok(
            &["create", "role", "r", "--verb=get", "--resource=pods"],
            "",
        );
        kubectl.ok(
            &[
                "create",
                "cronjob",
                "cj",
                "--image=i",
                "--schedule=* * * * *",
                "--",
                "date",
            ],
            "",
        );
        kubectl.ok(&["create", "ingress", "ing", "--rule=a.dev/x*=svc:80"], "");
        let read = |what: &str, path: &str| {
            kubectl.ok(&["get", what, "-o", &format!("jsonpath={path}")], "")
        };
        assert_eq!(read("cm/cm", "{.data.a}"), "b");
        assert_eq!(read("secret/s", "{.data.a} {.type}"), "Yg== Opaque");
        assert_eq!(
            read(
                "deploy/d",
                "{.spec.replicas} {.spec.template.spec.containers[0].ports[0].containerPort}"
            ),
            "0 80"
        );
        assert_eq!(
            read(
                "svc/svc",
                "{.spec.ports[0].port} {.spec.ports[0].targetPort}"
            ),
            "80 http"
        );
        assert_eq!(
            read(
                "cj/cj",
                "{.spec.jobTemplate.spec.template.spec.containers[0].command[0]}"
            ),
            "date"
        );
        assert_eq!(read("ing/ing", "{.spec.rules[0].http.paths[0].path}"), "/x");
        let taken = kubectl.fails(&["create", "configmap", "cm"], "");
        assert!(
            taken.contains("configmaps \"cm\" already exists"),
            "{taken}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_watches_a_table() {
    use std::io::{BufRead, BufReader};
    with_kubectl(|kubectl| {
        kubectl.ok(&["apply", "-f", "-"], WIDGET);
        let mut watch = kubectl.command(&[
            "get",
            "wd",
            "-w",
            "-o",
            "custom-columns=N:.metadata.name,S:.spec.size",
        ]);
        let mut watch = watch
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
        let mut next = || {
            let line = lines.next().expect("a line").expect("UTF-8");
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!((next().as_str(), next().as_str()), ("N S", "w 3"));
        kubectl.ok(
            &[
                "patch",
                "wd",
                "w",
                "--type=merge",
                "-p",
                r#"{"spec":{"size":8}}"#,
            ],
            "",
        );
        assert_eq!(next(), "w 8");
        watch.kill().expect("killed");
        watch.wait().expect("reaped");
        let mut watch = kubectl
            .command(&["get", "wd", "-w"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
        let mut next = || lines.next().expect("a line").expect("UTF-8");
        assert!(next().starts_with("NAME   AGE"));
        assert!(next().starts_with("w "));
        kubectl.ok(&["annotate", "wd", "w", "a=b"], "");
        assert!(next().starts_with("w "));
        watch.kill().expect("killed");
        watch.wait().expect("reaped");
    })
    .await;
}
