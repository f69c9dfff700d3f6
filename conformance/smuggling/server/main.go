// A server on Go's net/http that says of every request that it read to its end what it was: a line
// of JSON on standard output, and its target in the answer.
package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
)

type read struct {
	Target string `json:"target"`
	Host   string `json:"host"`
	Length int64  `json:"length"`
}

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		panic(err)
	}
	var one sync.Mutex
	lines := json.NewEncoder(os.Stdout)
	panic(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		length, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		one.Lock()
		_ = lines.Encode(read{r.RequestURI, r.Host, length})
		one.Unlock()
		w.Header().Set("X-Seen", r.RequestURI)
		_, _ = io.WriteString(w, r.RequestURI)
	})))
}
