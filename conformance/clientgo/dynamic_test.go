package clientgo

import (
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

var gauges = schema.GroupVersionResource{Group: "clientgo.suimon.dev", Version: "v1", Resource: "gauges"}

func gauge(name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "clientgo.suimon.dev/v1",
		"kind":       "Gauge",
		"metadata":   map[string]any{"name": name},
		"spec":       spec,
	}}
}

func ptr[T any](value T) *T { return &value }

func definition() *apiextensionsv1.CustomResourceDefinition {
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "gauges.clientgo.suimon.dev"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: gauges.Group,
			Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "gauges", Singular: "gauge", Kind: "Gauge", ListKind: "GaugeList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Subresources: &apiextensionsv1.CustomResourceSubresources{
					Status: &apiextensionsv1.CustomResourceSubresourceStatus{},
					Scale:  &apiextensionsv1.CustomResourceSubresourceScale{SpecReplicasPath: ".spec.level", StatusReplicasPath: ".status.level"},
				},
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type: "object",
					Properties: map[string]apiextensionsv1.JSONSchemaProps{
						"spec": {
							Type: "object",
							Properties: map[string]apiextensionsv1.JSONSchemaProps{
								"level": {Type: "integer", Minimum: ptr(0.0)},
								"most":  {Type: "integer", Default: &apiextensionsv1.JSON{Raw: []byte("10")}},
							},
							XValidations: apiextensionsv1.ValidationRules{{Rule: "self.level <= self.most", Message: "level above most"}},
						},
						"status": {Type: "object", XPreserveUnknownFields: ptr(true)},
					},
				}},
			}},
		},
	}
}

func TestACustomResourceDefinitionAndItsObjects(t *testing.T) {
	ctx, ns := namespace(t)
	crds := apiextensions.NewForConfigOrDie(config).ApiextensionsV1().CustomResourceDefinitions()
	made, err := crds.Create(ctx, definition(), metav1.CreateOptions{})
	must(t, err)
	t.Cleanup(func() { _ = crds.Delete(t.Context(), made.Name, metav1.DeleteOptions{}) })
	eventually(t, ctx, "the CRD is established", func() (bool, error) {
		got, err := crds.Get(ctx, made.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, condition := range got.Status.Conditions {
			if condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue {
				return true, nil
			}
		}
		return false, nil
	})
	client := anyone.Resource(gauges).Namespace(ns)
	watching, err := client.Watch(ctx, metav1.ListOptions{})
	must(t, err)
	defer watching.Stop()
	got, err := client.Create(ctx, gauge("g", map[string]any{"level": int64(3), "unknown": "x"}), metav1.CreateOptions{})
	must(t, err)
	if most, _, _ := unstructured.NestedInt64(got.Object, "spec", "most"); most != 10 {
		t.Errorf("the default is not set: %v", got.Object["spec"])
	}
	if _, found, _ := unstructured.NestedString(got.Object, "spec", "unknown"); found {
		t.Error("an unknown field is stored")
	}
	if event := <-watching.ResultChan(); event.Type != "ADDED" {
		t.Errorf("watch: %v", event.Type)
	}
	_, err = client.Create(ctx, gauge("high", map[string]any{"level": int64(11)}), metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) {
		t.Errorf("a rule in CEL: %v", err)
	}
	patched, err := client.Patch(ctx, "g", types.MergePatchType, []byte(`{"spec":{"level":5}}`), metav1.PatchOptions{})
	must(t, err)
	if patched.GetGeneration() != 2 {
		t.Errorf("generation %d", patched.GetGeneration())
	}
	_, err = client.Patch(ctx, "g", types.StrategicMergePatchType, []byte(`{}`), metav1.PatchOptions{})
	if !apierrors.IsUnsupportedMediaType(err) {
		t.Errorf("a strategic merge patch of a custom resource: %v", err)
	}
	patched.Object["status"] = map[string]any{"level": int64(5)}
	_, err = client.UpdateStatus(ctx, patched, metav1.UpdateOptions{})
	must(t, err)
	scale, err := client.Get(ctx, "g", metav1.GetOptions{}, "scale")
	must(t, err)
	if replicas, _, _ := unstructured.NestedInt64(scale.Object, "status", "replicas"); replicas != 5 {
		t.Errorf("scale: %v", scale.Object)
	}
	// Who created it owns the default as well.
	most := gauge("g", map[string]any{"most": int64(20)})
	_, err = client.Apply(ctx, "g", most, metav1.ApplyOptions{FieldManager: "one"})
	if !apierrors.IsConflict(err) {
		t.Errorf("a field of somebody else: %v", err)
	}
	_, err = client.Apply(ctx, "g", most, metav1.ApplyOptions{FieldManager: "one", Force: true})
	must(t, err)
	must(t, client.Delete(ctx, "g", metav1.DeleteOptions{}))
	must(t, crds.Delete(ctx, made.Name, metav1.DeleteOptions{}))
	eventually(t, ctx, "the CRD is gone", func() (bool, error) {
		_, err := crds.Get(ctx, made.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
}
