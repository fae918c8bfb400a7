// SPDX-License-Identifier: Apache-2.0

package maas

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// What stands here is about servers that are not maasd, or that break; the real one is elsewhere.

const (
	healthText = `{"status":"healthy","service":"memory-as-a-service","version":"0.1.0","arena_id":"a","boot_id":"b"}`
	someID     = "00000000-0000-8000-8000-000000000000"
)

// hostile answers /health as maasd does, and everything else with handle.
func hostile(t *testing.T, handle http.HandlerFunc) *Client {
	t.Helper()
	if wantedTransport() != TransportHTTP {
		t.Skip("the same over any transport")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, healthText) })
	mux.HandleFunc("/", handle)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c, err := Open(t.Context(), Options{URL: server.URL, Transport: TransportHTTP, Timeout: 10 * time.Second})
	check(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func answer(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		fmt.Fprint(w, text)
	}
}

func TestNotMaasd(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":         "",
		"a page":          "<html>hello</html>",
		"another service": `{"status":"healthy"}`,
		"endless":         `{"status":"` + strings.Repeat("x", 1<<20) + `"}`,
		"nested":          strings.Repeat("[", 60000),
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(answer(200, text))
			defer server.Close()
			_, err := Open(t.Context(), Options{URL: server.URL, Transport: TransportHTTP})
			wantError(t, err, nil, "maas: open: "+server.URL, "maasd")
		})
	}
	server := httptest.NewServer(answer(404, "no such page"))
	defer server.Close()
	_, err := Open(t.Context(), Options{URL: server.URL})
	wantError(t, err, nil, "404 Not Found", "is the URL right?")
}

func TestHostileSession(t *testing.T) {
	for _, text := range []string{
		`{}`, `{"id":"../stats","ttl_seconds":9}`, `{"id":5,"ttl_seconds":9}`, `{"id":"a","ttl_seconds":9}`,
		`{"id":"` + someID + `"}`, `{"id":"` + someID + `","ttl_seconds":0}`,
		`{"id":"` + someID + `","ttl_seconds":9223372036854775807}`,
	} {
		mux := http.NewServeMux()
		mux.HandleFunc("/health", answer(200, healthText))
		mux.HandleFunc("/sessions", answer(200, text))
		server := httptest.NewServer(mux)
		_, err := Open(t.Context(), Options{URL: server.URL, Name: "me", Transport: TransportHTTP})
		wantError(t, err, nil, `session "me"`, "is it maasd?")
		server.Close()
	}
}

func TestHostileAnswers(t *testing.T) {
	lent := func(id string, size int) string {
		return fmt.Sprintf(`{"id":%q,"size_bytes":%d,"actual_size_bytes":1024,"age_seconds":0}`, id, size)
	}
	for _, test := range []struct{ name, text string }{
		{"too few", `{"allocations":[` + lent(someID, 10) + `]}`},
		{"too many", `{"allocations":[` + strings.Repeat(lent(someID, 10)+",", 2) + lent(someID, 10) + `]}`},
		{"another size", `{"allocations":[` + lent(someID, 10) + `,` + lent(someID, 11) + `]}`},
		{"no id", `{"allocations":[` + lent(someID, 10) + `,` + lent("../../x", 10) + `]}`},
		{"negative", `{"allocations":[` + lent(someID, 10) + `,` + lent(someID, -10) + `]}`},
		{"overflow", `{"allocations":[` + lent(someID, 10) + `,{"id":"a","size_bytes":10,"actual_size_bytes":10,"age_seconds":9223372036854775807}]}`},
		{"beyond 2^63", `{"allocations":[{"id":"a","size_bytes":1e30}]}`},
		{"long", `{"allocations":[` + strings.Repeat(" ", 1<<20) + `]}`},
		{"cut off", `{"allocations":[`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := hostile(t, answer(200, test.text))
			_, err := c.Allocate(t.Context(), AllocateOptions{Size: 10, Count: 2})
			wantError(t, err, nil, "maas: allocate 10 bytes 2 times", "is it maasd?")
			_, err = c.List(t.Context(), "")
			if err == nil && test.name != "too few" && test.name != "too many" && test.name != "another size" {
				t.Fatal("it was listed")
			}
		})
	}
	for _, text := range []string{
		`{"freed":3,"unknown":[]}`, `{"freed":-1,"unknown":[]}`, `{"freed":0,"unknown":[]}`, `{}`, `[]`,
		`{"freed":1,"unknown":["x"]}`, `{"freed":2,"unknown":["` + someID + `"]}`,
		`{"freed":0,"unknown":["` + someID + `","` + someID + `","` + someID + `"]}`,
	} {
		_, _, err := hostile(t, answer(200, text)).Free(t.Context(), someID, someID)
		wantError(t, err, nil, "is it maasd?")
	}
	for _, text := range []string{
		lent("00000001-0000-8000-8000-000000000000", 10), lent("a", 10), lent(someID, -1), `[]`, ``,
	} {
		_, err := hostile(t, answer(200, text)).Describe(t.Context(), someID)
		wantError(t, err, nil, "is it maasd?")
	}
	_, err := hostile(t, answer(200, `{"allocations":[],"next":"../x"}`)).List(t.Context(), "")
	wantError(t, err, nil, "no sensible next")
	c := hostile(t, answer(204, ""))
	wantError(t, c.Write(t.Context(), someID, 0, []byte("x")), nil, "status 204")
	_, err = c.Allocate(t.Context(), AllocateOptions{Size: 1})
	wantError(t, err, nil, "status 204")
	_, err = c.Describe(t.Context(), someID)
	wantError(t, err, nil, "is it maasd?")
}

func TestPagesThatDoNotEnd(t *testing.T) {
	entry := fmt.Sprintf(`{"id":%q,"size_bytes":1,"actual_size_bytes":1}`, someID)
	for _, text := range []string{
		`{"allocations":[],"next":"` + someID + `"}`,
		`{"allocations":[` + entry + `],"next":"` + someID + `"}`,
	} {
		_, err := hostile(t, answer(200, text)).List(t.Context(), "me")
		wantError(t, err, nil, "maas: list allocations of me", "do not end")
	}
}

func TestHostileData(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		span   string
		length string // empty: in chunks
		bytes  int
		words  string
	}{
		{"whole", 200, "", "10", 10, "status 200 where 206 was due"},
		{"another range", 206, "bytes 0-9/100", "10", 10, `where "bytes 5-14/" was asked for`},
		{"no range", 206, "", "10", 10, "was asked for"},
		{"less", 206, "bytes 5-14/100", "9", 9, "9 bytes where 10 were asked for"},
		{"more", 206, "bytes 5-14/100", "11", 11, "11 bytes where 10 were asked for"},
		{"more in chunks", 206, "bytes 5-14/100", "", 11, "more than the 10 bytes"},
		{"less in chunks", 206, "bytes 5-14/100", "", 9, "the connection broke"},
		{"endless", 206, "bytes 5-14/100", "", 64 << 20, "more than the 10 bytes"},
		{"moved", 307, "", "0", 0, `redirects to "/elsewhere" (status 307)`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
				if test.span != "" {
					w.Header().Set("Content-Range", test.span)
				}
				if test.length != "" {
					w.Header().Set("Content-Length", test.length)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(test.status)
				if test.length == "" {
					check(t, http.NewResponseController(w).Flush())
				}
				for left := test.bytes; left > 0; {
					n, err := w.Write(make([]byte, min(left, 1<<20)))
					if err != nil {
						return
					}
					left -= n
				}
			})
			guarded := bytes.Repeat([]byte{7}, 12)
			err := c.Read(t.Context(), someID, 5, guarded[1:11])
			wantError(t, err, nil, "maas: read 10 bytes at 5 of "+someID, test.words)
			if guarded[0] != 7 || guarded[11] != 7 {
				t.Fatal("it wrote beside the buffer")
			}
		})
	}
}

func TestLongRefusal(t *testing.T) {
	text := `{"error":{"code":"not_found","message":"` + strings.Repeat("é", 5000) + `"}}`
	_, err := hostile(t, answer(404, text)).Describe(t.Context(), someID)
	if !IsNotFound(err) || len(err.Error()) > 1000 {
		t.Fatal(err)
	}
	_, err = hostile(t, answer(500, strings.Repeat("x", 1<<20))).Describe(t.Context(), someID)
	wantError(t, err, nil, "500 Internal Server Error")
}

// A connection that breaks is no reason to fail, as long as it does not go on like that.
func TestRetries(t *testing.T) {
	var requests atomic.Int32
	failures := int32(2)
	c := hostile(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		if requests.Add(1) <= failures {
			conn, _, _ := http.NewResponseController(w).Hijack()
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
			return
		}
		if !strings.Contains(string(text), `"request_id"`) {
			t.Error("an allocation that cannot be sent again")
		}
		fmt.Fprintf(w, `{"allocations":[{"id":%q,"size_bytes":1,"actual_size_bytes":1}]}`, someID)
	})
	if _, err := c.Allocate(t.Context(), AllocateOptions{Size: 1}); err != nil || requests.Load() != 3 {
		t.Fatal(requests.Load(), err)
	}
	requests.Store(0)
	failures = 1000
	_, err := c.Allocate(t.Context(), AllocateOptions{Size: 1})
	wantError(t, err, nil, "the connection broke")
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if requests.Load() > 6 { // three of ours, each perhaps on a connection that was kept
		t.Fatal(requests.Load(), "requests")
	}
}

// A server that answers before it has read the body; the caller's bytes must not be read on.
func TestEarlyRefusal(t *testing.T) {
	c := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error":{"code":"not_found","message":"gone"}}`)
	})
	data := make([]byte, transferBytes)
	for range 10 {
		err := c.Write(t.Context(), someID, 0, data)
		if !IsNotFound(err) {
			wantError(t, err, nil, "the connection broke") // the answer was lost in the reset
		}
		clear(data)
	}
}

// A write whose body the server does not take ends with its deadline, and lets go of the bytes.
func TestStuckWrite(t *testing.T) {
	release := make(chan struct{})
	c := hostile(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	data := make([]byte, transferBytes)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	wantError(t, c.Write(ctx, someID, 0, data), context.DeadlineExceeded)
	clear(data)
}

// recorded is what a server was asked.
type recorded struct {
	paths  []string
	bodies []string
}

func (r *recorded) add(req *http.Request) {
	text, _ := io.ReadAll(req.Body)
	r.paths = append(r.paths, req.Method+" "+req.URL.RequestURI())
	r.bodies = append(r.bodies, string(text))
}

func TestRedirectToTheSameServer(t *testing.T) {
	for _, location := range []string{"/there?a=b", "http://%s/there?a=b"} {
		var seen recorded
		c := hostile(t, func(w http.ResponseWriter, r *http.Request) {
			seen.add(r)
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
		if err != nil || lent[0].ID != someID {
			t.Fatal(lent, err)
		}
		if len(seen.paths) != 2 || seen.paths[1] != "POST /there?a=b" || seen.bodies[0] != seen.bodies[1] ||
			!strings.Contains(seen.bodies[1], `"once"`) {
			t.Fatalf("%q", seen)
		}
	}
}

func TestRedirectElsewhere(t *testing.T) {
	var others atomic.Int32
	there := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { others.Add(1) }))
	defer there.Close()
	host := strings.TrimPrefix(there.URL, "http://")
	for _, location := range []string{
		there.URL + "/allocate", "//" + host + "/y", "http://u:p@HOST/x", "https://HOST/x", "file:///etc/passwd",
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
		if hops.Load() != 1 || others.Load() != 0 {
			t.Fatal(location, hops.Load(), others.Load())
		}
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
	wantRefusal := func(err error, requests int32) {
		t.Helper()
		wantError(t, err, nil, fmt.Sprintf(`redirects to "/allocate" (status %d)`, status))
		if hops.Swap(0) != requests {
			t.Fatal("another count of requests")
		}
	}
	_, err := c.Allocate(t.Context(), AllocateOptions{Size: 1})
	wantRefusal(err, 2) // the second of two
	_, err = c.Describe(t.Context(), someID)
	wantRefusal(err, 1)
	wantRefusal(c.Write(t.Context(), someID, 0, []byte("x")), 1)
	_, _, err = c.Free(t.Context(), someID)
	wantRefusal(err, 1)
	for _, status = range []int{301, 302, 303, 308} {
		_, err = c.Allocate(t.Context(), AllocateOptions{Size: 1})
		wantRefusal(err, 1)
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
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, err := c.Allocate(t.Context(), AllocateOptions{Size: 1})
				wantError(t, err, nil)
				_, _, err = c.Free(t.Context(), someID)
				wantError(t, err, nil)
				_, err = c.Describe(t.Context(), someID)
				wantError(t, err, nil)
				_, err = c.Stats(t.Context())
				wantError(t, err, nil)
				_, err = c.List(t.Context(), "")
				wantError(t, err, nil)
				wantError(t, c.Write(t.Context(), someID, 0, []byte("x")), nil)
				runtime.ReadMemStats(&after)
				if used := after.TotalAlloc - before.TotalAlloc; used > 24<<20 {
					t.Fatalf("%s%s…: %d bytes", head, unit, used)
				}
			}
		}
	}
}

// As long as a page of 1,000 or 10,000 may be, and full of empty elements.
func TestManyEmptyElements(t *testing.T) {
	text := `{"allocations":[` + strings.Repeat("{},", 1<<20) + `{}]}`
	c := hostile(t, answer(200, text))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := c.Allocate(t.Context(), AllocateOptions{Size: 1, Count: maxBatch})
	wantError(t, err, nil, "is it maasd?")
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Fatalf("%d bytes", used)
	}
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
		_, err := hostile(t, raw(head)).Describe(t.Context(), someID)
		wantError(t, err, nil)
		if strings.ContainsRune(err.Error(), 0x1b) {
			t.Fatalf("%q", err.Error())
		}
	}
}

// The lease that the server grants is the one that is kept, not the one that was asked for.
func TestLeaseOfTheAnswer(t *testing.T) {
	granted := func(seconds int) string {
		return fmt.Sprintf(`{"id":%q,"ticket":"x","ttl_seconds":%d,"rdma":null}`, someID, seconds)
	}
	var renewals atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("/health", answer(200, healthText))
	mux.HandleFunc("POST /sessions", answer(200, granted(2)))
	mux.HandleFunc("DELETE /sessions/", answer(200, ""))
	mux.HandleFunc("POST /sessions/{id}/renew", func(w http.ResponseWriter, _ *http.Request) {
		if renewals.Add(1) == 1 {
			fmt.Fprint(w, granted(2))
		} else {
			fmt.Fprint(w, granted(1800))
		}
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	c, err := Open(t.Context(), Options{
		URL: server.URL, Name: "me", SessionTTL: time.Hour, Transport: TransportHTTP,
	})
	check(t, err)
	if until, ok := c.Lease(); !ok || time.Until(until) > 2*time.Second {
		t.Fatal("the lease is", time.Until(until))
	}
	eventually(t, "the lease to be what the third answer says", func() bool {
		until, ok := c.Lease()
		return ok && time.Until(until) > 20*time.Minute
	})
	check(t, c.Close())
}

// Large data is not copied as a whole on its way.
func TestNoCopies(t *testing.T) {
	c := open(t, startServer(t), Options{})
	const size = 4 << 20
	id := allocate(t, c, AllocateOptions{Size: size})[0].ID
	data := make([]byte, size)
	check(t, c.RegisterBuffer(data))
	check(t, c.Write(t.Context(), id, 0, data)) // has the connection made
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 10 {
		check(t, c.Write(t.Context(), id, 0, data))
		check(t, c.Read(t.Context(), id, 0, data))
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 10*size/4 {
		t.Fatalf("20 transfers of %d bytes took %d bytes of memory", size, used)
	}
	check(t, c.UnregisterBuffer(data))
}
