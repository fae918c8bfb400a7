// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/maas-memory/maas/go/maastest"
)

// network stands between the database and the server, and fails as networks do.
type network struct {
	t       *testing.T
	address string
	target  *url.URL
	server  *http.Server // Of the cable that was plugged in last.

	silent  atomic.Pointer[chan struct{}] // Set while nothing comes through; closed when it does again.
	flipped atomic.Int64                  // Answers that were changed.
	flips   atomic.Bool
	delay   atomic.Int64 // Nanoseconds that each read of an allocation's bytes takes.
}

// newNetwork is a network to the server at the URL. It ends with the test.
func newNetwork(t *testing.T, server string) *network {
	target := maastest.Must(url.Parse(server))(t)
	n := &network{t: t, address: "127.0.0.1:0", target: target}
	n.plugIn()
	t.Cleanup(func() {
		n.speak()
		n.pullOut()
	})
	return n
}

func (n *network) url() string {
	return "http://" + n.address
}

// plugIn accepts connections, on the port that was used before.
func (n *network) plugIn() {
	listener := maastest.Must(net.Listen("tcp", n.address))(n.t)
	n.address = listener.Addr().String()
	quiet := log.New(io.Discard, "", 0)
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(n.target) },
		ModifyResponse: n.answer,
		ErrorLog:       quiet,
		// A server that is gone is a broken connection, not an answer of the proxy's.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	n.server = &http.Server{ErrorLog: quiet, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if silent := n.silent.Load(); silent != nil {
				<-*silent
				panic(http.ErrAbortHandler)
			}
			if r.URL.Path == "/data/read" || r.Method == http.MethodGet && path.Base(r.URL.Path) == "data" {
				select {
				case <-time.After(time.Duration(n.delay.Load())):
				case <-r.Context().Done():
				}
			}
			proxy.ServeHTTP(w, r)
		})}
	go func(server *http.Server) { _ = server.Serve(listener) }(n.server)
}

// pullOut breaks all connections and refuses new ones.
func (n *network) pullOut() { _ = n.server.Close() }

// fallSilent keeps connections open, and lets nothing through.
func (n *network) fallSilent() {
	silent := make(chan struct{})
	n.silent.Store(&silent)
}

// speak ends fallSilent.
func (n *network) speak() {
	if silent := n.silent.Swap(nil); silent != nil {
		close(*silent)
	}
}

// readsTake makes reads slow.
func (n *network) readsTake(d time.Duration) { n.delay.Store(int64(d)) }

// answer flips bits in the bytes of an allocation, if it is told to.
func (n *network) answer(r *http.Response) error {
	if n.flips.Load() && r.StatusCode < 300 &&
		strings.HasPrefix(r.Header.Get("Content-Type"), "application/octet-stream") {
		n.flipped.Add(1)
		r.Body = &flippingBody{ReadCloser: r.Body}
	}
	return nil
}

// flippingBody flips one bit in every two hundred bytes.
type flippingBody struct {
	io.ReadCloser
	at int
}

func (b *flippingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	for i := range p[:n] {
		if b.at++; b.at%200 == 100 {
			p[i] ^= 1 << (b.at % 7)
		}
	}
	return n, err
}
