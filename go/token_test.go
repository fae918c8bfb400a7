// SPDX-License-Identifier: Apache-2.0

// Tokens: where they come from, which requests have them, and another one while requests go on.

package maas

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/maas-memory/maas/go/maastest"
)

// guard answers as maasd does, but 401 (or another status) to requests without the token.
type guard struct {
	URL      string
	token    atomic.Value
	status   atomic.Int64
	requests atomic.Int64
}

func newGuard(t *testing.T, token string) *guard {
	overHTTP(t)
	g := &guard{}
	g.status.Store(http.StatusUnauthorized)
	g.token.Store(token)
	g.URL = listen(t, func(w http.ResponseWriter, r *http.Request) {
		g.requests.Add(1)
		if r.Header.Get("Authorization") != "Bearer "+g.token.Load().(string) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="maas"`)
			w.WriteHeader(int(g.status.Load()))
			fmt.Fprint(w, `{"error":{"code":"unauthenticated","message":"was it replaced?"}}`)
			return
		}
		fmt.Fprint(w, healthText)
	})
	return g
}

func TestTokenFile__its_first_line_without_blanks(t *testing.T) {
	g := newGuard(t, "mt_one")
	for _, text := range []string{"mt_one", "mt_one\n", " \tmt_one \r\nmt_two\n"} {
		check(t, maastest.Err(openAt(t, g.URL, Options{TokenFile: put(t, []byte(text), 0o640)})))
	}
}

func TestTokenFile__that_cannot_be(t *testing.T) {
	g, dir := newGuard(t, "mt_one"), t.TempDir()
	refused := func(path string, target error, words string) {
		_, err := openAt(t, g.URL, Options{TokenFile: path})
		wantError(t, err, target, path, words)
		holds(t, !strings.Contains(err.Error(), "mt"), "the token is in:", err)
	}
	refused(filepath.Join(dir, "none"), os.ErrNotExist, "")
	refused(dir, nil, "not a regular file")
	refused(put(t, []byte("mt_one"), 0o644), ErrToken, "chmod 0640")
	for _, text := range []string{"", "\nmt_one", "mt one", "mt_\x01", strings.Repeat("m", 256)} {
		refused(put(t, []byte(text), 0o600), nil, "no token")
	}
	holds(t, g.requests.Load() == 0, g.requests.Load(), "requests without a token")
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
	_, err := openAt(t, g.URL, Options{Token: source})
	wantError(t, err, ErrToken, "401 unauthenticated", "was it replaced?", "TokenFile")
	holds(t, asked == 2 && g.requests.Load() == 1 && !strings.Contains(err.Error(), "mt_wrong"), asked, g.requests.Load(), err)

	text = "mt_right"
	c := maastest.Must(openAt(t, g.URL, Options{Token: source}))(t)
	for _, status := range []int{http.StatusUnauthorized, http.StatusTooManyRequests} {
		g.status.Store(int64(status))
		text = fmt.Sprint("mt_", status)
		g.token.Store(text)
		check(t, maastest.Err(c.Health(t.Context())))
	}
	g.token.Store("mt_none")
	none = errors.New("no\nvault")
	wantError(t, maastest.Err(c.Health(t.Context())), none, "429", `no\x0avault`)
	wantError(t, maastest.Err(openAt(t, g.URL, Options{Token: source})), none, `no\x0avault`)
}

// After many failures the server answers 429. That it is for want of a token stays to be seen.
func TestToken__refused_many_times(t *testing.T) {
	principals := put(t, []byte("* - health\n"), 0o600)
	server := maastest.Start(t, "--max-pool-size", "64MiB", "--auth-file", principals, "--insecure-plaintext")
	_, err := openAt(t, server.URL, Options{})
	wantError(t, err, ErrToken, "the server says that it works, and nothing else", "TokenFile")
	for range 30 {
		_, err = openAt(t, server.URL, Options{Token: func() (string, error) { return "mt_wrong", nil }})
		wantError(t, err, ErrToken)
	}
	wantError(t, err, ErrToken, "429", "a valid token works", "TokenFile")
}

func TestToken__rotation_under_load_fails_no_request(t *testing.T) {
	g, path := newGuard(t, "mt_0"), put(t, []byte("mt_0\n"), 0o600)
	end := underLoad(t, 8, maastest.Must(openAt(t, g.URL, Options{TokenFile: path}))(t))
	arrive := func(requests int64) {
		for g.requests.Load() < requests && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
	}
	arrive(5000)
	replace(t, path, []byte("mt_1\n"), 0o600) // Only one rotation: a late request must not find the next one.
	g.token.Store("mt_1")
	arrive(10000)
	end()
}

// The server ends a session with the token that it was last used with: a renewal looks for another one.
func TestToken__renewals_look_for_another(t *testing.T) {
	path := put(t, []byte("mt_old\n"), 0o600)
	token := newToken(&Options{TokenFile: path})
	gets := func(want string) {
		text, _, err := token.get(t.Context())
		holds(t, text == want && err == nil, text, err)
	}
	gets("mt_old")
	replace(t, path, []byte("mt_new\n"), 0o600)
	token.look(t.Context())
	_, reading, _ := token.get(t.Context())
	gets("mt_new")
	// A server that does not know the new one yet: the old one, once.
	for i, want := range []string{"mt_old", "mt_new", "mt_new"} {
		other, err := token.isOther(t.Context(), reading+i)
		holds(t, other == (i < 2) && err == nil, i, other, err)
		gets(want)
	}
}

// A vault that hangs: what is known is used, and who has nothing waits no longer than he wants to.
func TestToken__source_that_hangs(t *testing.T) {
	g := newGuard(t, "mt_one")
	hangs := make(chan struct{})
	var asked atomic.Int64
	source := func() (string, error) {
		if asked.Add(1) > 1 {
			<-hangs
			return "mt_two", nil
		}
		return "mt_one", nil
	}
	c := maastest.Must(openAt(t, g.URL, Options{Token: source}))(t)
	briefly := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	go c.sender.token.look(t.Context())
	maastest.Eventually(t, "the source hangs", func() bool { return asked.Load() == 2 })
	check(t, maastest.Err(c.Health(t.Context())))
	c.sender.token.look(briefly())
	g.token.Store("mt_two")
	_, err := c.Health(briefly())
	wantError(t, err, ErrToken)
	_, err = openAt(t, g.URL, Options{Timeout: 50 * time.Millisecond, Token: func() (string, error) { <-hangs; return "", nil }})
	wantError(t, err, ErrToken, "its source has not answered")
	close(hangs)
	maastest.Eventually(t, "the late answer is taken", func() bool {
		text, _, err := c.sender.token.get(t.Context())
		return text == "mt_two" && err == nil
	})
	check(t, maastest.Err(c.Health(t.Context())))
	holds(t, asked.Load() == 2, asked.Load())
}

// Who waits for a token leaves when the client is closed, and is told so.
func TestToken__closed_meanwhile(t *testing.T) {
	g := newGuard(t, "mt_one")
	hangs, asked := make(chan struct{}), make(chan struct{}, 2)
	t.Cleanup(func() { close(hangs) })
	c := maastest.Must(openAt(t, g.URL, Options{Token: func() (string, error) {
		asked <- struct{}{}
		if len(asked) > 1 {
			<-hangs
		}
		return "mt_one", nil
	}}))(t)
	g.token.Store("mt_two")
	failed := make(chan error)
	go func() { failed <- maastest.Err(c.Health(context.Background())) }()
	maastest.Eventually(t, "the source hangs", func() bool { return len(asked) > 1 })
	check(t, c.Close())
	wantError(t, maastest.Receive(t, "the end of the call", failed), ErrClosed)
}

func TestToken__goes_to_no_other_server(t *testing.T) {
	other := bystander(t)
	c := hostile(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer mt_one" {
			t.Errorf("%s without the token", r.URL.Path)
		}
		if r.URL.Path == "/allocate" {
			http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
			return
		}
		http.Redirect(w, r, other, http.StatusTemporaryRedirect)
	})
	c.sender.token = newToken(&Options{Token: func() (string, error) { return "mt_one", nil }})
	wantError(t, maastest.Err(c.Allocate(t.Context(), AllocateOptions{Size: 1})), nil, "redirects")
}
