//! `kubectl auth`, `kubectl create token` and `--as`.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_asks_what_somebody_may_do() {
    with_kubectl(|kubectl| {
        assert_eq!(kubectl.ok(&["auth", "can-i", "delete", "pods"], ""), "yes\n");
        let who = kubectl.ok(&["auth", "whoami"], "");
        assert!(
            who.contains("suimon-admin") && who.contains("system:masters"),
            "{who}"
        );
        let who = kubectl.ok(&["auth", "whoami", "--as=jane", "--as-group=devs"], "");
        assert!(who.contains("jane") && who.contains("devs"), "{who}");
        let may = ["auth", "can-i", "list", "pods", "--as=jane"];
        let no = kubectl.output(&may, "");
        assert_eq!(String::from_utf8_lossy(&no.stdout), "no\n");
        let viewer = ["create", "rolebinding", "v", "--clusterrole=view", "--user=jane"];
        kubectl.ok(&viewer, "");
        assert_eq!(kubectl.ok(&may, ""), "yes\n");
        let list = kubectl.ok(&["auth", "can-i", "--list", "--as=jane"], "");
        assert!(
            list.contains("selfsubjectaccessreviews.authorization.k8s.io")
                && list.contains("deployments.apps")
                && list.contains("/healthz"),
            "{list}"
        );
        kubectl.ok(&["get", "pods", "--as=jane"], "");
        let refused = kubectl.fails(&["get", "secrets", "--as=jane"], "");
        assert_eq!(
            refused,
            "Error from server (Forbidden): secrets is forbidden: User \"jane\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"\n"
        );
        let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: c}\nrules: [{verbs: [get], apiGroups: [''], resources: [pods]}]\n";
        let reconciled = kubectl.ok(&["auth", "reconcile", "-f", "-"], role);
        assert!(reconciled.contains("clusterrole.rbac.authorization.k8s.io/c reconciled"), "{reconciled}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_creates_a_token_and_works_with_it() {
    with_kubectl(|kubectl| {
        kubectl.ok(&["create", "serviceaccount", "robot"], "");
        let token = kubectl.ok(&["create", "token", "robot", "--duration=1h"], "");
        let server = kubectl.ok(
            &[
                "config",
                "view",
                "--raw",
                "-o",
                "jsonpath={.clusters[0].cluster.server}",
            ],
            "",
        );
        let ca = kubectl.kubeconfig.with_file_name("pki").join("ca.crt");
        let with_token = |arguments: &[&str]| {
            let mut command = kubectl.command(arguments);
            command
                .env("KUBECONFIG", "/dev/null")
                .arg(format!("--server={server}"))
                .arg(format!("--certificate-authority={}", ca.display()))
                .arg(format!("--token={}", token.trim()));
            command.output().expect("kubectl starts")
        };
        let who = with_token(&["auth", "whoami"]);
        let text = String::from_utf8_lossy(&who.stdout).into_owned();
        assert!(
            text.contains("system:serviceaccount:default:robot")
                && text.contains("system:serviceaccounts"),
            "{text}{}",
            String::from_utf8_lossy(&who.stderr)
        );
        let refused = with_token(&["get", "pods"]);
        assert!(!refused.status.success());
        kubectl.ok(
            &[
                "create",
                "rolebinding",
                "robot",
                "--clusterrole=edit",
                "--serviceaccount=default:robot",
            ],
            "",
        );
        let created = with_token(&["create", "configmap", "made-by-robot"]);
        assert!(
            created.status.success(),
            "{}",
            String::from_utf8_lossy(&created.stderr)
        );
        kubectl.ok(&["delete", "serviceaccount", "robot"], "");
        let refused = with_token(&["get", "pods"]);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            text.contains("Unauthorized") || text.contains("must be logged in"),
            "{text}"
        );
    })
    .await;
}
