// SPDX-License-Identifier: Apache-2.0

//go:build maasrdma && cgo

// The client over RDMA.

package maas

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/maas-memory/maas/go/maastest"
)

func needDevice(t *testing.T) {
	t.Helper()
	if maastest.Transport() != TransportRDMA {
		t.Skip("set MAAS_TEST_TRANSPORT=rdma where there is a device, as in scripts/softroce")
	}
}

func TestAuto(t *testing.T) {
	needDevice(t)
	holds(t, open(t, maastest.Start(t), Options{Transport: TransportAuto}).Session() != "", "no session")
	off := maastest.Start(t, "--rdma", "off")
	without := maastest.Must(tryOpen(t, off, Options{Transport: TransportAuto, Name: "me"}))(t)
	holds(t, without.Transport() == TransportHTTP, without.Transport())
	check(t, roundTrip(t.Context(), without, 1))
	_, err := tryOpen(t, off, Options{Transport: TransportRDMA})
	wantError(t, err, nil, "the server has no RDMA", "--rdma=required")
}

// The server's processor takes no part in a transfer.
func TestServerAsleep(t *testing.T) {
	needDevice(t)
	s := maastest.Start(t)
	c := open(t, s, Options{Name: "me", Exclusive: true, SessionTTL: time.Hour})
	lent := allocate(t, c, AllocateOptions{Size: 100000, Count: 2})
	s.Pause()
	want := pattern(1, 100000)
	got := make([]byte, len(want))
	check(t, c.WriteV(t.Context(), []Range{{lent[0].ID, 0, want[:50000]}, {lent[1].ID, 7, want[50000:]}}))
	check(t, c.ReadV(t.Context(), []Range{{lent[1].ID, 7, got[50000:]}, {lent[0].ID, 0, got[:50000]}}))
	s.Resume()
	wantBytes(t, got, want)
}

func TestRegisterBuffer(t *testing.T) {
	needDevice(t)
	c := open(t, maastest.Start(t), Options{})
	const size = 1 << 20
	// Memory that is not Go's, as a cache would have it.
	arena, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	check(t, err)
	defer func() { check(t, syscall.Munmap(arena)) }()
	check(t, c.RegisterBuffer(arena))
	wantError(t, c.RegisterBuffer(arena[100:200]), syscall.EEXIST, "overlaps")
	wantError(t, c.RegisterBuffer(nil), nil, "no bytes")
	wantError(t, c.UnregisterBuffer(arena[:100]), nil, "not registered")

	id := allocate(t, c, AllocateOptions{Size: size})[0].ID
	want := pattern(2, size/2)
	copy(arena, want)
	check(t, c.Write(t.Context(), id, 1000, arena[:size/2]))
	check(t, c.Read(t.Context(), id, 1000, arena[size/2:]))
	wantBytes(t, arena[size/2:], want)
	check(t, c.UnregisterBuffer(arena))
	clear(arena)
	check(t, c.Read(t.Context(), id, 1000, arena[:size/2])) // pinned for this once
	wantBytes(t, arena[:size/2], want)
	check(t, c.RegisterBuffer(arena))
	check(t, c.Close()) // unregisters it
}

// A transfer whose time is over costs the connection; the other transfers on it are repeated.
func TestShortDeadlines(t *testing.T) {
	needDevice(t)
	c := open(t, maastest.Start(t), Options{})
	const threads, size = 8, 300000
	lent := allocate(t, c, AllocateOptions{Size: size, Count: threads})
	together(threads, func(n int) {
		want := pattern(uint64(n), size)
		got := make([]byte, size)
		id := lent[n].ID
		for round := range 10 {
			if n%4 == 0 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(round)*time.Millisecond)
				err := c.Read(ctx, id, 0, got)
				cancel()
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			}
			if err := errors.Join(c.Write(t.Context(), id, 0, want), c.Read(t.Context(), id, 0, got)); err != nil {
				t.Error(err)
				return
			}
			wantBytes(t, got, want)
			clear(got)
		}
	})
}

// slowGrants is a server behind a slow link. It counts how many requests for keys are under way at
// once.
func slowGrants(t *testing.T, s *maastest.Server) (link *maastest.Server, most func() int64) {
	var now, high atomic.Int64
	slow := maastest.Proxy(t, s.URL, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if strings.HasSuffix(r.URL.Path, "/grant") {
			n := now.Add(1)
			defer now.Add(-1)
			for seen := high.Load(); n > seen && !high.CompareAndSwap(seen, n); seen = high.Load() {
			}
			time.Sleep(20 * time.Millisecond)
		}
		serve(w, r)
	})
	return &maastest.Server{URL: slow}, high.Load
}

// Memory of another client comes without keys; the keys are requested side by side.
func TestManyKeys(t *testing.T) {
	needDevice(t)
	const count, size, at = 2000, 128, 250
	s := maastest.Start(t)
	other := open(t, s, Options{})
	lent := allocate(t, other, AllocateOptions{Size: size, Count: count})
	want, got := pattern(3, count*size), make([]byte, count*size)
	var writes, reads []Range
	for i, a := range lent {
		writes = append(writes, Range{a.ID, 0, want[i*size : (i+1)*size]})
		reads = append(reads, Range{a.ID, 0, got[i*size : (i+1)*size]})
	}
	check(t, other.WriteV(t.Context(), writes))
	link, most := slowGrants(t, s)
	c := open(t, link, Options{})
	begun := time.Now()
	for some := range slices.Chunk(reads, at) {
		check(t, c.ReadV(t.Context(), some))
	}
	t.Logf("%d keys in %v, at most %d at once", count, time.Since(begun), most())
	wantBytes(t, got, want)
	holds(t, most() >= 2, "one after the other")
}

// A server that is gone costs a call about its deadline, and no more.
func TestServerGone(t *testing.T) {
	needDevice(t)
	s := maastest.Start(t)
	c := open(t, s, Options{Timeout: 5 * time.Second})
	id := allocate(t, c, AllocateOptions{Size: 1000})[0].ID
	s.Kill()
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		wantError(t, c.Read(ctx, id, 0, make([]byte, 1000)), nil, "maas: read 1000 bytes at 0 of "+id, s.URL)
		cancel()
	}
}
