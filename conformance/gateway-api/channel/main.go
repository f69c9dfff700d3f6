// Program channel makes the definitions of Gateway API's kinds those of one channel: it puts what
// the folder holds in place of what is there, and removes the definitions that the folder has not:
// channel FOLDER.
package main

import (
	"context"
	"log"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

var resources = map[string]schema.GroupVersionResource{
	"CustomResourceDefinition":         {Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
	"ValidatingAdmissionPolicy":        {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicies"},
	"ValidatingAdmissionPolicyBinding": {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicybindings"},
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("channel FOLDER")
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	check(err)
	client, err := dynamic.NewForConfig(config)
	check(err)
	paths, err := filepath.Glob(filepath.Join(os.Args[1], "gateway.networking.*.yaml"))
	check(err)
	wanted := map[string]bool{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		check(err)
		for _, document := range strings.Split(string(text), "\n---\n") {
			object := &unstructured.Unstructured{}
			check(yaml.Unmarshal([]byte(document), &object.Object))
			resource, known := resources[object.GetKind()]
			if !known {
				continue
			}
			put(client.Resource(resource), object)
			wanted[object.GetName()] = true
		}
	}
	if len(wanted) == 0 {
		log.Fatalf("no definition in %s", os.Args[1])
	}
	definitions := client.Resource(resources["CustomResourceDefinition"])
	there, err := definitions.List(context.Background(), v1.ListOptions{})
	check(err)
	for _, definition := range there.Items {
		group, _, _ := unstructured.NestedString(definition.Object, "spec", "group")
		if strings.HasPrefix(group, "gateway.networking.") && !wanted[definition.GetName()] {
			check(definitions.Delete(context.Background(), definition.GetName(), v1.DeleteOptions{}))
			log.Printf("removed %s", definition.GetName())
		}
	}
}

func put(client dynamic.ResourceInterface, object *unstructured.Unstructured) {
	ctx := context.Background()
	there, err := client.Get(ctx, object.GetName(), v1.GetOptions{})
	if errors.IsNotFound(err) {
		_, err = client.Create(ctx, object, v1.CreateOptions{})
		check(err)
		return
	}
	check(err)
	object.SetResourceVersion(there.GetResourceVersion())
	_, err = client.Update(ctx, object, v1.UpdateOptions{})
	check(err)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
