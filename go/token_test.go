// SPDX-License-Identifier: Apache-2.0

// Tokens: where they come from, which requests have them, and another one while requests go on.

package maas

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/maas-memory/maas/go/maastest"
)

// guard answers as maasd does, but 401 (or another status) to requests without the token.
type guard struct {
	*httptest.Server
	token    atomic.Value
	status   atomic.Int64
	requests atomic.Int64
}

func newGuard(t *testing.T, token string) *guard {
	t.Helper()
	if maastest.Transport() != TransportHTTP {
		t.Skip("the same over any transport")
	}
	g := &guard{}
	g.status.Store(http.StatusUnauthorized)
	g.token.Store(token)
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.requests.Add(1)
		if r.Header.Get("Authorization") != "Bearer "+g.token.Load().(string) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="maas"`)
			w.WriteHeader(int(g.status.Load()))
			fmt.Fprint(w, `{"error":{"code":"unauthenticated","message":"was it replaced?"}}`)
			return
		}
		fmt.Fprint(w, healthText)
	}))
	t.Cleanup(g.Close)
	return g
}

func (g *guard) open(t *testing.T, o Options) (*Client, error) {
	t.Helper()
	o.URL, o.Transport, o.Timeout = g.URL, TransportHTTP, maastest.Patience
	c, err := Open(t.Context(), o)
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

// writeToken puts another file in the place of the token's.
func writeToken(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	check(t, os.WriteFile(path+".new", []byte(text), 0o600))
	check(t, os.Chmod(path+".new", mode))
	check(t, os.Rename(path+".new", path))
}

func TestTokenFile__its_first_line_without_blanks(t *testing.T) {
	g, path := newGuard(t, "mt_one"), filepath.Join(t.TempDir(), "token")
	for _, text := range []string{"mt_one", "mt_one\n", " \tmt_one \r\nmt_two\n"} {
		writeToken(t, path, text, 0o640)
		_, err := g.open(t, Options{TokenFile: path})
		check(t, err)
	}
}

func TestTokenFile__that_cannot_be(t *testing.T) {
	g, path := newGuard(t, "mt_one"), filepath.Join(t.TempDir(), "token")
	_, err := g.open(t, Options{TokenFile: path})
	wantError(t, err, os.ErrNotExist, path)
	_, err = g.open(t, Options{TokenFile: t.TempDir()})
	wantError(t, err, nil, "not a regular file")
	writeToken(t, path, "mt_one", 0o644)
	_, err = g.open(t, Options{TokenFile: path})
	wantError(t, err, ErrToken, path, "chmod 0640")
	for _, text := range []string{"", "\nmt_one", "mt one", "mt_\x01", strings.Repeat("m", 256)} {
		writeToken(t, path, text, 0o600)
		_, err = g.open(t, Options{TokenFile: path})
		wantError(t, err, nil, path, "no token")
		if strings.Contains(err.Error(), "mt") {
			t.Fatalf("the token is in: %v", err)
		}
	}
	if n := g.requests.Load(); n != 0 {
		t.Fatalf("%d requests without a token", n)
	}
}

func TestToken__options_that_cannot_be(t *testing.T) {
	some := func() (string, error) { return "mt_one", nil }
	wantError(t, Options{URL: "a:1", Token: some, TokenFile: "f"}.Check(), nil, "one of the two")
	err := Options{URL: "a:1", Token: some}.Check()
	if rdmaBuilt {
		wantError(t, err, nil, "TokenFile")
	} else {
		check(t, err)
	}
	check(t, Options{URL: "a:1", Token: some, Transport: TransportHTTP}.Check())
}

func TestToken__refused(t *testing.T) {
	g := newGuard(t, "mt_right")
	text, asked := "mt_wrong", 0
	var none error
	source := func() (string, error) { asked++; return text, none }
	_, err := g.open(t, Options{Token: source})
	wantError(t, err, ErrToken, "401 unauthenticated", "was it replaced?", "TokenFile")
	if asked != 2 || g.requests.Load() != 1 || strings.Contains(err.Error(), "mt_wrong") {
		t.Fatalf("asked %d times for %d requests: %v", asked, g.requests.Load(), err)
	}

	text = "mt_right"
	c, err := g.open(t, Options{Token: source})
	check(t, err)
	for _, status := range []int{http.StatusUnauthorized, http.StatusTooManyRequests} {
		g.status.Store(int64(status))
		text = fmt.Sprint("mt_", status)
		g.token.Store(text)
		_, err = c.Health(t.Context())
		check(t, err)
	}
	g.token.Store("mt_none")
	none = errors.New("no vault")
	_, err = c.Health(t.Context())
	wantError(t, err, none, "429")
}

// After many failures the server answers 429. That it is for want of a token stays to be seen.
func TestToken__refused_many_times(t *testing.T) {
	path := filepath.Join(t.TempDir(), "principals")
	check(t, os.WriteFile(path, []byte("* - health\n"), 0o600))
	server := maastest.Start(t, "--max-pool-size", "64MiB", "--auth-file", path, "--insecure-plaintext")
	o := Options{URL: server.URL, Transport: TransportHTTP, Timeout: maastest.Patience}
	_, err := Open(t.Context(), o)
	wantError(t, err, ErrToken, "the server says that it works, and nothing else", "TokenFile")
	o.Token = func() (string, error) { return "mt_wrong", nil }
	for range 30 {
		_, err = Open(t.Context(), o)
		wantError(t, err, ErrToken)
	}
	wantError(t, err, ErrToken, "429", "a valid token works", "TokenFile")
}

func TestToken__rotation_under_load_fails_no_request(t *testing.T) {
	const goroutines, each = 8, 1250
	g, path := newGuard(t, "mt_0"), filepath.Join(t.TempDir(), "token")
	writeToken(t, path, "mt_0\n", 0o600)
	c, err := g.open(t, Options{TokenFile: path})
	check(t, err)
	var failed atomic.Int64
	var asking sync.WaitGroup
	for range goroutines {
		asking.Add(1)
		go func() {
			defer asking.Done()
			for range each {
				if _, err := c.Health(t.Context()); err != nil {
					failed.Add(1)
				}
			}
		}()
	}
	for g.requests.Load() < goroutines*each/2 { // Only one rotation: a late request must not find the next one.
		time.Sleep(time.Millisecond)
	}
	writeToken(t, path, "mt_1\n", 0o600)
	g.token.Store("mt_1")
	asking.Wait()
	if failed.Load() != 0 {
		t.Fatalf("%d of %d requests failed", failed.Load(), goroutines*each)
	}
}

// The server ends a session with the token that it was last used with: a renewal looks for another one.
func TestToken__renewals_look_for_another(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	writeToken(t, path, "mt_old\n", 0o600)
	token := newToken(&Options{TokenFile: path})
	get := func() string {
		text, _, err := token.get()
		check(t, err)
		return text
	}
	if get() != "mt_old" {
		t.Fatal(get())
	}
	writeToken(t, path, "mt_new\n", 0o600)
	token.look()
	_, reading, _ := token.get()
	if get() != "mt_new" {
		t.Fatal(get())
	}
	// A server that does not know the new one yet: the old one, once.
	if other, err := token.isOther(reading); !other || err != nil || get() != "mt_old" {
		t.Fatal(other, err, get())
	}
	if other, err := token.isOther(reading + 1); !other || err != nil || get() != "mt_new" {
		t.Fatal(other, err, get())
	}
	if other, err := token.isOther(reading + 2); other || err != nil {
		t.Fatal(other, err)
	}
}

func TestToken__goes_to_no_other_server(t *testing.T) {
	var others atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { others.Add(1) }))
	defer other.Close()
	c := hostile(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer mt_one" {
			t.Errorf("%s without the token", r.URL.Path)
		}
		if r.URL.Path == "/allocate" {
			http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
			return
		}
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	c.sender.token = newToken(&Options{Token: func() (string, error) { return "mt_one", nil }})
	_, err := c.Allocate(t.Context(), AllocateOptions{Size: 1})
	wantError(t, err, nil, "redirects")
	if others.Load() != 0 {
		t.Fatal("the other server was asked")
	}
}
