// SPDX-License-Identifier: Apache-2.0

package maasflag

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/tail"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// at is the configuration of a mirror.
func at(url string) *Config {
	return &Config{URL: url, Owner: "me", Fallback: true, Transport: "http", Restore: "auto", Blocks: "off", CacheSize: 1 << 20}
}

// attach attaches a directory.
func attach(c *Config, dir string) (*Attachment, error) {
	return Attach(nil, c, dir, false, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
}

// start is a server with room for a log.
func start(t *testing.T, options ...string) string {
	return maastest.Start(t, append([]string{"--max-pool-size", "64MiB"}, options...)...).URL
}

// segment is the beginning of a directory's log.
func segment(t *testing.T, dir string) []byte {
	return maastest.Must(os.ReadFile(filepath.Join(dir, "wal/00000000")))(t)
}

func newNode(t *testing.T, url string) (*Node, *prometheus.Registry) {
	reg := prometheus.NewPedanticRegistry()
	c := at(url)
	if url != "" {
		c.URL = shared.Old(t, url) // Else the first one waits for a leader that may come back.
	}
	c.Follow = true
	n := New(c, t.TempDir(), slog.New(slog.DiscardHandler), reg)
	n.Exit = func(err error) { t.Error(err) }
	return n, reg
}

// leads opens a node that leads, with a log.
func leads(t *testing.T, url string) *Node {
	n, _ := newNode(t, url)
	lead(t, n)
	return n
}

func lead(t *testing.T, n *Node) {
	require.NoError(t, n.Open(nil, false, func(prometheus.Registerer, *Attachment) error { return nil }))
	log := newLog(t, n.dir)
	require.NoError(t, log.Log(make([]byte, 1000)))
	require.NoError(t, log.Close())
}

func newLog(t *testing.T, dir string) *wlog.WL {
	log, err := wlog.NewSize(nil, nil, filepath.Join(dir, "wal"), wlog.DefaultSegmentSize, compression.None)
	require.NoError(t, err)
	return log
}

// Without a server, the flag means nothing: a Prometheus that is nobody's standby sends its alerts.
func TestNode__sends_alerts_without_a_server(t *testing.T) {
	n, _ := newNode(t, "")
	require.NoError(t, n.Open(nil, false, func(prometheus.Registerer, *Attachment) error { return nil }))
	require.True(t, n.Leads(t.Context()))
	require.False(t, n.c.Follows())
	n.HandOver()
	n.Close()
	require.True(t, n.Leads(t.Context()), "until the end")
}

// replay does what a database's Open does with the log that it follows.
func replay(a *Attachment) error {
	log := a.FollowedLog()
	if log == nil {
		return nil
	}
	for {
		more, err := log.Next(0)
		if err != nil || !more {
			return err
		}
		_, records := log.Records()
		if _, err := io.Copy(io.Discard, records); err != nil {
			return err
		}
	}
}

type startOver struct{}

func (startOver) Error() string     { return "a hole" }
func (startOver) StartOver() string { return "series" }

func TestNode__begins_anew_with_metrics_of_its_own(t *testing.T) {
	server := start(t)
	leader := leads(t, server)
	n, reg := newNode(t, server)
	calls, stop := 0, make(chan struct{})
	var handles []*Attachment
	err := n.Open(stop, false, func(reg prometheus.Registerer, a *Attachment) error {
		reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "head"}))
		require.NotNil(t, a.FollowedLog())
		handles = append(handles, a)
		switch calls++; calls {
		case 1:
			return fmt.Errorf("open: %w", startOver{})
		case 2:
			return &tail.StartOver{Reason: "cut", Err: errors.New("cut")}
		}
		close(stop)
		return replay(a)
	})
	require.ErrorIs(t, err, tail.ErrStopped)
	require.Equal(t, 3, calls)
	require.NotSame(t, handles[0], handles[1])
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP prometheus_tsdb_maas_following_restarts_total How often a standby began to follow anew, from the beginning of the log.
# TYPE prometheus_tsdb_maas_following_restarts_total counter
prometheus_tsdb_maas_following_restarts_total{reason="blocks"} 0
prometheus_tsdb_maas_following_restarts_total{reason="cut"} 1
prometheus_tsdb_maas_following_restarts_total{reason="damaged"} 0
prometheus_tsdb_maas_following_restarts_total{reason="records"} 0
prometheus_tsdb_maas_following_restarts_total{reason="series"} 1
prometheus_tsdb_maas_following_restarts_total{reason="truncated"} 0
`), "prometheus_tsdb_maas_following_restarts_total"))
	require.Empty(t, n.NotReady(), "it is closed")
	leader.Close()
}

// Whoever updates a pair must not end this leader: its standby has nothing.
func TestNode__says_that_its_leader_has_no_log_in_remote_memory(t *testing.T) {
	server := start(t)
	other := shared.Client(t, server)
	all := maastest.Must(other.Allocate(t.Context(), maas.AllocateOptions{Size: 4 << 20, Count: 16}))(t)
	leader := leads(t, server) // The server is full.
	n, _ := newNode(t, server)
	stop, ended := make(chan struct{}), make(chan error)
	go func() {
		ended <- n.Open(stop, false, func(_ prometheus.Registerer, a *Attachment) error { return replay(a) })
	}()
	says := func(words string) {
		maastest.Eventually(t, words, func() bool { return n.NotReady() == words })
	}
	says("following; the leader has no log in remote memory")
	require.Equal(t, math.Inf(1), n.attached.Load().memory.Metrics().Behind())
	for _, a := range all {
		_, _, err := other.Free(t.Context(), a.ID)
		require.NoError(t, err)
	}
	says("following, 0 s behind")
	close(stop)
	require.ErrorIs(t, <-ended, tail.ErrStopped)
	leader.Close()
}

// Probes and SIGTERM come from other goroutines, at any time: while the node follows, while it takes the lead, and
// afterwards.
func TestNode__is_asked_and_ended_at_any_time(t *testing.T) {
	server := start(t)
	leader := leads(t, server)
	n, _ := newNode(t, server)
	var others sync.WaitGroup
	opened := make(chan struct{})
	others.Go(func() {
		following := false
		for {
			select {
			case <-opened:
				assert.True(t, following)
				return
			case <-time.After(time.Millisecond):
				following = following || strings.HasPrefix(n.NotReady(), "following")
				n.HandOver() // Before it leads, and before it is open, there is nothing to hand over.
				n.Close()
			}
		}
	})
	err := n.Open(nil, false, func(_ prometheus.Registerer, a *Attachment) error {
		time.AfterFunc(time.Second, func() {
			leader.HandOver()
			leader.Close()
		})
		defer others.Wait()
		defer close(opened)
		return replay(a)
	})
	require.NoError(t, err)
	require.Empty(t, n.NotReady())
	require.NotNil(t, n.attached.Load(), "it is still attached")
	third, _ := newNode(t, server)
	stop := make(chan struct{})
	require.ErrorIs(t, third.Open(stop, false, func(_ prometheus.Registerer, a *Attachment) error {
		require.NotNil(t, a.FollowedLog(), "the one before leads")
		close(stop)
		return replay(a)
	}), tail.ErrStopped)
	n.HandOver()
	n.Close()
}

// The log is cut under a standby that already has the name: it starts over, as a take-over does.
func TestNode__begins_anew_when_it_has_taken_the_lead(t *testing.T) {
	server := start(t)
	leader := leads(t, server)
	n, _ := newNode(t, server)
	calls := 0
	require.NoError(t, n.Open(nil, false, func(_ prometheus.Registerer, a *Attachment) error {
		if calls++; calls == 2 {
			require.Nil(t, a.FollowedLog())
			require.True(t, a.memory.Up())
			require.False(t, a.memory.State().Following)
			return nil
		}
		time.AfterFunc(100*time.Millisecond, leader.Close)
		for a.memory.Following() {
			require.NoError(t, maastest.Err(a.FollowedLog().Next(0)))
			_, records := a.FollowedLog().Records()
			require.NoError(t, maastest.Err(io.Copy(io.Discard, records)))
		}
		return fmt.Errorf("open: %w", &tail.StartOver{Reason: "truncated", Err: errors.New("a segment is gone")})
	}))
	require.Equal(t, 2, calls)
	require.Equal(t, segment(t, leader.dir), segment(t, n.dir))
	n.Close()
}
