// SPDX-License-Identifier: Apache-2.0

// The goroutine that watches the server: it asks a server that works for its health, and connects to one that
// failed.

package memory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// run asks for the server's health while the server works, and tries to connect while it does not.
func (m *Manager) run(ctx context.Context) {
	defer close(m.done)
	var verifying sync.WaitGroup // A look takes long where much is held.
	verifying.Go(func() { m.verifyAgain(ctx) })
	defer verifying.Wait()
	for {
		m.renewLeases(ctx)
		interval := healthInterval
		if !m.up.Load() {
			interval = m.retryIn()
		}
		select {
		case <-ctx.Done():
			return
		case <-m.kick:
			continue // Wait the short interval from now.
		case <-m.lost():
			m.trip(maas.ErrSessionLost)
			if !sleep(ctx, retryInterval) {
				return
			}
		case <-time.After(interval):
		}
		if m.up.Load() {
			m.checkHealth(ctx)
			continue
		}
		m.tryAgain(ctx)
	}
}

// tryAgain tries once to connect to a server that failed.
func (m *Manager) tryAgain(ctx context.Context) {
	begun := time.Now()
	err := m.connect(ctx)
	m.heard(begun, err)
	if m.lostName(ctx, err) {
		m.loseName()
	}
	if err != nil && ctx.Err() == nil {
		m.stillDown(err)
	}
}

// retryIn is the time until the next attempt to connect. It is long where only a person can change what the server
// holds, and longer than a second where another has the name, because the server logs each attempt.
func (m *Manager) retryIn() time.Duration {
	switch err := m.reason(); {
	case isRefusal(err), NeverWorks(err):
		return refusedInterval
	case errors.Is(err, maas.ErrNameTaken) && !m.o.Follow:
		return SessionTTL / 2
	}
	return retryInterval
}

func isRefusal(err error) bool { return errors.Is(err, ErrForked) || errors.Is(err, ErrBehind) }

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Until is a context that ends when stop is closed. Its caller cancels it in the end.
func Until(stop <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

func (m *Manager) lost() <-chan struct{} {
	if c := m.client.Load(); c != nil && m.up.Load() {
		return c.Lost()
	}
	return nil
}

// stillDown logs the first failure of its kind, so that a server that is gone for a day does not fill the log.
func (m *Manager) stillDown(err error) {
	m.mu.Lock()
	said := m.why != nil && kind(m.why) == kind(err)
	m.why = err
	m.mu.Unlock()
	if !said {
		m.o.Logger.Warn("MaaS server is not in use yet", "url", m.o.URL, "err", err)
	}
}

// kind is the same for all errors that are one event to a reader of the log. A server that is out of reach causes
// several in turn: a connection that broke, one that was refused, a lease that ended. In all other errors, numbers
// do not count.
func kind(err error) string {
	var refusal *maas.Error
	var network net.Error // A timeout is one, and any error of the system.
	switch {
	case errors.Is(err, maas.ErrSessionLost), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "out of reach"
	case !errors.As(err, &refusal) && errors.As(err, &network):
		return "out of reach"
	case errors.Is(err, maas.ErrNameTaken):
		return "name taken"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return -1
		}
		return r
	}, err.Error())
}

func (m *Manager) checkHealth(ctx context.Context) {
	c := m.client.Load()
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	h, err := c.Health(ctx)
	if err != nil {
		m.trip(fmt.Errorf("health check: %w", err))
		return
	}
	if a := m.arena.Load(); a != nil && a.ID != h.ArenaID {
		m.reload.Store(true)
		m.trip(errors.New("the server was restarted, without the memory that it had lent"))
		return
	}
	m.o.Logger.Info("MaaS health check succeeded", "url", m.o.URL, "status", h.Status, "transport", c.Transport())
}

// connect opens a session where there is none, looks at what the server holds, and closes the breaker. With Follow,
// another node may lead, so the first session is opened only where the name is known to be free.
func (m *Manager) connect(ctx context.Context) error {
	if m.Fenced() {
		return ErrFenced
	}
	if m.o.Follow && m.arena.Load() == nil && m.freeAt == "" {
		boot, err := m.mayLead(ctx)
		if !m.Following() {
			m.LookAnew() // It is no standby, and must not be seen as one while it compares its log.
		}
		if err != nil {
			return err
		}
		m.freeAt = boot
		defer func() { m.freeAt = "" }()
	}
	err := m.use(ctx)
	if errors.Is(err, maas.ErrNameTaken) && m.freeAt != "" {
		m.heldAt = m.freeAt
	}
	return err
}

// use is connect for a name that may be this process's.
func (m *Manager) use(ctx context.Context) error {
	c, h, err := m.session(ctx)
	if err != nil {
		return err
	}
	if m.freeAt != "" && m.freeAt != h.BootID {
		_ = m.closeClient() // The server was restarted since it was asked: its leader, if alive, gets the name back.
		return errMayLive
	}
	if mayLive, err := m.predecessorMayLive(ctx, c, h.UptimeSeconds); err != nil {
		return err
	} else if mayLive {
		_ = m.closeClient() // The predecessor, if alive, gets its name back.
		return errMayLive
	}
	if err := remotefile.CheckSizes(c.SlabSizes()); err != nil {
		return err
	}
	old := m.arena.Load()
	if old != nil && m.lapsed() {
		m.reload.Store(true)
	}
	if err := m.attach(ctx, c, h.ArenaID); err != nil {
		if isRefusal(err) {
			_ = m.closeClient() // The name is for the Prometheus that goes on with this memory.
		}
		return err
	}
	if m.arena.Load() != old {
		m.room.forget()
		m.showInfo()
	}
	m.keepSession(c)
	m.mu.Lock()
	m.why = nil
	m.mu.Unlock()
	m.failures.Store(0)
	m.up.Store(true)
	m.showState()
	m.o.Metrics.Transport.Reset()
	m.o.Metrics.Transport.WithLabelValues(c.Transport()).Set(1)
	m.o.Logger.Info("MaaS server is in use", "url", m.o.URL, "owner", m.o.Owner, "transport", c.Transport(), "arena", h.ArenaID)
	return nil
}

// predecessorMayLive says whether the owner's memory is older than a server that has just been started. Such a
// server knows no earlier session, but a predecessor that lives comes back for its name within the lease. With Follow,
// mayLead has asked more: the server may have lost the memory, too.
func (m *Manager) predecessorMayLive(ctx context.Context, c *maas.Client, uptimeSeconds int64) (bool, error) {
	uptime := time.Duration(uptimeSeconds) * time.Second
	if m.o.Follow || m.arena.Load() != nil || !m.empty || uptime > SessionTTL {
		return false, nil
	}
	allocations, err := c.List(ctx, m.o.Owner)
	older := func(a maas.Allocation) bool { return a.Age > uptime+time.Second } // Both are rounded.
	return slices.ContainsFunc(allocations, older), err
}

func (m *Manager) reason() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.why
}

// session keeps the live session if the server says that it is well, and returns the server's health. A session
// that ended, or that a restarted server does not know, is replaced, unless somebody took the name.
func (m *Manager) session(ctx context.Context) (*maas.Client, maas.Health, error) {
	if c := m.client.Load(); c != nil {
		if _, ok := c.Lease(); ok {
			h, err := askHealth(ctx, c)
			if _, ok := c.Lease(); ok || err != nil {
				return c, h, err
			}
		}
		m.lapsedSession(c)
		_ = m.closeClient() // It is lost already.
	}
	c, err := maas.Open(ctx, m.o.client())
	if err != nil {
		return nil, maas.Health{}, err
	}
	m.opened = time.Now()
	m.client.Store(c)
	h, err := askHealth(ctx, c)
	return c, h, err
}

func askHealth(ctx context.Context, c *maas.Client) (maas.Health, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return c.Health(ctx)
}

// attach compares the server's memory with what this process knows of it. If it is the same memory as before, all
// goes on as it was; otherwise what the server has now is the new beginning.
func (m *Manager) attach(ctx context.Context, c *maas.Client, arena string) error {
	listing, err := remotefile.List(ctx, stepwise{c}, m.o.Owner)
	if err != nil {
		return err
	}
	old := m.arena.Load()
	if old != nil && listing.Epoch > old.Epoch {
		return m.fence()
	}
	if old != nil && old.ID == arena && !m.reload.Load() {
		return nil
	}
	epoch := m.State().Epoch
	if old == nil && !m.empty {
		if err := m.compare(ctx, c, arena, listing, listing.Epoch <= epoch); err != nil {
			return err
		}
	}
	epoch = max(epoch, listing.Epoch) + 1
	if err := m.UpdateState(func(s *State) { s.Epoch = epoch }); err != nil {
		return err
	}
	m.reload.Store(false)
	m.arena.Store(&Arena{ID: arena, Epoch: epoch, Listing: listing})
	m.o.Logger.Info("MaaS memory pool manager initialized", "url", m.o.URL, "owner", m.o.Owner, "epoch", epoch,
		"files", len(listing.Files), "orphans", len(listing.Orphans))
	return nil
}

// refusal is why an owner's memory is not that of this directory, and what the server held then.
type refusal struct {
	why            error
	arena          string
	epoch          uint64
	files, orphans int
}

// compare refuses a log that is not the directory's. The refusal stands until the server holds something else,
// because a comparison reads the whole log.
func (m *Manager) compare(ctx context.Context, c *maas.Client, arena string, l *remotefile.Listing, sameWriter bool) error {
	if m.o.Compare == nil {
		return nil
	}
	now := refusal{m.refused.why, arena, l.Epoch, len(l.Files), len(l.Orphans)}
	if now.why != nil && now == m.refused {
		return now.why
	}
	relation, err := m.o.Compare(ctx, c, l, sameWriter)
	if err != nil {
		return err
	}
	now.why = nil
	switch {
	case relation == Forked:
		now.why = ErrForked
	case relation == Behind && !m.opening:
		now.why = ErrBehind
	}
	m.refused = now
	if m.opening {
		m.behind = relation == Behind
	}
	return now.why
}

func (m *Manager) fence() error {
	m.o.Logger.Error("MaaS memory was taken over", "owner", m.o.Owner, "err", ErrFenced)
	_ = m.closeClient() // The name belongs to the successor.
	m.mu.Lock()
	defer m.mu.Unlock()
	m.why = ErrFenced
	return ErrFenced
}

// IsEmpty says whether a data directory has no samples yet, so that it can be filled with what the server holds.
func IsEmpty(dir string) bool {
	entries, err := os.ReadDir(filepath.Join(dir, "wal"))
	return err != nil || len(entries) == 0
}
