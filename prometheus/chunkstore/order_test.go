// SPDX-License-Identifier: Apache-2.0

// A chunk is copied behind the log that it relies on.

package chunkstore

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/tail"
)

// slowLog is a log whose looks begin and end when a test says so.
type slowLog struct {
	mu            sync.Mutex // Guards what follows.
	begun, copied uint64
	err           error
}

func (l *slowLog) NextLook() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.begun + 1
}

func (l *slowLog) AwaitLook(ctx context.Context, look uint64) (bool, error) {
	for ; ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		copied, err := l.copied, l.err
		l.mu.Unlock()
		if copied >= look || err != nil || ctx.Err() != nil {
			return err == nil && copied >= look, err
		}
	}
}

func (l *slowLog) set(begun, copied uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun, l.copied, l.err = begun, copied, err
}

// now is a context that waits for nothing.
func now() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// A take-over must not find a late chunk without the samples before it.
func TestRemote__a_chunk_goes_up_behind_the_log(t *testing.T) {
	log := new(slowLog)
	s := newRemote(t, RemoteOptions{Log: log})
	remote := func() int { return int(testutil.ToFloat64(s.m.Metrics().ChunksWritten)) }

	first := s.write(3000) // More than one request.
	require.ErrorIs(t, s.flush(now()), errLogLate)
	require.Zero(t, remote(), "the log is not there")
	checkReads(t, s, first)

	log.set(1, 0, nil)
	second := s.write(10)
	require.ErrorIs(t, s.flush(now()), errLogLate)
	require.Zero(t, remote())
	log.set(1, 1, nil)
	require.NoError(t, s.writeSealed(1))
	require.Equal(t, len(first), remote(), "what was written before the first look")
	checkReads(t, s, second)
	require.False(t, s.IsQueueEmpty(), "the second look has not been")

	log.set(2, 2, nil)
	s.arrives()
	require.Equal(t, len(first)+len(second), remote())

	// The last chunks wait for the log, too; if the log cannot be copied, Close says so.
	s.write(5)
	log.set(2, 2, errors.New("the log is not copied"))
	store, session := s.end()
	require.ErrorContains(t, store, "the log is not copied")
	require.NoError(t, session)
	require.Equal(t, len(first)+len(second), remote())
	s.noFatal()
}

// Chunks keep coming, and looks take long: those whose look has ended do not wait for those that came later.
func TestRemote__a_chunk_goes_up_before_later_ones_may(t *testing.T) {
	log := new(slowLog)
	s := newRemote(t, RemoteOptions{Log: log})
	for look := range uint64(4) {
		s.write(10)
		require.ErrorIs(t, s.flush(now()), errLogLate)
		log.set(look+1, look, nil) // The look after the one that the chunks before these wait for.
	}
	require.ErrorIs(t, s.flush(now()), errLogLate)
	require.Equal(t, 30, int(testutil.ToFloat64(s.m.Metrics().ChunksWritten)))
	log.set(100, 100, nil)
}

// A server that is too slow for the log lets chunks wait, as one does that is out of reach, and within the same limits.
func TestRemote__chunks_do_not_wait_for_ever_for_the_log(t *testing.T) {
	for limit, o := range map[string]RemoteOptions{
		"bytes": {MaxPendingBytes: 4000},
		"since": {MaxPendingAge: time.Second},
	} {
		log := new(slowLog)
		o.Log = log
		s := newRemote(t, o)
		s.write(20)
		err := <-s.fatal
		require.ErrorIs(t, err, errLogLate)
		require.ErrorContains(t, err, limit)
		log.set(100, 100, nil)
		require.NoError(t, errors.Join(s.end()))
	}
}

// The samples of these chunks left the head, and the log in remote memory still has them.
func TestTruncate__leaves_chunks_that_wait_for_the_log(t *testing.T) {
	log := new(slowLog)
	s := newRemote(t, RemoteOptions{Log: log})
	first := s.write(10)
	s.CutNewFile()
	second := s.write(10)
	require.NoError(t, s.Truncate(second[0].file()))
	log.set(1, 100, nil)
	s.arrives()
	require.Equal(t, len(first)+len(second), int(testutil.ToFloat64(s.m.Metrics().ChunksWritten)))
	checkIterates(t, s, append(first, second...))
	require.NoError(t, s.Truncate(second[0].file()))
	checkIterates(t, s, second)
}

// A log that arrived in the server's earlier memory is not in its present memory.
func TestRemote__in_another_memory_a_chunk_waits_for_the_log_again(t *testing.T) {
	log := new(slowLog)
	s := newRemote(t, RemoteOptions{Log: log})
	all := s.write(10)
	require.ErrorIs(t, s.flush(now()), errLogLate)
	log.set(1, 0, nil)
	lookAnew(t, s.m)

	log.set(1, 1, nil)
	require.NoError(t, s.writeSealed(1))
	require.Zero(t, testutil.ToFloat64(s.m.Metrics().ChunksWritten))
	log.set(2, 100, nil)
	s.arrives()
	checkReads(t, s, all)
}

// Segments are about to be deleted: after a look that failed, another may bring them; a server out of reach will not.
func TestAwaitLog__waits_for_a_look_that_can_come(t *testing.T) {
	var up atomic.Bool
	up.Store(true)
	log := new(slowLog)
	begin := func(ctx context.Context) (done chan struct{}) {
		done = make(chan struct{})
		go func() {
			defer close(done)
			awaitLog(ctx, log, up.Load, slog.New(slog.DiscardHandler))
		}()
		return done
	}
	for _, err := range []error{nil, errors.New("full for a moment")} {
		log.set(0, 0, err)
		done := begin(t.Context())
		select {
		case <-done:
			t.Fatalf("it has not waited: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		log.set(0, 1, nil)
		<-done
	}
	log.set(0, 0, tail.ErrEnded)
	<-begin(t.Context())
	log.set(0, 0, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	<-begin(ctx)
	up.Store(false)
	log.set(0, 0, memory.ErrDegraded)
	<-begin(t.Context())
}
