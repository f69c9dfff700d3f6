// Package clientgo drives a running server with the libraries that Kubernetes' users have:
// typed and dynamic clients, informers, leader election, and controller-runtime.
//
// KUBECONFIG names the server; `cargo xtask conformance clientgo` starts one.
package clientgo

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Long enough for a loaded machine; nothing is asserted about time.
const patience = time.Minute

var (
	config *rest.Config
	typed  *kubernetes.Clientset
	anyone dynamic.Interface
)

func TestMain(m *testing.M) {
	path := os.Getenv("KUBECONFIG")
	if path == "" {
		fmt.Fprintln(os.Stderr, "KUBECONFIG is not set; run `cargo xtask conformance clientgo`")
		os.Exit(1)
	}
	var err error
	if config, err = clientcmd.BuildConfigFromFlags("", path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	config.QPS, config.Burst = -1, -1
	typed = kubernetes.NewForConfigOrDie(config)
	anyone = dynamic.NewForConfigOrDie(config)
	os.Exit(m.Run())
}

// A namespace of the test's own, gone when the test ends.
func namespace(t *testing.T) (context.Context, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	made, err := typed.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "clientgo-"},
	}, metav1.CreateOptions{})
	must(t, err)
	t.Cleanup(func() {
		cancel()
		err := typed.CoreV1().Namespaces().Delete(context.Background(), made.Name, metav1.DeleteOptions{})
		if err != nil {
			t.Errorf("cannot delete the namespace: %v", err)
		}
	})
	return ctx, made.Name
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Waits until check holds.
func eventually(t *testing.T, ctx context.Context, what string, check func() (bool, error)) {
	t.Helper()
	for {
		done, err := check()
		must(t, err)
		if done {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"test": "yes"}}, Data: data}
}
