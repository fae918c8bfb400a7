// SPDX-License-Identifier: Apache-2.0

// The limits of a conversation: where requests go and what their heads say, how much of an answer
// is taken, and what of an answer reaches a terminal.

package maas

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/maas-memory/maas/go/maastest"
)

// A strict server checks both. Over a Unix socket there is no host but the one that we name.
func TestHostAndContentType(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := "localhost"
		if addr := r.Context().Value(http.LocalAddrContextKey).(net.Addr); addr.Network() == "tcp" {
			host = addr.String()
		}
		wanted := map[string]string{"POST": "application/json", "PUT": "application/octet-stream"}[r.Method]
		if r.URL.Path == "/data/write" {
			wanted = "application/octet-stream"
		}
		if got := r.Header.Get("Content-Type"); got != wanted || r.Host != host {
			t.Errorf("a strict server refuses %s %s: %q, host %q", r.Method, r.URL, got, r.Host)
		}
		if r.URL.Path == "/health" {
			fmt.Fprint(w, healthText)
			return
		}
		fmt.Fprintf(w, `{"id":%q,"ttl_seconds":1}`, someID)
	})
	unix := t.TempDir() + "/socket"
	listener := maastest.Must(net.Listen("unix", unix))(t)
	overUnix := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler}}
	overUnix.Start()
	defer overUnix.Close()
	for _, to := range []string{listen(t, handler), "unix:" + unix} {
		c := maastest.Must(openAt(t, to, Options{Name: "me"}))(t)
		some := []Range{{someID, 0, make([]byte, 1)}, {someID, 1, make([]byte, 1)}}
		_, _ = c.Allocate(t.Context(), AllocateOptions{Size: 1})
		_, _, _ = c.Free(t.Context(), someID)
		_ = c.ReadV(t.Context(), some)
		_ = c.WriteV(t.Context(), some)
		_ = c.Write(t.Context(), someID, 0, []byte("x"))
		check(t, c.session.(*httpSession).sender.do(t.Context(), &call{
			method: "POST", path: "/sessions/x/renew", body: newBody([]byte("{}"), nil),
		}))
		check(t, c.Close())
	}
}

func TestRedirectToTheSameServer(t *testing.T) {
	for _, location := range []string{"/there?a=b", "http://%s/there?a=b"} {
		var paths, bodies []string
		c := hostile(t, func(w http.ResponseWriter, r *http.Request) {
			text, _ := io.ReadAll(r.Body)
			paths, bodies = append(paths, r.Method+" "+r.URL.RequestURI()), append(bodies, string(text))
			if r.URL.Path == "/allocate" {
				w.Header().Set("Location", strings.ReplaceAll(location, "%s", r.Host))
				w.WriteHeader(http.StatusTemporaryRedirect)
				return
			}
			if r.Header.Get("Content-Type") != "application/json" {
				t.Error("no content type")
			}
			fmt.Fprintf(w, `{"allocations":[{"id":%q,"size_bytes":1,"actual_size_bytes":1}]}`, someID)
		})
		lent, err := c.Allocate(t.Context(), AllocateOptions{Size: 1, RequestID: "once"})
		holds(t, err == nil && lent[0].ID == someID, lent, err)
		holds(t, len(paths) == 2 && paths[1] == "POST /there?a=b", paths)
		holds(t, bodies[0] == bodies[1] && strings.Contains(bodies[1], `"once"`), bodies)
	}
}

func TestRedirectElsewhere(t *testing.T) {
	there := bystander(t)
	host := strings.TrimPrefix(there, "http://")
	for _, location := range []string{
		there + "/allocate", "//" + host + "/y", "http://u:p@HOST/x", "https://HOST/x", "file:///etc/passwd",
		"gopher://HOST/x", "http:x", "http://[::1]/x", "http://127.0.0.1/x", "",
	} {
		var hops atomic.Int32
		c := hostile(t, func(w http.ResponseWriter, r *http.Request) {
			hops.Add(1)
			w.Header().Set("Location", strings.ReplaceAll(location, "HOST", r.Host))
			w.WriteHeader(http.StatusTemporaryRedirect)
		})
		_, err := c.Allocate(t.Context(), AllocateOptions{Size: 1})
		wantError(t, err, nil, "redirects to another one", "not asked")
		holds(t, hops.Load() == 1, location, hops.Load())
	}
}

func TestRedirectsThatAreNotFollowed(t *testing.T) {
	var hops atomic.Int32
	status := http.StatusTemporaryRedirect
	c := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
		hops.Add(1)
		w.Header().Set("Location", "/allocate")
		w.WriteHeader(status)
	})
	asked := calls(c, someID, []byte("x"))
	delete(asked, "health")
	wantRefusal := func(name string, requests int32) {
		wantError(t, asked[name](t.Context()), nil, fmt.Sprintf(`redirects to "/allocate" (status %d)`, status))
		n := hops.Swap(0)
		holds(t, n == requests, name, n)
	}
	wantRefusal("allocate", 2) // the second of two
	for _, status = range []int{301, 302, 303, 308} {
		wantRefusal("allocate", 1)
	}
	delete(asked, "allocate")
	status = http.StatusTemporaryRedirect
	for name := range asked {
		wantRefusal(name, 1)
	}
}

// An answer takes memory in proportion to what was asked for, whatever its shape.
func TestBombs(t *testing.T) {
	for _, unit := range []string{"[],", "{},", `"",`, "[", " "} {
		for _, head := range []string{`{"allocations":[`, `{"unknown":[`, `{"pool_stats":[`, `{"error":[`} {
			for _, status := range []int{200, 500} {
				piece := []byte(strings.Repeat(unit, 65536/len(unit)))
				c := hostile(t, func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					w.WriteHeader(status)
					fmt.Fprint(w, head)
					for range 1000 {
						if _, err := w.Write(piece); err != nil {
							return
						}
					}
				})
				asked := calls(c, someID, []byte("x"))
				delete(asked, "health")
				used := memoryOf(func() {
					for _, call := range asked {
						wantError(t, call(t.Context()), nil)
					}
				})
				holds(t, used <= 24<<20, head, unit, used)
			}
		}
	}
}

// A page of the maximum length, full of empty elements.
func TestManyEmptyElements(t *testing.T) {
	text := `{"allocations":[` + strings.Repeat("{},", 1<<20) + `{}]}`
	c := hostile(t, answer(200, text))
	used := memoryOf(func() {
		wantError(t, maastest.Err(c.Allocate(t.Context(), AllocateOptions{Size: 1, Count: maxBatch})), nil, "is it maasd?")
	})
	holds(t, used <= 64<<20, used)
}

func TestWordsOfTheServer(t *testing.T) {
	words := "\x1b]52;c;x\a\u009b2J\u202e\x7f\nnext é"
	quoted, _ := json.Marshal(words)
	_, err := hostile(t, answer(400, `{"error":{"code":`+string(quoted)+`,"message":`+string(quoted)+`}}`)).
		Describe(t.Context(), someID)
	wantError(t, err, nil, `400 \x1b]52;c;x\x07\xc2\x9b2J\xe2\x80\xae\x7f\x0anext é: \x1b]`)
	raw := func(status string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			fmt.Fprint(conn, status)
			_ = conn.Close()
		}
	}
	for _, head := range []string{"HTTP/1.1 200 \x1b[2J\r\nX\x1b[2J\r\n\r\n", "\x1b[2J\r\n\r\n",
		"HTTP/1.1 302 Y\r\nLocation: /\x1b[2J\r\n\r\n"} {
		wantError(t, maastest.Err(hostile(t, raw(head)).Describe(t.Context(), someID)), nil)
		holds(t, !strings.ContainsRune(err.Error(), 0x1b), err.Error())
	}
}

// The client keeps the lease that the server grants, not the one that it asked for.
func TestLeaseOfTheAnswer(t *testing.T) {
	granted := func(seconds int) string {
		return fmt.Sprintf(`{"id":%q,"ticket":"x","ttl_seconds":%d,"rdma":null}`, someID, seconds)
	}
	var renewals atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("POST /sessions", answer(200, granted(2)))
	mux.HandleFunc("DELETE /sessions/", answer(200, ""))
	mux.HandleFunc("POST /sessions/{id}/renew", func(w http.ResponseWriter, _ *http.Request) {
		if renewals.Add(1) == 1 {
			fmt.Fprint(w, granted(2))
		} else {
			fmt.Fprint(w, granted(1800))
		}
	})
	c := maastest.Must(openAt(t, serve(t, mux.ServeHTTP), Options{Name: "me", SessionTTL: time.Hour}))(t)
	until, ok := c.Lease()
	holds(t, ok && time.Until(until) <= 2*time.Second, "the lease is", time.Until(until))
	maastest.Eventually(t, "the lease to be what the third answer says", func() bool {
		until, ok := c.Lease()
		return ok && time.Until(until) > 20*time.Minute
	})
}
