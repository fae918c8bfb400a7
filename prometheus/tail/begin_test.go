// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

// starting is a standby that is being started on a directory.
type starting struct {
	*memory.Manager
	d    *dataDir
	done chan struct{}
	got  *Follower // Nil: it leads.
	log  maastest.Log
}

func (d *dataDir) starting() *starting {
	s := &starting{Manager: d.followed(), d: d, done: make(chan struct{})}
	require.True(d.t, s.Following())
	stop := make(chan struct{})
	go func() {
		defer close(s.done)
		var err error
		if s.got, err = Follow(stop, s.Manager, FollowOptions{Dir: d.dir, Logger: slog.New(slog.NewTextHandler(&s.log, nil))}); err != nil {
			d.t.Error(err)
		}
	}()
	d.t.Cleanup(func() {
		close(stop)
		<-s.done
		if s.got != nil {
			s.got.Close()
		}
		_ = s.Close()
	})
	return s
}

// waits wants the directory's log to stay as it is for a while.
func (s *starting) waits() {
	s.d.t.Helper()
	before := s.d.contents()
	select {
	case <-s.done:
		require.Fail(s.d.t, "it does not wait")
	case <-time.After(time.Second):
	}
	require.Equal(s.d.t, before, s.d.contents())
	require.True(s.d.t, s.Following())
}

// cutShort is a copy of a directory whose log ends early: a leader that copies it has got so far with its own.
func (d *dataDir) cutShort() *dataDir {
	c := d.copied()
	c.remove(walTwo)
	c.cut(walOne, 1<<15) // Between two records.
	return c
}

// copyOf is a directory with a standby's copy of the log.
func (d *dataDir) copyOf() *dataDir {
	c := d.copied()
	require.NoError(d.t, memory.State{Owner: "node", Following: true}.Save(c.dir))
	return c
}

// The server has lost its memory, and standby and leader die before the leader has copied all of its log again.
func TestFollow__leads_with_a_copy_that_is_longer_than_remote_memory(t *testing.T) {
	t.Parallel()
	d := newLog(t)
	n := d.cutShort().startWith()
	n.copies(segmentSize + 1<<15)
	b := d.copyOf()
	b.write(wblZero, nil) // Its place.
	s := b.starting()
	s.waits()
	n.stop()
	maastest.Receive(t, "it leads", s.done)
	require.Nil(t, s.got)
	restoreTo(b, s.Manager)
	want := d.contents()
	want[wblZero] = ""
	require.Equal(t, want, b.contents())
}

// To compare a log of many gigabytes takes minutes, in which the leader may die.
func TestFollow__leads_in_the_middle_of_a_comparison(t *testing.T) {
	t.Parallel()
	d := newLog(t)
	n := d.cutShort().startWith()
	n.copies(segmentSize + 1<<15)
	b := d.copyOf()
	var dies sync.Once
	b.server = &maastest.Server{URL: maastest.Proxy(t, d.server.URL, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if r.Method == http.MethodGet && r.URL.Path == "/allocations" {
			dies.Do(func() {
				n.stop()
				time.Sleep(pollInterval) // The comparison that follows tries to lead.
			})
		}
		serve(w, r)
	})}
	s := b.starting()
	maastest.Receive(t, "it leads", s.done)
	require.Nil(t, s.got)
	require.False(t, s.Following())
	require.Equal(t, 1.0, testutil.ToFloat64(s.Metrics().Promotions))
	require.Equal(t, d.contents(), b.contents())
	require.Zero(t, s.log.Count(errLonger.Error()), "the comparison went on to its end")
}

func TestFollow__follows_once_remote_memory_has_all_of_a_longer_copy(t *testing.T) {
	t.Parallel()
	d := newLog(t)
	part := d.cutShort()
	n := part.startWith()
	n.copies(segmentSize + 1<<15)
	b := d.copyOf()
	s := b.starting()
	s.waits()
	part.write(walOne, d.read(walOne))
	part.write(walTwo, d.read(walTwo))
	maastest.Receive(t, "it follows", s.done)
	require.NotNil(t, s.got)
	require.False(t, shared.Exists(b.path(replacedDir)))
	n.stop()
}

// Nobody else may have what is in the copy.
func TestFollow__puts_a_copy_of_another_log_aside(t *testing.T) {
	t.Parallel()
	d := newLog(t)
	part := d.cutShort()
	part.append(walOne, 1000)
	n := part.startWith()
	n.copies(segmentSize + 1<<15 + 1000)
	b := d.copyOf()
	s := b.starting()
	maastest.Receive(t, "it follows", s.done)
	require.NotNil(t, s.got)
	require.Equal(t, d.contents(), b.asideContents())
	n.stop()
}

// A leader whose host was started anew finds its name taken by the session that it had before.
func TestFollow__leads_with_its_own_head_when_nobody_else_does(t *testing.T) {
	t.Parallel()
	for what, cut := range map[string]func(*dataDir) *dataDir{"longer": (*dataDir).cutShort, "as long": (*dataDir).copied} {
		d := newLog(t)
		d.write("chunks_head/000001", chunkFile(1, 1, []byte{0, 1, 1}))
		part := cut(d)
		n := part.start()
		n.looks()
		b := d.copied()
		m := b.followed()
		require.True(t, m.Following(), what)
		n.stop()
		follower := maastest.Must(Follow(nil, m, FollowOptions{Dir: b.dir, Logger: quiet()}))(t)
		require.Nil(t, follower, what)
		require.Zero(t, restoreTo(b, m), what)
		require.Equal(t, d.contents(), b.contents(), what)
		require.True(t, shared.Exists(b.path("chunks_head/000001")), what)
		require.False(t, shared.Exists(b.path(replacedDir)), what)
		require.NoError(t, m.Close())
	}
}

// What remote memory has begins with a checkpoint that was never complete.
func TestRestore__leaves_a_standby_its_copy_where_remote_memory_has_no_beginning(t *testing.T) {
	d := newLog(t)
	d.truncate()
	n := d.startWith()
	n.looks()
	n.stop()
	d.lose(checkpointOne)
	b := d.copyOf()
	m := maastest.Must(b.connectAs(t.Context(), memory.Options{}))(t)
	require.Zero(t, restoreTo(b, m))
	require.Equal(t, d.contents(), b.contents())
	require.NoError(t, m.Close())
}
