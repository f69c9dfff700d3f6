// Command store measures durable writes, reads, lists and watches of Suimon's API and of etcd, in
// turns, on one machine, and prints a Markdown table with the ratios. Every write is acknowledged
// after it is on disk, on both sides. One caller is one connection's stream; values are 1 KiB.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

var value = strings.Repeat("v", 1024)

// peer is one side of the comparison.
type peer interface {
	put(ctx context.Context, key string) error
	get(ctx context.Context, key string) error
	list(ctx context.Context) (int, error)
	// watch calls seen for each event until ctx ends; ready once it has begun.
	watch(ctx context.Context, ready func(), seen func()) error
}

type etcd struct {
	clients []*clientv3.Client
	next    atomic.Uint64
}

func (e *etcd) client() *clientv3.Client {
	return e.clients[e.next.Add(1)%uint64(len(e.clients))]
}

func (e *etcd) put(ctx context.Context, key string) error {
	_, err := e.client().Put(ctx, "/maps/"+key, value)
	return err
}

func (e *etcd) get(ctx context.Context, key string) error {
	answer, err := e.client().Get(ctx, "/maps/"+key)
	if err == nil && len(answer.Kvs) != 1 {
		err = fmt.Errorf("%s is missing", key)
	}
	return err
}

func (e *etcd) list(ctx context.Context) (int, error) {
	answer, err := e.client().Get(ctx, "/maps/", clientv3.WithPrefix())
	if err != nil {
		return 0, err
	}
	return len(answer.Kvs), nil
}

func (e *etcd) watch(ctx context.Context, ready func(), seen func()) error {
	events := e.client().Watch(ctx, "/maps/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	for answer := range events {
		if answer.Created {
			ready()
		}
		for range answer.Events {
			seen()
		}
	}
	return nil
}

type suimon struct {
	base    string
	clients []*http.Client
	next    atomic.Uint64
}

func (s *suimon) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, s.base+"/api/v1/namespaces/default/configmaps"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := s.clients[s.next.Add(1)%uint64(len(s.clients))].Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode > 299 {
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		return answer, fmt.Errorf("%s %s: %d %s", method, path, answer.StatusCode, text)
	}
	return answer, nil
}

func (s *suimon) whole(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	answer, err := s.do(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return io.ReadAll(answer.Body)
}

// writes makes each object another one: the API writes nothing and tells nobody of an update that
// changes nothing.
var writes atomic.Uint64

func object(key string) []byte {
	changed := fmt.Sprintf("%020d", writes.Add(1))
	return []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"` + key + `"},"data":{"v":"` + value[len(changed):] + changed + `"}}`)
}

func (s *suimon) put(ctx context.Context, key string) error {
	answer, err := s.do(ctx, http.MethodPut, "/"+key, object(key))
	if answer != nil && answer.StatusCode == http.StatusNotFound {
		_, err = s.whole(ctx, http.MethodPost, "", object(key))
		return err
	}
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

func (s *suimon) get(ctx context.Context, key string) error {
	_, err := s.whole(ctx, http.MethodGet, "/"+key, nil)
	return err
}

func (s *suimon) list(ctx context.Context) (int, error) {
	all, err := s.whole(ctx, http.MethodGet, "", nil)
	return bytes.Count(all, []byte(`"uid":`)), err
}

func (s *suimon) watch(ctx context.Context, ready func(), seen func()) error {
	all, err := s.whole(ctx, http.MethodGet, "?limit=1", nil)
	if err != nil {
		return err
	}
	var list struct {
		Metadata struct{ ResourceVersion string }
	}
	if err := json.Unmarshal(all, &list); err != nil {
		return err
	}
	answer, err := s.do(ctx, http.MethodGet, "?watch=1&resourceVersion="+list.Metadata.ResourceVersion, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	ready()
	buffer := make([]byte, 64<<10)
	for {
		read, err := answer.Body.Read(buffer)
		for range bytes.Count(buffer[:read], []byte{'\n'}) {
			seen()
		}
		if err != nil {
			return nil
		}
	}
}

// cpu is the processor time of a process, in seconds.
func cpu(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}

func rss(pid int) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	return 0
}

type result struct{ rate, p50, p99, cpu float64 }

// load runs do by so many callers for a time.
func load(pid, callers int, duration time.Duration, do func(caller, step int) error) (result, error) {
	var group sync.WaitGroup
	var mutex sync.Mutex
	var all []float64
	var failure error
	before, start := cpu(pid), time.Now()
	for caller := range callers {
		group.Go(func() {
			var own []float64
			for step := 0; time.Since(start) < duration; step++ {
				begin := time.Now()
				if err := do(caller, step); err != nil {
					mutex.Lock()
					failure = err
					mutex.Unlock()
					return
				}
				own = append(own, float64(time.Since(begin).Microseconds())/1000)
			}
			mutex.Lock()
			all = append(all, own...)
			mutex.Unlock()
		})
	}
	group.Wait()
	elapsed, used := time.Since(start).Seconds(), cpu(pid)-before
	slices.Sort(all)
	if failure != nil || len(all) == 0 {
		return result{}, failure
	}
	return result{float64(len(all)) / elapsed, all[len(all)/2], all[len(all)*99/100], used / float64(len(all)) * 1e6}, nil
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	endpoint := flag.String("etcd", "", "etcd's client URL")
	etcdTLS := transport.TLSInfo{}
	flag.StringVar(&etcdTLS.TrustedCAFile, "etcd-ca", "", "etcd's authority; without it there is no TLS")
	flag.StringVar(&etcdTLS.CertFile, "etcd-cert", "", "the client certificate for etcd")
	flag.StringVar(&etcdTLS.KeyFile, "etcd-key", "", "its key")
	kubeconfig := flag.String("kubeconfig", "", "Suimon's kubeconfig")
	etcdPid := flag.Int("etcd-pid", 0, "")
	suimonPid := flag.Int("suimon-pid", 0, "")
	rounds := flag.Int("rounds", 3, "")
	seconds := flag.Float64("seconds", 3, "length of one measurement")
	objects := flag.Int("objects", 10000, "objects of the list")
	watchers := flag.Int("watchers", 1000, "")
	flag.Parse()
	const connections, keys = 8, 50
	them, us := &etcd{}, &suimon{}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	check(err)
	us.base = config.Host
	var secured *tls.Config
	if etcdTLS.TrustedCAFile != "" {
		secured, err = etcdTLS.ClientConfig()
		check(err)
	}
	for range connections {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint}, TLS: secured, MaxCallRecvMsgSize: 1 << 30})
		check(err)
		them.clients = append(them.clients, client)
		// Each its own transport: the cache of client-go would share one connection.
		own := rest.CopyConfig(config)
		own.Dial = nil
		own.UserAgent = fmt.Sprint("store-", len(us.clients))
		tlsConfig, err := rest.TLSConfigFor(own)
		check(err)
		us.clients = append(us.clients, &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true}})
	}
	ctx := context.Background()
	duration := time.Duration(*seconds * float64(time.Second))
	sides := []struct {
		peer
		pid int
	}{{them, *etcdPid}, {us, *suimonPid}}

	fmt.Println("| case | etcd | Suimon | Suimon / etcd |\n|---|---|---|---|")
	row := func(name, format string, a, b float64) {
		fmt.Printf("| %s | "+format+" | "+format+" | %.2f |\n", name, a, b, b/a)
	}
	for _, callers := range []int{1, 16, 128} {
		// What is measured are writes of objects that exist: through an API, the first write of a
		// key is another request, which has to fail before.
		for _, side := range sides {
			var group sync.WaitGroup
			for caller := range callers {
				group.Go(func() {
					for step := range keys {
						check(side.put(ctx, fmt.Sprintf("c%d-%d", caller, step)))
					}
				})
			}
			group.Wait()
		}
		for _, kind := range []string{"put", "get"} {
			var rates, p50s, p99s, cpus [2][]float64
			for range *rounds {
				for at, side := range sides {
					do := func(caller, step int) error {
						key := fmt.Sprintf("c%d-%d", caller, step%keys)
						if kind == "put" {
							return side.put(ctx, key)
						}
						return side.get(ctx, fmt.Sprintf("c%d-0", caller))
					}
					got, err := load(side.pid, callers, duration, do)
					check(err)
					rates[at] = append(rates[at], got.rate)
					p50s[at] = append(p50s[at], got.p50)
					p99s[at] = append(p99s[at], got.p99)
					cpus[at] = append(cpus[at], got.cpu)
				}
			}
			name := fmt.Sprintf("%s, %d callers", kind, callers)
			row(name+": per second", "%.0f", median(rates[0]), median(rates[1]))
			row(name+": p50 ms", "%.2f", median(p50s[0]), median(p50s[1]))
			row(name+": p99 ms", "%.2f", median(p99s[0]), median(p99s[1]))
			row(name+": CPU µs of the server each", "%.0f", median(cpus[0]), median(cpus[1]))
		}
	}

	for _, side := range sides {
		var next atomic.Int64
		var group sync.WaitGroup
		for range 64 {
			group.Go(func() {
				for n := next.Add(1); n <= int64(*objects); n = next.Add(1) {
					check(side.put(ctx, fmt.Sprintf("o%05d", n)))
				}
			})
		}
		group.Wait()
	}
	var lists [2][]float64
	var counts [2]int
	for range *rounds + 2 {
		for at, side := range sides {
			start := time.Now()
			count, err := side.list(ctx)
			check(err)
			counts[at] = count
			lists[at] = append(lists[at], float64(time.Since(start).Microseconds())/1000)
		}
	}
	row(fmt.Sprintf("list of %d and %d objects: ms", counts[0], counts[1]), "%.0f", median(lists[0]), median(lists[1]))

	var fans, fanCPU [2]float64
	for at, side := range sides {
		watching, cancel := context.WithCancel(ctx)
		var ready sync.WaitGroup
		var seen atomic.Int64
		for range *watchers {
			ready.Add(1)
			go func() { check(side.watch(watching, sync.OnceFunc(ready.Done), func() { seen.Add(1) })) }()
		}
		ready.Wait()
		var times []float64
		before := cpu(side.pid)
		const writes = 40
		for step := range writes {
			start := time.Now()
			check(side.put(ctx, fmt.Sprintf("o%05d", step+1)))
			for seen.Load() < int64((step+1)**watchers) {
				if time.Since(start) > 30*time.Second {
					check(fmt.Errorf("only %d of %d events arrived", seen.Load(), (step+1)**watchers))
				}
				time.Sleep(100 * time.Microsecond)
			}
			times = append(times, float64(time.Since(start).Microseconds())/1000)
		}
		fans[at], fanCPU[at] = median(times), (cpu(side.pid)-before)/writes*1000
		cancel()
	}
	row(fmt.Sprintf("a write until the last of %d watchers has it: ms", *watchers), "%.1f", fans[0], fans[1])
	row("the same: CPU ms of the server", "%.1f", fanCPU[0], fanCPU[1])
	row("memory at the end: MiB", "%.0f", rss(*etcdPid), rss(*suimonPid))
}
