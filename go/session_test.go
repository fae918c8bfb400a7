// SPDX-License-Identifier: Apache-2.0

// Sessions, leases and deadlines.

package maas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/maas-memory/maas/go/maastest"
)

func waitLost(t testing.TB, c *Client) {
	maastest.Receive(t, "the session is lost", c.Lost())
	_, ok := c.Lease()
	holds(t, !ok, "a lease of a session that is lost")
}

func TestSession(t *testing.T) {
	s := maastest.Start(t)
	c := open(t, s, Options{Name: "me", SessionTTL: time.Second})
	holds(t, c.Session() != "", "no session")
	kept := allocate(t, c, AllocateOptions{Size: 10, Owner: "me"})[0].ID
	bound := allocate(t, c, AllocateOptions{Size: 10, Lifetime: "session"})[0].ID
	first, ok := c.Lease()
	holds(t, ok && time.Until(first) <= time.Second, first, ok)
	maastest.Eventually(t, "the lease to be renewed, more than once", func() bool {
		until, ok := c.Lease()
		return ok && until.After(first.Add(time.Second))
	})
	select {
	case <-c.Lost():
		t.Fatal("lost")
	default:
	}
	check(t, c.Close())
	other := open(t, s, Options{})
	check(t, maastest.Err(other.Describe(t.Context(), kept)))
	_, err := other.Describe(t.Context(), bound)
	holds(t, IsNotFound(err), err)
	if _, err := other.Allocate(t.Context(), AllocateOptions{Size: 1, Lifetime: "session"}); other.Session() == "" && err == nil {
		t.Fatal("memory of no session")
	}
}

func TestSessionAge(t *testing.T) {
	s := maastest.Start(t)
	one := open(t, s, Options{Name: "a/b:c@d", Exclusive: true})
	other := open(t, s, Options{})
	for name, want := range map[string]bool{"a/b:c@d": true, "a": false} {
		_, taken, err := other.SessionAge(t.Context(), name)
		holds(t, err == nil && taken == want, name, taken, err)
	}
	_, _, err := other.SessionAge(t.Context(), "no name & more")
	wantError(t, err, nil)
	check(t, one.Close())
	_, taken, err := other.SessionAge(t.Context(), "a/b:c@d")
	holds(t, err == nil && !taken, taken, err)
}

func TestExclusive(t *testing.T) {
	s := maastest.Start(t)
	first := open(t, s, Options{Name: "one", Exclusive: true})
	for _, exclusive := range []bool{true, false} {
		_, err := tryOpen(t, s, Options{Name: "one", Exclusive: exclusive})
		wantError(t, err, ErrNameTaken, `session "one"`, "lease lapses")
	}
	open(t, s, Options{Name: "two", Exclusive: true})
	check(t, first.Close())
	open(t, s, Options{Name: "one", Exclusive: true})
}

func TestEndSession(t *testing.T) {
	s := maastest.Start(t)
	o := Options{URL: s.URL, Name: "dead", Exclusive: true, Transport: maastest.Transport()}
	c := open(t, s, o)
	check(t, EndSession(t.Context(), o, c.Session()))
	check(t, EndSession(t.Context(), o, c.Session()))
	open(t, s, o)
	wantError(t, EndSession(t.Context(), o, "../allocations"), nil, "maas: end a session", "no id")
}

// While the machine sleeps, the server's clock goes on.
func TestLeaseLapsesWhileTheMachineSleeps(t *testing.T) {
	var slept atomic.Int64
	clock = func() time.Duration { return sinceBoot() + time.Duration(slept.Load()) }
	t.Cleanup(func() { clock = sinceBoot }) // after the client's end
	s := maastest.Start(t)
	const ttl = 10 * time.Second
	c := maastest.Must(openAt(t, s.URL, Options{Name: "me", Exclusive: true, SessionTTL: ttl}))(t)
	id := allocate(t, c, AllocateOptions{Size: 10})[0].ID
	slept.Store(int64(ttl - time.Second))
	until, ok := c.Lease()
	holds(t, ok && time.Until(until) <= time.Second, until, ok)
	check(t, c.Write(t.Context(), id, 0, []byte("mine")))
	slept.Store(int64(ttl))
	until, ok = c.Lease()
	holds(t, !ok && !until.After(time.Now()), until, ok)
	wantError(t, c.Write(t.Context(), id, 0, []byte("late")), ErrSessionLost)
}

// The end of a lease may come while a call is under way, before anything that cancels calls has noticed.
func TestLeaseLapsesUnderWay(t *testing.T) {
	for name, test := range map[string]struct {
		size  int
		looks int64 // at the clock, until the machine sleeps
		puts  int   // that may arrive as a whole, the last one to be answered late or not at all
		broke bool
	}{
		"before a connection that broke is replaced": {size: 4, puts: 1, broke: true},
		"between two requests":                       {size: 2 * transferBytes, puts: 1},
		"within a request":                           {size: transferBytes, looks: 20, puts: 0},
	} {
		t.Run(name, func(t *testing.T) {
			var slept, looks atomic.Int64
			clock = func() time.Duration {
				if test.looks != 0 && looks.Add(1) == test.looks {
					slept.Store(int64(time.Hour))
				}
				return sinceBoot() + time.Duration(slept.Load())
			}
			t.Cleanup(func() { clock = sinceBoot })
			var puts atomic.Int32
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err != nil || r.Method != "PUT" {
					answer(200, fmt.Sprintf(`{"id":%q,"ttl_seconds":10}`, someID))(w, r)
					return
				}
				puts.Add(1)
				slept.Store(int64(time.Hour))
				if test.broke {
					conn, _, _ := http.NewResponseController(w).Hijack()
					_ = conn.Close()
				}
			})
			c := maastest.Must(openAt(t, url, Options{Name: "me", Exclusive: true}))(t)
			err := c.Write(t.Context(), someID, 0, make([]byte, test.size))
			wantError(t, err, ErrSessionLost, "maas: write", "its lease lapsed")
			holds(t, int(puts.Load()) == test.puts, puts.Load(), "writes arrived")
			holds(t, !strings.Contains(err.Error(), "broke"), err)
			holds(t, maastest.Err(c.Allocate(t.Context(), AllocateOptions{Size: 1})) != nil, "memory without a session")
		})
	}
}

// A server that stands still answers no renewal: the client gives up its session by its own clock.
func TestLeaseLapses(t *testing.T) {
	s := maastest.Start(t)
	c := open(t, s, Options{Name: "me", Exclusive: true, SessionTTL: 2 * time.Second})
	id := allocate(t, c, AllocateOptions{Size: 10})[0].ID
	check(t, c.Write(t.Context(), id, 0, []byte("mine")))
	s.Pause()
	// Over HTTP the first is under way when the session is lost; RDMA needs no server that runs.
	var err error
	for err == nil {
		err = c.Write(t.Context(), id, 0, []byte("late"))
	}
	wantError(t, err, ErrSessionLost, "maas: write 4 bytes")
	holds(t, !errors.Is(err, context.DeadlineExceeded), "more time would not help:", err)
	waitLost(t, c)
	s.Resume()

	wantError(t, c.Write(t.Context(), id, 0, []byte("more")), ErrSessionLost, "open a new client")
	wantError(t, maastest.Err(c.Allocate(t.Context(), AllocateOptions{Size: 10})), ErrSessionLost)
	_, _, err = c.Free(t.Context(), id)
	wantError(t, err, ErrSessionLost)
	if maastest.Transport() == TransportHTTP { // RDMA has no keys without a session
		check(t, c.Read(t.Context(), id, 0, make([]byte, 4)))
	}
	// The name is free again through Close, or at the latest when the lease ends at the server.
	_ = c.Close()
	maastest.Eventually(t, "the name to be free", func() bool {
		next, err := tryOpen(t, s, Options{Name: "me", Exclusive: true})
		if errors.Is(err, ErrNameTaken) {
			return false
		}
		check(t, err)
		check(t, next.Close())
		return true
	})
}

func TestSessionEndedElsewhere(t *testing.T) {
	c := open(t, maastest.Start(t), Options{Name: "me", SessionTTL: 2 * time.Second})
	check(t, c.sender.do(t.Context(), &call{method: "DELETE", path: "/sessions/" + c.Session()}))
	waitLost(t, c)
	if maastest.Transport() == TransportHTTP { // not exclusive: memory is still there for all
		allocate(t, c, AllocateOptions{Size: 10})
	}
	check(t, c.Close())
}

func TestServerRestarted(t *testing.T) {
	if maastest.Transport() != TransportHTTP {
		t.Skip("there, the library looks after the session")
	}
	for name, test := range map[string]struct {
		call func(*Client) error
		is   error
	}{
		"health": {func(c *Client) error { return maastest.Err(c.Health(t.Context())) }, nil},
		"allocate": {func(c *Client) error {
			return maastest.Err(c.Allocate(t.Context(), AllocateOptions{Size: 1, Lifetime: "session"}))
		}, ErrSessionLost},
	} {
		t.Run(name, func(t *testing.T) {
			s := maastest.Start(t)
			c := open(t, s, Options{Name: "me", Exclusive: true, SessionTTL: time.Hour})
			s.Restart()
			next := open(t, s, Options{Name: "me", Exclusive: true})
			id := allocate(t, next, AllocateOptions{Size: 4})[0].ID
			check(t, next.Write(t.Context(), id, 0, []byte("next")))
			err := test.call(c)
			holds(t, errors.Is(err, test.is), err)
			wantError(t, c.Write(t.Context(), id, 0, []byte("late")), ErrSessionLost, "restarted")
			wantError(t, maastest.Err(c.Allocate(t.Context(), AllocateOptions{Size: 1})), ErrSessionLost, "restarted")
			waitLost(t, c)
		})
	}
}

func TestKilledUnderWay(t *testing.T) {
	s := maastest.Start(t)
	c := open(t, s, Options{Name: "me", SessionTTL: 2 * time.Second, Timeout: 10 * time.Second})
	id := allocate(t, c, AllocateOptions{Size: 4 << 20})[0].ID
	data := make([]byte, 4<<20)
	started, failed := make(chan struct{}), make(chan error)
	go func() {
		for n := 0; ; n++ {
			if n == 3 {
				close(started)
			}
			if err := cmp.Or(c.Write(context.Background(), id, 0, data), c.Read(context.Background(), id, 0, data)); err != nil {
				failed <- err
				return
			}
		}
	}()
	<-started
	s.Kill()
	wantError(t, <-failed, nil, "4194304 bytes at 0 of "+id)
	waitLost(t, c)
}

func TestDeadline(t *testing.T) {
	s := maastest.Start(t)
	c := open(t, s, Options{})
	id := allocate(t, c, AllocateOptions{Size: 4 << 20})[0].ID
	data := make([]byte, 4<<20)
	check(t, c.Write(t.Context(), id, 0, data))
	s.Pause()
	defer s.Resume()

	for name, do := range calls(c, id, data) {
		if maastest.Transport() == TransportRDMA && slices.Contains([]string{"read", "write"}, name) {
			continue // a server that stands still serves them all the same
		}
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			wantError(t, do(ctx), context.DeadlineExceeded, "maas: "+name, "did not answer within")
			clear(data) // nobody reads it any more
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			wantError(t, do(ctx), context.Canceled)
		})
	}
}

func TestCloseWithTheServerAway(t *testing.T) {
	s := maastest.Start(t)
	c := open(t, s, Options{Name: "me"})
	s.Kill()
	err := c.Close()
	if maastest.Transport() == TransportHTTP { // libmaas says nothing of it
		wantError(t, err, nil, "maas: close: end the session (it ends by itself within 10s)")
	}
}
