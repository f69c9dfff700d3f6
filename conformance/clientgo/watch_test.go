package clientgo

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// A watch that begins with what exists: client-go's informers open with it.
func TestWatchWithInitialEvents(t *testing.T) {
	ctx, ns := namespace(t)
	maps := typed.CoreV1().ConfigMaps(ns)
	for i := range 3 {
		_, err := maps.Create(ctx, configMap(fmt.Sprint("m", i), nil), metav1.CreateOptions{})
		must(t, err)
	}
	yes := true
	opened, err := maps.Watch(ctx, metav1.ListOptions{
		SendInitialEvents:    &yes,
		ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
		AllowWatchBookmarks:  true,
		LabelSelector:        "test=yes",
	})
	must(t, err)
	defer opened.Stop()
	next := func() watch.Event {
		select {
		case event, open := <-opened.ResultChan():
			if !open {
				t.Fatal("the watch ended")
			}
			return event
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
		panic("unreachable")
	}
	for range 3 {
		if event := next(); event.Type != watch.Added {
			t.Fatalf("initial event: %v", event.Type)
		}
	}
	end := next()
	mark, ok := end.Object.(*corev1.ConfigMap)
	if end.Type != watch.Bookmark || !ok || mark.Annotations[metav1.InitialEventsAnnotationKey] != "true" {
		t.Fatalf("the end of the initial events: %v %+v", end.Type, end.Object)
	}
	_, err = maps.Create(ctx, configMap("later", nil), metav1.CreateOptions{})
	must(t, err)
	if event := next(); event.Type != watch.Added {
		t.Errorf("live event: %v", event.Type)
	}
	// Out of the selector is deleted, for this watcher.
	changed := configMap("later", nil)
	changed.Labels = nil
	_, err = maps.Update(ctx, changed, metav1.UpdateOptions{})
	must(t, err)
	if event := next(); event.Type != watch.Deleted {
		t.Errorf("an object that left the selector: %v", event.Type)
	}
}

func TestWatchFromARevision(t *testing.T) {
	ctx, ns := namespace(t)
	maps := typed.CoreV1().ConfigMaps(ns)
	first, err := maps.Create(ctx, configMap("m", nil), metav1.CreateOptions{})
	must(t, err)
	must(t, maps.Delete(ctx, "m", metav1.DeleteOptions{}))
	opened, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: first.ResourceVersion, LabelSelector: "test=yes"})
	must(t, err)
	defer opened.Stop()
	event := <-opened.ResultChan()
	gone, ok := event.Object.(*corev1.ConfigMap)
	if event.Type != watch.Deleted || !ok || gone.ResourceVersion == first.ResourceVersion {
		t.Errorf("%v %+v", event.Type, event.Object)
	}
}

func TestInformersSeeEverything(t *testing.T) {
	ctx, ns := namespace(t)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	factory := informers.NewSharedInformerFactoryWithOptions(typed, 0, informers.WithNamespace(ns))
	maps := factory.Core().V1().ConfigMaps()
	deployments := factory.Apps().V1().Deployments()
	events := make(chan string, 100)
	_, err := maps.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { events <- "add" },
		UpdateFunc: func(any, any) { events <- "update" },
		DeleteFunc: func(any) { events <- "delete" },
	})
	must(t, err)
	deployments.Informer()
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			t.Fatalf("%v is not in sync", kind)
		}
	}
	client := typed.CoreV1().ConfigMaps(ns)
	_, err = client.Create(ctx, configMap("m", map[string]string{"a": "1"}), metav1.CreateOptions{})
	must(t, err)
	eventually(t, ctx, "the cache has the object", func() (bool, error) {
		got, err := maps.Lister().ConfigMaps(ns).Get("m")
		return err == nil && got.Data["a"] == "1", nil
	})
	_, err = client.Update(ctx, configMap("m", map[string]string{"a": "2"}), metav1.UpdateOptions{})
	must(t, err)
	must(t, client.Delete(ctx, "m", metav1.DeleteOptions{}))
	want := []string{"add", "update", "delete"}
	for at := 0; at < len(want); {
		select {
		case event := <-events:
			// Other objects of the namespace, such as the root certificate, may be added meanwhile.
			if event == want[at] {
				at++
			}
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", want[at], ctx.Err())
		}
	}
}

func TestLeaderElection(t *testing.T) {
	ctx, ns := namespace(t)
	leading := make(chan string, 2)
	run := func(name string) context.CancelFunc {
		ctx, cancel := context.WithCancel(ctx)
		lock := &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: ns, Name: "leader"},
			Client:     typed.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: name},
		}
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock:            lock,
			ReleaseOnCancel: true,
			LeaseDuration:   15 * time.Second,
			RenewDeadline:   10 * time.Second,
			RetryPeriod:     200 * time.Millisecond,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { leading <- name },
				OnStoppedLeading: func() {},
			},
		})
		must(t, err)
		go elector.Run(ctx)
		return cancel
	}
	leader := func() string {
		select {
		case name := <-leading:
			return name
		case <-ctx.Done():
			t.Fatal("nobody leads")
		}
		return ""
	}
	first := run("one")
	if name := leader(); name != "one" {
		t.Fatalf("%s leads", name)
	}
	second := run("two")
	defer second()
	first()
	if name := leader(); name != "two" {
		t.Fatalf("%s leads", name)
	}
}
