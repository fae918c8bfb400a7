// SPDX-License-Identifier: Apache-2.0

// Allocation at a server that may be full: after a refusal the server is asked again only after a pause.

package memory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	maas "github.com/maas-memory/maas/go"
)

const (
	// firstPause is the pause after a server had no room; each further refusal doubles it, up to lastPause.
	firstPause = time.Second
	lastPause  = 16 * time.Second
	// lentInterval is the pause between two lines in the log about what was lent.
	lentInterval = time.Minute
)

var errNotAsked = errors.New("the server had no room a moment ago")

// IsFull says whether the server is well and refuses an allocation: it is full, or has no slab of that size.
func IsFull(err error) bool {
	var e *maas.Error
	if !errors.As(err, &e) || errors.Is(err, maas.ErrToken) {
		return false
	}
	return e.Status == http.StatusInsufficientStorage || e.Status == http.StatusRequestEntityTooLarge ||
		e.Status == http.StatusTooManyRequests
}

// IsRefused says whether the server was asked just now, and had no room.
func IsRefused(err error) bool { return IsFull(err) && !errors.Is(err, errNotAsked) }

// Conn is the client that calls get.
type Conn struct {
	*maas.Client
	m *Manager
}

// Allocate fails without a request while the pause after a refusal lasts.
func (c *Conn) Allocate(ctx context.Context, o maas.AllocateOptions) ([]maas.Allocation, error) {
	if err := c.m.room.refused(o.Size); err != nil {
		return nil, err
	}
	c.m.lifetime(&o)
	a, err := c.Client.Allocate(ctx, o)
	switch {
	case err == nil:
		c.m.hasRoom(o.Size)
		c.m.lent.add(c.m.o.Logger, a)
	case IsFull(err):
		c.m.hasNoRoom(o.Size, err)
	}
	return a, err
}

// Free shortens the pause of Allocate, because there is room now.
func (c *Conn) Free(ctx context.Context, ids ...string) (freed int, unknown []string, err error) {
	freed, unknown, err = c.Client.Free(ctx, ids...)
	if freed > 0 {
		c.m.room.hurry()
	}
	return freed, unknown, err
}

// hasNoRoom logs that the server has no room, once.
func (m *Manager) hasNoRoom(size int64, err error) {
	if !m.room.close(size, err) {
		return
	}
	meanwhile := "what is new stays on local disk alone"
	if m.o.Required {
		meanwhile = "completed chunks wait in this process's memory"
	}
	m.o.Logger.Warn("MaaS server has no room; "+meanwhile+" until it has", "url", m.o.URL, "err", err)
	m.showState()
}

func (m *Manager) hasRoom(size int64) {
	if m.room.open(size) {
		m.o.Logger.Info("MaaS server has room again", "url", m.o.URL)
		m.showState()
	}
}

// room is the last refusal of the server. The zero value: it refused nothing.
type room struct {
	mu    sync.Mutex
	size  int64 // The smallest size that was refused; 0: none.
	why   error
	asked time.Time // When the server last refused.
	pause time.Duration
}

func (r *room) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.size > 0
}

// refused returns the last refusal if the pause after it lasts.
func (r *room) refused(size int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size == 0 || size < r.size || time.Since(r.asked) >= r.pause {
		return nil
	}
	return fmt.Errorf("%w: %w", errNotAsked, r.why)
}

// close notes a refusal, and says whether there was room before.
func (r *room) close(size int64, why error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	had := r.size == 0
	if had || size < r.size {
		r.size, r.pause = size, firstPause
	} else {
		r.pause = min(2*r.pause, lastPause)
	}
	r.why, r.asked = why, time.Now()
	return had
}

// open notes an allocation, and says whether there was no room before.
func (r *room) open(size int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size == 0 || size < r.size {
		return false
	}
	r.size = 0
	return true
}

// hurry ends the doubling: something was freed.
func (r *room) hurry() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pause = firstPause
}

// forget is called when the server has other memory than before.
func (r *room) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size = 0
}

// lent sums up what was lent; one line for each allocation would fill the log in a busy hour.
type lent struct {
	mu          sync.Mutex
	allocations int
	bytes       int64
	said        time.Time
}

func (l *lent) add(logger *slog.Logger, a []maas.Allocation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.allocations += len(a)
	for i := range a {
		l.bytes += a[i].ActualSize
	}
	if time.Since(l.said) < lentInterval {
		return
	}
	logger.Info("Allocated from MaaS", "allocations", l.allocations, "bytes", l.bytes)
	l.allocations, l.bytes, l.said = 0, 0, time.Now()
}
