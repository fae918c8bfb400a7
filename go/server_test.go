// SPDX-License-Identifier: Apache-2.0

// Helpers of the tests, and a check that no goroutine is left.

package maas

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/maas-memory/maas/go/maastest"
)

// TestMain fails when a goroutine of the package outlives the tests.
func TestMain(m *testing.M) {
	if m.Run() != 0 {
		return // The process ends with that status.
	}
	left := otherGoroutines()
	for end := time.Now().Add(maastest.Patience); left != "" && time.Now().Before(end); left = otherGoroutines() {
		time.Sleep(20 * time.Millisecond)
	}
	if left != "" {
		fmt.Fprintf(os.Stderr, "goroutines that are left:\n\n%s\n", left)
		os.Exit(1)
	}
}

func otherGoroutines() string {
	buf := make([]byte, 1<<20)
	all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	return strings.Join(slices.DeleteFunc(all[1:], func(stack string) bool { // the first is this one
		return strings.Contains(stack, "os/signal.") || strings.Contains(stack, "runtime.ensureSigM")
	}), "\n\n")
}

// open connects a client that is closed with the test.
func open(t testing.TB, s *maastest.Server, o Options) *Client {
	c := maastest.Must(tryOpen(t, s, o))(t)
	holds(t, c.Transport() == maastest.Transport(), c.Transport())
	return c
}

// tryOpen is open where that may fail.
func tryOpen(t testing.TB, s *maastest.Server, o Options) (*Client, error) {
	o.URL = s.URL
	o.Transport = cmp.Or(o.Transport, maastest.Transport())
	o.Timeout = cmp.Or(o.Timeout, maastest.Patience)
	c, err := Open(context.Background(), o)
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

// openAt is tryOpen over HTTP, at whatever is there.
func openAt(t testing.TB, url string, o Options) (*Client, error) {
	o.Transport = TransportHTTP
	return tryOpen(t, &maastest.Server{URL: url}, o)
}

func allocate(t testing.TB, c *Client, o AllocateOptions) []Allocation {
	return maastest.Must(c.Allocate(t.Context(), o))(t)
}

// holds checks a condition; otherwise it shows what there is.
func holds(t testing.TB, isSo bool, is ...any) {
	if !isSo {
		maastest.Fatal(t, is...)
	}
}

func check(t testing.TB, err error) {
	if err != nil {
		maastest.Fatal(t, err)
	}
}

// listen returns the URL of a server that ends with the test.
func listen(t *testing.T, handle http.HandlerFunc) string {
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server.URL
}

// bystander returns the URL of a server that nobody is to ask.
func bystander(t *testing.T) string {
	return listen(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("another server was asked: %s", r.URL) })
}

// wantError checks that err is target under errors.Is and has the words that help, in one line of a log.
func wantError(t testing.TB, err, target error, words ...string) {
	holds(t, err != nil, "an error was due")
	holds(t, !strings.Contains(err.Error(), "\n"), err)
	holds(t, target == nil || errors.Is(err, target), err, "is not", target)
	for _, word := range words {
		holds(t, strings.Contains(err.Error(), word), word, "is not in:", err)
	}
}

// calls are the calls of a client about an allocation and its bytes, by the names that errors give them.
func calls(c *Client, id string, data []byte) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"health":   func(ctx context.Context) error { _, err := c.Health(ctx); return err },
		"stats":    func(ctx context.Context) error { _, err := c.Stats(ctx); return err },
		"allocate": func(ctx context.Context) error { _, err := c.Allocate(ctx, AllocateOptions{Size: 1}); return err },
		"free":     func(ctx context.Context) error { _, _, err := c.Free(ctx, id); return err },
		"list":     func(ctx context.Context) error { _, err := c.List(ctx, ""); return err },
		"describe": func(ctx context.Context) error { _, err := c.Describe(ctx, id); return err },
		"read":     func(ctx context.Context) error { return c.Read(ctx, id, 0, data) },
		"write":    func(ctx context.Context) error { return c.Write(ctx, id, 0, data) },
	}
}

// wantBytes checks that what was read is what was written.
func wantBytes(t testing.TB, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Error("other bytes came back")
	}
}

// together runs something n times at once.
func together(n int, do func(i int)) {
	var group sync.WaitGroup
	group.Add(n)
	for i := range n {
		go func() {
			defer group.Done()
			do(i)
		}()
	}
	group.Wait()
}

// underLoad has some goroutines ask for the server's health, which must not fail, until the end is called.
func underLoad(t *testing.T, goroutines int, c *Client) (end func()) {
	var stop atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		together(goroutines, func(int) {
			for !stop.Load() && !t.Failed() {
				if _, err := c.Health(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}()
	return func() {
		stop.Store(true)
		<-ended
	}
}

// memoryOf is how many bytes of memory something takes.
func memoryOf(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
