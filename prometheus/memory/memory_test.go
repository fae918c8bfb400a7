// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, url string) *Manager {
	return opened(t, Options{URL: url, Owner: "me"})
}

func health(m *Manager) error {
	return m.Read("health", time.Second, func(ctx context.Context, c *Conn) error {
		_, err := c.Health(ctx)
		return err
	})
}

func TestBreaker__a_dead_server_is_waited_for_once(t *testing.T) {
	server := maastest.Start(t)
	m := open(t, server.URL)
	require.NoError(t, health(m))

	server.Kill()
	for range failuresToOpen {
		require.Error(t, health(m))
	}
	calls := 0
	err := m.Read("any", time.Hour, func(context.Context, *Conn) error { calls++; return nil })
	require.ErrorIs(t, err, ErrDegraded)
	require.Zero(t, calls)

	arena := m.Arena()
	server.Restart()
	maastest.Eventually(t, "the server is in use again", m.Up)
	require.NotSame(t, arena, m.Arena(), "its memory is a new one")
	require.Equal(t, arena.Epoch+1, m.Arena().Epoch)
	require.NoError(t, health(m))
}

// As far as this side knows, the old session still has a lease.
func TestBreaker__a_server_that_was_started_anew_is_in_use_with_a_session_that_it_knows(t *testing.T) {
	server := maastest.Start(t)
	m := watched(t, Options{URL: server.URL, Owner: "me"})
	server.Restart()
	m.trip(maas.ErrSessionLost)
	require.NoError(t, m.connect(context.Background()))
	_, ok := m.client.Load().Lease()
	require.True(t, ok, "else the breaker opens again, for the same event")
}

func TestBreaker__one_timeout_opens_it_and_the_same_memory_resumes(t *testing.T) {
	server := maastest.Start(t)
	m := open(t, server.URL)
	arena := m.Arena()
	server.Pause()
	err := m.Read("any", 50*time.Millisecond, func(ctx context.Context, c *Conn) error {
		_, err := c.Stats(ctx)
		return err
	})
	require.Error(t, err)
	require.False(t, m.Up())
	server.Resume()
	maastest.Eventually(t, "the server is in use again", m.Up)
	require.Same(t, arena, m.Arena())
}

func TestBreaker__a_full_server_stays_in_use(t *testing.T) {
	m := open(t, maastest.Start(t, "--max-pool-size", "8MiB").URL)
	for range 3 {
		err := m.Write("allocate", 0, func(ctx context.Context, c *Conn) error {
			_, err := c.Allocate(ctx, maas.AllocateOptions{Size: 4 << 20, Count: 3})
			return err
		})
		require.True(t, maas.IsExhausted(err), err)
	}
	require.True(t, m.Up())
}

func TestBreaker__memory_that_somebody_freed_makes_a_new_beginning(t *testing.T) {
	server := maastest.Start(t)
	m := open(t, server.URL)
	arena := m.Arena()
	err := m.Read("read", time.Second, func(ctx context.Context, c *Conn) error {
		return c.Read(ctx, "0198c0de-0000-8000-8000-000000000000", 0, make([]byte, 1))
	})
	require.True(t, maas.IsNotFound(err), err)
	maastest.Eventually(t, "the server is in use again", m.Up)
	require.NotSame(t, arena, m.Arena())
}

func TestState__is_whole_or_refused(t *testing.T) {
	dir := t.TempDir()
	require.Zero(t, maastest.Must(LoadState(dir))(t))
	want := State{Owner: "me", Epoch: 3, ChunkSegment: 9}
	require.NoError(t, want.Save(dir))
	require.Equal(t, want, maastest.Must(LoadState(dir))(t))
	require.NoError(t, os.WriteFile(filepath.Join(dir, StateFile), []byte("{"), 0o666))
	_, err := LoadState(dir)
	require.ErrorContains(t, err, StateFile)
	require.ErrorContains(t, err, "remove the file")
	require.Len(t, maastest.Must(os.ReadDir(dir))(t), 1)
}

// The disk may take seconds, and reads of chunks and alerts ask for what mu guards.
func TestState__is_saved_without_the_lock(t *testing.T) {
	m := opened(t, Options{URL: "http://127.0.0.1:1"})
	require.NoError(t, m.UpdateState(func(*State) {
		if assert.True(t, m.mu.TryLock()) {
			m.mu.Unlock()
		}
	}))
}

func TestOpen__without_a_server(t *testing.T) {
	m := opened(t, Options{URL: "http://127.0.0.1:1"})
	require.Contains(t, m.Owner(), "prometheus-")
	require.ErrorIs(t, health(m), ErrDegraded)
	require.NoError(t, m.Close())

	_, _, err := openLogged(t, Options{URL: m.o.URL, Dir: m.o.Dir, Required: true})
	require.Error(t, err)
	require.False(t, errors.Is(err, ErrDegraded))
}

// Nor without a file that it was given.
func TestOpen__a_file_of_TLS_that_is_not_there(t *testing.T) {
	_, _, err := openLogged(t, Options{URL: "https://localhost:1", Owner: "me", Proof: maas.Options{CAFile: "/none"}})
	require.ErrorIs(t, err, maas.ErrTLSFiles)
	require.True(t, NeverWorks(err))
}

// A mirror goes on without its server; but options with which no server can ever be used are an error at the
// start.
func TestOpen__what_can_never_work_is_refused(t *testing.T) {
	for name, o := range map[string]Options{
		"no port":   {URL: "foo"},
		"no TLS":    {URL: "http://host:3000", Proof: maas.Options{CAFile: "ca.pem"}},
		"scheme":    {URL: "ftp://host:3000"},
		"password":  {URL: "http://me:secret@host:3000"},
		"owner":     {URL: "http://host:3000", Owner: "no spaces"},
		"transport": {URL: "http://host:3000", Transport: "rdma"},
	} {
		o.Dir, o.Transport = t.TempDir(), cmp.Or(o.Transport, "auto")
		_, log, err := openLogged(t, o)
		require.ErrorIs(t, err, ErrOptions, name)
		require.NotContains(t, err.Error()+log.String(), "secret", name)
		require.Empty(t, maastest.Must(os.ReadDir(o.Dir))(t), name)
	}
}

func TestOpen__a_URL_without_a_scheme(t *testing.T) {
	require.True(t, open(t, strings.TrimPrefix(maastest.Start(t).URL, "http://")).Up())
}

func TestLog__an_outage_is_one_line(t *testing.T) {
	server := maastest.Start(t)
	m, log := openedLogged(t, Options{URL: server.URL, Owner: "me"})
	server.Kill()
	for range failuresToOpen {
		require.Error(t, health(m))
	}
	for range 3 {
		err := m.connect(context.Background())
		require.Error(t, err)
		m.stillDown(err)
	}
	require.Equal(t, 1, log.Count("level=WARN"), log)
	m.stillDown(maas.ErrNameTaken)
	m.stillDown(fmt.Errorf("another one lives: %w", maas.ErrNameTaken))
	require.Equal(t, 2, log.Count("level=WARN"), "that is another thing")
}

func TestLog__no_server_at_the_start_is_one_line(t *testing.T) {
	m, log := openedLogged(t, Options{URL: "http://127.0.0.1:1", Owner: "me"})
	m.stillDown(m.connect(context.Background()))
	require.Equal(t, 1, log.Count("level=WARN"), log)
}

// The server logs each session that it refuses.
func TestRetry__not_every_second_where_somebody_has_to_go_first(t *testing.T) {
	for want, why := range map[time.Duration]error{
		retryInterval: maas.ErrSessionLost, SessionTTL / 2: fmt.Errorf("open: %w", maas.ErrNameTaken), refusedInterval: ErrForked,
	} {
		m := &Manager{why: why}
		require.Equal(t, want, m.retryIn(), why)
	}
}
