// SPDX-License-Identifier: Apache-2.0

// Helpers of the tests, and a check that no goroutine is left.

package maas

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/maas-memory/maas/go/maastest"
)

// TestMain fails when a goroutine of the package outlives the tests.
func TestMain(m *testing.M) {
	status := m.Run()
	if status == 0 {
		if left := goroutinesLeft(); left != "" {
			fmt.Fprintf(os.Stderr, "goroutines that are left:\n\n%s\n", left)
			status = 1
		}
	}
	os.Exit(status)
}

func goroutinesLeft() string {
	var left []string
	for end := time.Now().Add(maastest.Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		buf := make([]byte, 1<<20)
		all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
		left = nil
		for _, stack := range all[1:] { // the first is this one
			if !strings.Contains(stack, "os/signal.") && !strings.Contains(stack, "runtime.ensureSigM") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return ""
		}
	}
	return strings.Join(left, "\n\n")
}

// open connects a client that is closed with the test.
func open(t testing.TB, s *maastest.Server, o Options) *Client {
	t.Helper()
	c, err := tryOpen(s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if c.Transport() != maastest.Transport() {
		t.Fatalf("transport %s, wanted %s", c.Transport(), maastest.Transport())
	}
	return c
}

func tryOpen(s *maastest.Server, o Options) (*Client, error) {
	o.URL = s.URL
	if o.Transport == "" {
		o.Transport = maastest.Transport()
	}
	if o.Timeout == 0 {
		o.Timeout = maastest.Patience
	}
	return Open(context.Background(), o)
}

func allocate(t testing.TB, c *Client, o AllocateOptions) []Allocation {
	t.Helper()
	lent, err := c.Allocate(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return lent
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError checks that err is target under errors.Is and has the words that help.
func wantError(t testing.TB, err, target error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("an error was due")
	}
	if target != nil && !errors.Is(err, target) {
		t.Fatalf("%v is not: %v", err, target)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Fatalf("%q is not in: %v", word, err)
		}
	}
}
