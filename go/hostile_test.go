// SPDX-License-Identifier: Apache-2.0

// Servers that are not maasd, or that break.

package maas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/maas-memory/maas/go/maastest"
)

const (
	healthText = `{"status":"healthy","service":"memory-as-a-service","version":"0.1.0","arena_id":"a","boot_id":"b"}`
	someID     = "00000000-0000-8000-8000-000000000000"
)

// overHTTP skips what is the same over any transport.
func overHTTP(t *testing.T) {
	t.Helper()
	if maastest.Transport() != TransportHTTP {
		t.Skip("the same over any transport")
	}
}

// serve returns the URL of a server that answers /health as maasd does, and everything else with handle.
func serve(t *testing.T, handle http.HandlerFunc) string {
	overHTTP(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/health", answer(200, healthText))
	mux.HandleFunc("/", handle)
	return listen(t, mux.ServeHTTP)
}

// hostile is a client of such a server.
func hostile(t *testing.T, handle http.HandlerFunc) *Client {
	return maastest.Must(openAt(t, serve(t, handle), Options{}))(t)
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
		"slab sizes":      strings.Replace(healthText, "}", `,"slab_sizes":[1024,-1]}`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			url := listen(t, answer(200, text))
			wantError(t, maastest.Err(openAt(t, url, Options{})), nil, "maas: open: "+url, "maasd")
		})
	}
	url := listen(t, answer(404, "no such page"))
	wantError(t, maastest.Err(openAt(t, url, Options{})), nil, "404 Not Found", "is the URL right?")
}

func TestHostileSession(t *testing.T) {
	for _, text := range []string{
		`{}`, `{"id":"../stats","ttl_seconds":9}`, `{"id":5,"ttl_seconds":9}`, `{"id":"a","ttl_seconds":9}`,
		`{"id":"` + someID + `"}`, `{"id":"` + someID + `","ttl_seconds":0}`,
		`{"id":"` + someID + `","ttl_seconds":9223372036854775807}`,
	} {
		url := serve(t, answer(200, text))
		wantError(t, maastest.Err(openAt(t, url, Options{Name: "me"})), nil, `session "me"`, "is it maasd?")
	}
}

func TestHostileSessions(t *testing.T) {
	for _, text := range []string{
		`{}`, `[]`, `{"sessions":null}`, `{"sessions":7}`, `{"sessions":["x"]}`, `{"sessions":[` + strings.Repeat("{},", 1<<16) + `{}]}`,
	} {
		_, _, err := hostile(t, answer(200, text)).SessionAge(t.Context(), "me")
		wantError(t, err, nil, `maas: sessions "me"`)
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
		wantError(t, maastest.Err(hostile(t, answer(200, text)).Describe(t.Context(), someID)), nil, "is it maasd?")
	}
	_, err := hostile(t, answer(200, `{"allocations":[],"next":"../x"}`)).List(t.Context(), "")
	wantError(t, err, nil, "no sensible next")
	c := hostile(t, answer(204, ""))
	wantError(t, c.Write(t.Context(), someID, 0, []byte("x")), nil, "status 204")
	wantError(t, maastest.Err(c.Allocate(t.Context(), AllocateOptions{Size: 1})), nil, "status 204")
	wantError(t, maastest.Err(c.Describe(t.Context(), someID)), nil, "is it maasd?")
}

// Memory that names no owner may have one all the same.
func TestOwnerOfTheAnswer(t *testing.T) {
	lent := fmt.Sprintf(`{"allocations":[{"id":%q,"size_bytes":1,"actual_size_bytes":64,"age_seconds":0}]`, someID)
	for _, row := range []struct{ asked, says, owner string }{
		{"", `,"owner":"me"}`, "me"}, {"us", "}", "us"}, {"us", `,"owner":"me"}`, "us"}, {"", `,"owner":"\n"}`, ""}, {"", "}", ""},
	} {
		got := allocate(t, hostile(t, answer(200, lent+row.says)), AllocateOptions{Size: 1, Owner: row.asked})
		holds(t, got[0].Owner == row.owner, got, row)
	}
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
			holds(t, guarded[0] == 7 && guarded[11] == 7, "it wrote beside the buffer")
		})
	}
}

func TestLongRefusal(t *testing.T) {
	text := `{"error":{"code":"not_found","message":"` + strings.Repeat("é", 5000) + `"}}`
	_, err := hostile(t, answer(404, text)).Describe(t.Context(), someID)
	holds(t, IsNotFound(err) && len(err.Error()) <= 1000, err)
	_, err = hostile(t, answer(500, strings.Repeat("x", 1<<20))).Describe(t.Context(), someID)
	wantError(t, err, nil, "500 Internal Server Error")
}

// A connection that breaks is no failure, unless it goes on breaking.
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
	_, err := c.Allocate(t.Context(), AllocateOptions{Size: 1})
	holds(t, err == nil && requests.Load() == 3, requests.Load(), err)
	requests.Store(0)
	failures = 1000
	_, err = c.Allocate(t.Context(), AllocateOptions{Size: 1})
	wantError(t, err, nil, "the connection broke")
	holds(t, errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF), err)
	holds(t, requests.Load() <= 6, requests.Load(), "requests") // three of ours, each perhaps on a connection that was kept
}

// net/http sends and reads at the same time, and either may be the one that sees the end of the connection.
func TestRetriesOfWhatIsStillSent(t *testing.T) {
	var requests atomic.Int32
	c := hostile(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1)%2 == 1 {
			conn, _, _ := http.NewResponseController(w).Hijack()
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
			return
		}
		answer(200, "")(w, r)
	})
	data := make([]byte, 1<<20)
	for range 50 {
		check(t, c.Write(t.Context(), someID, 0, data))
	}
}

// The server answers before it has read the body; afterwards nobody may read the caller's bytes.
func TestEarlyRefusal(t *testing.T) {
	c := hostile(t, func(w http.ResponseWriter, _ *http.Request) { // Unlike answer.
		http.Error(w, `{"error":{"code":"not_found","message":"gone"}}`, http.StatusNotFound)
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

// A write whose body the server does not take ends at its deadline, and releases the bytes.
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

// Data that the server does not take holds up no lease.
func TestRenewBesideStuckWrites(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{}, maxConnections)
	c := hostile(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			arrived <- struct{}{}
			<-release
		}
		answer(200, "")(w, r)
	})
	written := make(chan struct{})
	go func() {
		together(maxConnections, func(int) { _ = c.Write(t.Context(), someID, 0, []byte("x")) })
		close(written)
	}()
	defer func() {
		close(release)
		<-written
	}()
	for range maxConnections {
		maastest.Receive(t, "all connections for data are taken", arrived)
	}
	ctx, cancel := context.WithTimeout(t.Context(), maastest.Patience/4)
	defer cancel()
	check(t, c.Renew(ctx, someID))
}

// Large data is not copied as a whole on its way.
func TestNoCopies(t *testing.T) {
	c := open(t, maastest.Start(t), Options{})
	const size = 4 << 20
	id := allocate(t, c, AllocateOptions{Size: size})[0].ID
	data := make([]byte, size)
	check(t, c.RegisterBuffer(data))
	check(t, c.Write(t.Context(), id, 0, data)) // has the connection made
	used := memoryOf(func() {
		for range 10 {
			check(t, c.Write(t.Context(), id, 0, data))
			check(t, c.Read(t.Context(), id, 0, data))
		}
	})
	holds(t, used <= 10*size/4, "of memory it took", used)
	check(t, c.UnregisterBuffer(data))
}
