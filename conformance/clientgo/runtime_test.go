package clientgo

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

func TestControllerRuntimesClientAndCache(t *testing.T) {
	log.SetLogger(zap.New())
	ctx, ns := namespace(t)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	objects, err := client.New(config, client.Options{})
	must(t, err)
	cached, err := cache.New(config, cache.Options{DefaultNamespaces: map[string]cache.Config{ns: {}}})
	must(t, err)
	must(t, cached.IndexField(ctx, &corev1.ConfigMap{}, "data.a", func(object client.Object) []string {
		return []string{object.(*corev1.ConfigMap).Data["a"]}
	}))
	go func() { _ = cached.Start(ctx) }()
	if !cached.WaitForCacheSync(ctx) {
		t.Fatal("the cache is not in sync")
	}
	made := configMap("m", map[string]string{"a": "1"})
	made.Namespace = ns
	must(t, objects.Create(ctx, made))
	key := client.ObjectKeyFromObject(made)
	eventually(t, ctx, "the cache has the object by its index", func() (bool, error) {
		var list corev1.ConfigMapList
		err := cached.List(ctx, &list, client.InNamespace(ns), client.MatchingFields{"data.a": "1"})
		return len(list.Items) == 1, err
	})
	before := made.DeepCopy()
	made.Data["a"] = "2"
	must(t, objects.Patch(ctx, made, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
	if err := objects.Patch(ctx, before, client.MergeFromWithOptions(before.DeepCopy(), client.MergeFromWithOptimisticLock{})); err != nil && !apierrors.IsConflict(err) {
		t.Errorf("an empty patch of an old revision: %v", err)
	}
	owned := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "owned"}}
	result, err := controllerutil.CreateOrUpdate(ctx, objects, owned, func() error {
		return controllerutil.SetControllerReference(made, owned, objects.Scheme())
	})
	must(t, err)
	if result != controllerutil.OperationResultCreated {
		t.Errorf("result: %v", result)
	}
	must(t, objects.Delete(ctx, made, client.PropagationPolicy(metav1.DeletePropagationForeground)))
	eventually(t, ctx, "owner and owned are gone", func() (bool, error) {
		owner := objects.Get(ctx, key, &corev1.ConfigMap{})
		other := objects.Get(ctx, client.ObjectKeyFromObject(owned), &corev1.ConfigMap{})
		return apierrors.IsNotFound(owner) && apierrors.IsNotFound(other), nil
	})
}

// A namespace is emptied before it goes, whatever finalizers its objects have.
func TestANamespaceIsEmptiedAndGone(t *testing.T) {
	ctx, ns := namespace(t)
	spaces := typed.CoreV1().Namespaces()
	inner, err := spaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: ns + "-"}}, metav1.CreateOptions{})
	must(t, err)
	maps := typed.CoreV1().ConfigMaps(inner.Name)
	kept := configMap("kept", nil)
	kept.Finalizers = []string{"clientgo.suimon.dev/hold"}
	kept, err = maps.Create(ctx, kept, metav1.CreateOptions{})
	must(t, err)
	must(t, spaces.Delete(ctx, inner.Name, metav1.DeleteOptions{}))
	_, err = maps.Create(ctx, configMap("late", nil), metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) || !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		t.Errorf("a create in a namespace that ends: %v", err)
	}
	eventually(t, ctx, "the namespace ends and its content is deleted", func() (bool, error) {
		now, err := spaces.Get(ctx, inner.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		held, err := maps.Get(ctx, "kept", metav1.GetOptions{})
		return now.Status.Phase == corev1.NamespaceTerminating && held.DeletionTimestamp != nil, err
	})
	held, err := maps.Get(ctx, "kept", metav1.GetOptions{})
	must(t, err)
	held.Finalizers = nil
	_, err = maps.Update(ctx, held, metav1.UpdateOptions{})
	must(t, err)
	eventually(t, ctx, "the namespace is gone", func() (bool, error) {
		_, err := spaces.Get(ctx, inner.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
}
