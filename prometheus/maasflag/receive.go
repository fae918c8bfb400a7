// SPDX-License-Identifier: Apache-2.0

// Samples that others send, by remote write or OTLP. Who gets a good answer never sends them again, so a node gives
// one only if its successor has the samples, or if nobody reaches the server, as far as the node knows.

package maasflag

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// drainTime is how long a hand-over waits for requests that are under way. Those that take longer are answered 503.
const drainTime = time.Second

// Receiver wraps a handler to which others write samples. While this node does not know that it leads, and once it
// hands over, requests are answered 503, so that their senders repeat them. That is decided again when the handler
// answers: a request whose samples came too late for the successor is not acknowledged. Any goroutine.
func (n *Node) Receiver(handler http.HandlerFunc) http.HandlerFunc {
	if !n.c.Follows() {
		return handler
	}
	return func(w http.ResponseWriter, r *http.Request) {
		guarded := &receipt{ResponseWriter: w, node: n}
		if !n.surelyLeads() || !n.receiving.begin() {
			guarded.refuse()
			return
		}
		defer n.receiving.end()
		handler(guarded, r)
		if !guarded.answered {
			guarded.WriteHeader(http.StatusOK)
		}
	}
}

// surelyLeads is Leads without waiting.
func (n *Node) surelyLeads() bool {
	a := n.attached.Load()
	return a != nil && a.memory.SurelyLeads()
}

// receipt is an answer to a sender. Its fields belong to the handler's goroutine.
type receipt struct {
	http.ResponseWriter
	node              *Node
	answered, refused bool
}

// WriteHeader implements http.ResponseWriter. A sender repeats what was answered 5xx, and nothing else: a 4xx, too,
// may tell of samples that were taken.
func (r *receipt) WriteHeader(status int) {
	switch {
	case r.answered:
	case status >= 200 && status < 500 && !r.node.surelyLeads():
		r.refuse()
	default:
		r.answered = status >= 200
		r.ResponseWriter.WriteHeader(status)
	}
}

// Write implements http.ResponseWriter.
func (r *receipt) Write(b []byte) (int, error) {
	if !r.answered {
		r.WriteHeader(http.StatusOK)
	}
	if r.refused {
		return len(b), nil
	}
	return r.ResponseWriter.Write(b)
}

func (r *receipt) refuse() {
	r.answered, r.refused = true, true
	for name := range r.Header() {
		if strings.HasPrefix(name, "X-Prometheus-Remote-Write-") { // How many samples were written.
			r.Header().Del(name)
		}
	}
	http.Error(r.ResponseWriter, "this Prometheus does not know that it leads; send it again", http.StatusServiceUnavailable)
}

// receiving counts the requests that are under way.
type receiving struct {
	mu     sync.Mutex
	open   int
	closed chan struct{} // Not nil: no further request begins. Closed when the last one has ended.
}

// begin says whether a request may begin; then it ends with end.
func (r *receiving) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed != nil {
		return false
	}
	r.open++
	return true
}

func (r *receiving) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open--; r.open == 0 && r.closed != nil {
		close(r.closed)
	}
}

// drain lets no request begin any more, and waits until those under way have ended, but not for longer than patience.
// It is called once.
func (r *receiving) drain(patience time.Duration) {
	r.mu.Lock()
	closed := make(chan struct{})
	if r.closed = closed; r.open == 0 {
		close(closed)
	}
	r.mu.Unlock()
	select {
	case <-closed:
	case <-time.After(patience):
	}
}
