package clientgo

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
)

func deployment(name string) *appsv1.Deployment {
	zero := int32(0)
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &zero,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Containers: []corev1.Container{{
						Name:  "c",
						Image: "example.dev/nothing",
						Ports: []corev1.ContainerPort{{ContainerPort: 80}},
						Resources: corev1.ResourceRequirements{
							Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
						},
						ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{
							HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromString("http")},
						}},
					}},
					Volumes: []corev1.Volume{{
						Name:         "v",
						VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}},
					}},
				},
			},
		},
	}
}

// What a typed client sends, which is protobuf, is what the server stores and returns.
func TestTypedObjectsComeBackAsTheyWereSent(t *testing.T) {
	ctx, ns := namespace(t)
	deployments := typed.AppsV1().Deployments(ns)
	sent := deployment("web")
	got, err := deployments.Create(ctx, sent, metav1.CreateOptions{})
	must(t, err)
	if *got.Spec.Replicas != 0 {
		t.Errorf("0 replicas became %d", *got.Spec.Replicas)
	}
	container := got.Spec.Template.Spec.Containers[0]
	if !container.Resources.Limits.Memory().Equal(resource.MustParse("64Mi")) {
		t.Errorf("limits: %v", container.Resources.Limits)
	}
	if port := container.ReadinessProbe.HTTPGet.Port; port.StrVal != "http" {
		t.Errorf("port of the probe: %v", port)
	}
	if got.Spec.Template.Spec.Volumes[0].EmptyDir == nil {
		t.Error("an empty struct behind a pointer was lost")
	}
	if got.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType {
		t.Errorf("the strategy is not defaulted: %q", got.Spec.Strategy.Type)
	}
	var updated *appsv1.Deployment
	// The Deployment's controller writes as well.
	must(t, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		got, err = deployments.Get(ctx, "web", metav1.GetOptions{})
		must(t, err)
		got.Annotations = map[string]string{"a": "b"}
		updated, err = deployments.Update(ctx, got, metav1.UpdateOptions{})
		return err
	}))
	if updated.Generation != got.Generation {
		t.Error("an annotation is not a new generation")
	}
	_, err = deployments.Update(ctx, got, metav1.UpdateOptions{})
	if !apierrors.IsConflict(err) {
		t.Errorf("an update of an old revision: %v", err)
	}
	_, err = deployments.Create(ctx, sent, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		t.Errorf("a second create: %v", err)
	}
	bad := deployment("bad")
	bad.Spec.Selector.MatchLabels = map[string]string{"app": "other"}
	_, err = deployments.Create(ctx, bad, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) {
		t.Errorf("a selector that does not fit: %v", err)
	}
	var scale *autoscalingv1.Scale
	must(t, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		scale, err = deployments.GetScale(ctx, "web", metav1.GetOptions{})
		must(t, err)
		scale, err = deployments.UpdateScale(ctx, "web", &autoscalingv1.Scale{
			ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: ns, ResourceVersion: scale.ResourceVersion},
			Spec:       autoscalingv1.ScaleSpec{Replicas: 0},
		}, metav1.UpdateOptions{})
		return err
	}))
	if scale.Spec.Replicas != 0 {
		t.Errorf("scale: %+v", scale)
	}
	must(t, deployments.Delete(ctx, "web", metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &got.UID},
	}))
}

// One object of many kinds, created, read, listed and deleted by generated clients.
func TestEveryTypedKindIsStored(t *testing.T) {
	ctx, ns := namespace(t)
	template := deployment("x").Spec.Template
	template.Spec.RestartPolicy = corev1.RestartPolicyNever
	suspended := true
	half := intstr.FromString("50%")
	prefix := networkingv1.PathTypePrefix
	meta := metav1.ObjectMeta{Name: "one"}
	create := map[string]func() error{
		"configmap": func() error {
			_, err := typed.CoreV1().ConfigMaps(ns).Create(ctx, &corev1.ConfigMap{ObjectMeta: meta, BinaryData: map[string][]byte{"b": {0, 1}}}, metav1.CreateOptions{})
			return err
		},
		"secret": func() error {
			_, err := typed.CoreV1().Secrets(ns).Create(ctx, &corev1.Secret{ObjectMeta: meta, StringData: map[string]string{"a": "b"}}, metav1.CreateOptions{})
			return err
		},
		"service": func() error {
			_, err := typed.CoreV1().Services(ns).Create(ctx, &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}}}, metav1.CreateOptions{})
			return err
		},
		"serviceaccount": func() error {
			_, err := typed.CoreV1().ServiceAccounts(ns).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{})
			return err
		},
		"event": func() error {
			_, err := typed.CoreV1().Events(ns).CreateWithEventNamespaceWithContext(ctx, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "one", Namespace: ns}, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "p", Namespace: ns}, Reason: "Test", Message: "m", Type: "Normal"})
			return err
		},
		"resourcequota": func() error {
			_, err := typed.CoreV1().ResourceQuotas(ns).Create(ctx, &corev1.ResourceQuota{ObjectMeta: meta, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("5")}}}, metav1.CreateOptions{})
			return err
		},
		"limitrange": func() error {
			_, err := typed.CoreV1().LimitRanges(ns).Create(ctx, &corev1.LimitRange{ObjectMeta: meta, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypePod, Max: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("5")}}}}}, metav1.CreateOptions{})
			return err
		},
		"replicaset": func() error {
			zero := int32(0)
			set := deployment("one")
			_, err := typed.AppsV1().ReplicaSets(ns).Create(ctx, &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Replicas: &zero, Selector: set.Spec.Selector, Template: set.Spec.Template}}, metav1.CreateOptions{})
			return err
		},
		"job": func() error {
			_, err := typed.BatchV1().Jobs(ns).Create(ctx, &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Suspend: &suspended, Template: template}}, metav1.CreateOptions{})
			return err
		},
		"cronjob": func() error {
			_, err := typed.BatchV1().CronJobs(ns).Create(ctx, &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{Schedule: "0 0 1 1 *", Suspend: &suspended, JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}}}}, metav1.CreateOptions{})
			return err
		},
		"ingress": func() error {
			_, err := typed.NetworkingV1().Ingresses(ns).Create(ctx, &networkingv1.Ingress{ObjectMeta: meta, Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{Host: "a.dev", IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &prefix, Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "one", Port: networkingv1.ServiceBackendPort{Number: 80}}}}}}}}}}}, metav1.CreateOptions{})
			return err
		},
		"networkpolicy": func() error {
			_, err := typed.NetworkingV1().NetworkPolicies(ns).Create(ctx, &networkingv1.NetworkPolicy{ObjectMeta: meta, Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}}}, metav1.CreateOptions{})
			return err
		},
		"poddisruptionbudget": func() error {
			_, err := typed.PolicyV1().PodDisruptionBudgets(ns).Create(ctx, &policyv1.PodDisruptionBudget{ObjectMeta: meta, Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &half, Selector: &metav1.LabelSelector{}}}, metav1.CreateOptions{})
			return err
		},
		"role": func() error {
			_, err := typed.RbacV1().Roles(ns).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}}, metav1.CreateOptions{})
			return err
		},
		"rolebinding": func() error {
			_, err := typed.RbacV1().RoleBindings(ns).Create(ctx, &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "one"}, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "one", Namespace: ns}}}, metav1.CreateOptions{})
			return err
		},
	}
	for name, make := range create {
		t.Run(name, func(t *testing.T) { must(t, make()) })
	}
	secret, err := typed.CoreV1().Secrets(ns).Get(ctx, "one", metav1.GetOptions{})
	must(t, err)
	if string(secret.Data["a"]) != "b" {
		t.Errorf("stringData: %v", secret.Data)
	}
	binary, err := typed.CoreV1().ConfigMaps(ns).Get(ctx, "one", metav1.GetOptions{})
	must(t, err)
	if !reflect.DeepEqual(binary.BinaryData["b"], []byte{0, 1}) {
		t.Errorf("binaryData: %v", binary.BinaryData)
	}
}

func TestPatchesOfEveryType(t *testing.T) {
	ctx, ns := namespace(t)
	maps := typed.CoreV1().ConfigMaps(ns)
	_, err := maps.Create(ctx, configMap("m", map[string]string{"a": "1", "b": "2"}), metav1.CreateOptions{})
	must(t, err)
	got, err := maps.Patch(ctx, "m", types.JSONPatchType, []byte(`[{"op":"replace","path":"/data/a","value":"3"}]`), metav1.PatchOptions{})
	must(t, err)
	if got.Data["a"] != "3" {
		t.Errorf("JSON patch: %v", got.Data)
	}
	got, err = maps.Patch(ctx, "m", types.MergePatchType, []byte(`{"data":{"b":null,"c":"4"}}`), metav1.PatchOptions{})
	must(t, err)
	if want := map[string]string{"a": "3", "c": "4"}; !reflect.DeepEqual(got.Data, want) {
		t.Errorf("merge patch: %v", got.Data)
	}
	deployments := typed.AppsV1().Deployments(ns)
	_, err = deployments.Create(ctx, deployment("web"), metav1.CreateOptions{})
	must(t, err)
	add := `{"spec":{"template":{"spec":{"containers":[{"name":"second","image":"example.dev/second"}]}}}}`
	changed, err := deployments.Patch(ctx, "web", types.StrategicMergePatchType, []byte(add), metav1.PatchOptions{})
	must(t, err)
	if len(changed.Spec.Template.Spec.Containers) != 2 {
		t.Errorf("strategic merge patch: %d containers", len(changed.Spec.Template.Spec.Containers))
	}
	dry, err := maps.Patch(ctx, "m", types.MergePatchType, []byte(`{"data":{"d":"5"}}`), metav1.PatchOptions{DryRun: []string{"All"}})
	must(t, err)
	stored, err := maps.Get(ctx, "m", metav1.GetOptions{})
	must(t, err)
	if dry.Data["d"] != "5" || stored.Data["d"] != "" {
		t.Error("a dry run is shown and not stored")
	}
	_, err = maps.Patch(ctx, "m", types.MergePatchType, []byte(`{"daat":{}}`), metav1.PatchOptions{FieldValidation: "Strict"})
	if !apierrors.IsBadRequest(err) {
		t.Errorf("an unknown field in strict mode: %v", err)
	}
}

func TestServerSideApply(t *testing.T) {
	ctx, ns := namespace(t)
	maps := typed.CoreV1().ConfigMaps(ns)
	apply := func(manager string, force bool, data map[string]string) (*corev1.ConfigMap, error) {
		want := corev1apply.ConfigMap("m", ns).WithData(data)
		return maps.Apply(ctx, want, metav1.ApplyOptions{FieldManager: manager, Force: force})
	}
	_, err := apply("one", false, map[string]string{"a": "1", "b": "1"})
	must(t, err)
	_, err = apply("two", false, map[string]string{"c": "2"})
	must(t, err)
	_, err = apply("two", false, map[string]string{"a": "2", "c": "2"})
	if !apierrors.IsConflict(err) {
		t.Errorf("a field of another manager: %v", err)
	}
	_, err = apply("two", true, map[string]string{"a": "2", "c": "2"})
	must(t, err)
	got, err := apply("one", false, map[string]string{"b": "1"})
	must(t, err)
	if want := map[string]string{"a": "2", "b": "1", "c": "2"}; !reflect.DeepEqual(got.Data, want) {
		t.Errorf("data: %v", got.Data)
	}
	got, err = apply("one", false, nil)
	must(t, err)
	if _, left := got.Data["b"]; left {
		t.Error("what a manager no longer applies is removed")
	}
	extracted, err := corev1apply.ExtractConfigMap(got, "two")
	must(t, err)
	if want := map[string]string{"a": "2", "c": "2"}; !reflect.DeepEqual(extracted.Data, want) {
		t.Errorf("extracted: %v", extracted.Data)
	}
}

func TestListsInPagesAndSelectors(t *testing.T) {
	ctx, ns := namespace(t)
	maps := typed.CoreV1().ConfigMaps(ns)
	for i := range 5 {
		_, err := maps.Create(ctx, configMap(fmt.Sprint("m", i), nil), metav1.CreateOptions{})
		must(t, err)
	}
	var names []string
	options := metav1.ListOptions{Limit: 2, LabelSelector: "test in (yes)"}
	for {
		page, err := maps.List(ctx, options)
		must(t, err)
		for _, item := range page.Items {
			names = append(names, item.Name)
		}
		if page.Continue == "" {
			break
		}
		options.Continue = page.Continue
	}
	if len(names) != 5 {
		t.Errorf("pages: %v", names)
	}
	one, err := maps.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=m3"})
	must(t, err)
	if len(one.Items) != 1 {
		t.Errorf("field selector: %d", len(one.Items))
	}
	must(t, maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "test=yes"}))
	left, err := maps.List(ctx, metav1.ListOptions{LabelSelector: "test=yes"})
	must(t, err)
	if len(left.Items) != 0 {
		t.Errorf("left: %d", len(left.Items))
	}
}

func TestAccessAndTokens(t *testing.T) {
	ctx, ns := namespace(t)
	_, err := typed.CoreV1().ServiceAccounts(ns).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}, metav1.CreateOptions{})
	must(t, err)
	answer, err := typed.CoreV1().ServiceAccounts(ns).CreateToken(ctx, "robot", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	must(t, err)
	review, err := typed.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: answer.Status.Token}}, metav1.CreateOptions{})
	must(t, err)
	if user := review.Status.User.Username; user != "system:serviceaccount:"+ns+":robot" {
		t.Errorf("user: %q %s", user, review.Status.Error)
	}
	own := rest.AnonymousClientConfig(config)
	own.BearerToken = answer.Status.Token
	robot, err := kubernetes.NewForConfig(own)
	must(t, err)
	_, err = robot.CoreV1().ConfigMaps(ns).List(ctx, metav1.ListOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("without a role: %v", err)
	}
	_, err = typed.RbacV1().RoleBindings(ns).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "robot"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: "robot", Namespace: ns}},
	}, metav1.CreateOptions{})
	must(t, err)
	_, err = robot.CoreV1().ConfigMaps(ns).List(ctx, metav1.ListOptions{})
	must(t, err)
	may, err := robot.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: ns, Verb: "delete", Resource: "configmaps"}}}, metav1.CreateOptions{})
	must(t, err)
	if may.Status.Allowed {
		t.Error("a viewer may not delete")
	}
	as := rest.CopyConfig(config)
	as.Impersonate = rest.ImpersonationConfig{UserName: "jane", Groups: []string{"devs"}}
	jane, err := kubernetes.NewForConfig(as)
	must(t, err)
	who, err := jane.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	must(t, err)
	if who.Status.UserInfo.Username != "jane" {
		t.Errorf("impersonated: %+v", who.Status.UserInfo)
	}
}

func TestDiscovery(t *testing.T) {
	_, resources, err := typed.Discovery().ServerGroupsAndResources()
	must(t, err)
	found := map[string]bool{}
	for _, list := range resources {
		for _, resource := range list.APIResources {
			found[list.GroupVersion+"/"+resource.Name] = true
		}
	}
	for _, want := range []string{"v1/pods", "v1/pods/log", "apps/v1/deployments/scale", "serving.knative.dev/v1/services", "rbac.authorization.k8s.io/v1/roles"} {
		if !found[want] {
			t.Errorf("discovery lacks %s", want)
		}
	}
	version, err := typed.Discovery().ServerVersion()
	must(t, err)
	if version.Major != "1" {
		t.Errorf("version: %+v", version)
	}
	paths, err := typed.Discovery().OpenAPIV3().Paths()
	must(t, err)
	schema, err := paths["apis/apps/v1"].Schema("application/json")
	must(t, err)
	if !json.Valid(schema) {
		t.Error("the OpenAPI document is not JSON")
	}
}
