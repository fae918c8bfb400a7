// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// Following: a Prometheus that finds its owner's name taken, and is to be a standby, reads what the leader writes, and
// tries to take the name until it is free. Meanwhile it has a session of another name, which it shares with other
// standbys: it gives no rights, and lets an operator see that it is there (maas prometheus status).

const (
	// leadInterval lies between two looks at whether it is known who leads.
	leadInterval = 20 * time.Millisecond
	// standbyTime is how long a name that has just become free is left to a standby, which tries four times as often.
	standbyTime = time.Second
)

// ErrLost is what a leader ends with that has lost the name to its standby.
var ErrLost = errors.New("another Prometheus has taken over this owner's name, and goes on in the place of this one")

// followSuffix behind an owner's name is that of its standbys' sessions.
const followSuffix = "@follow"

// Following says whether the name is another's, whose memory this process reads. It writes nothing.
func (m *Manager) Following() bool { return m.following.Load() }

// mustFollow says whether a first attempt to connect makes a standby of this process: the leader lives; or what
// this directory has is not, or may not be, what the leader's memory will be known to hold.
func (m *Manager) mustFollow(err error) bool {
	switch {
	case !m.o.Follow || errors.Is(err, context.Canceled):
		return false
	case errors.Is(err, maas.ErrNameTaken), errors.Is(err, errMayLive), errors.Is(err, ErrForked):
		return true
	}
	return m.empty && kind(err) == "out of reach" // Who has never led does not begin to lead without the name.
}

// follow makes this process a standby.
func (m *Manager) follow(why error) {
	m.following.Store(true)
	m.why = why
	m.o.Metrics.Follows(true)
	m.o.Logger.Info("MaaS: following the Prometheus that holds this owner's name; this one scrapes nothing, and is not ready, until the name is its own",
		"owner", m.o.Owner, "url", m.o.URL, "reason", why)
	close(m.done) // Nothing watches the server but who follows.
}

// lostName says of what connect returned that another leads. That the name is taken may be this process's own doing:
// at the server, a session that it has given up lives a moment longer, and over RDMA one whose connection broke for
// the rest of its lease. So it looks twice, and at how old the session is that has the name; and for longer than a
// lease where it began without the server, for then a predecessor of its own may have died with the name.
func (m *Manager) lostName(ctx context.Context, err error) bool {
	first := m.takenSince
	switch {
	case !errors.Is(err, maas.ErrNameTaken):
		m.takenSince = time.Time{}
		return m.o.Follow && errors.Is(err, ErrFenced)
	case first.IsZero():
		m.takenSince = time.Now()
		return false
	}
	return m.o.Follow && (m.arena.Load() != nil && !m.isOwn(ctx) || time.Since(first) > SessionTTL)
}

// isOwn says whether the session that has the name is as old as the one that this process opened last. An older
// server does not tell.
func (m *Manager) isOwn(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	o := m.o.client()
	o.Name, o.Exclusive, o.Transport = "", false, maas.TransportHTTP
	c, err := maas.Open(ctx, o)
	if err != nil {
		return false
	}
	defer c.Close()
	age, open, err := c.SessionAge(ctx, m.o.Owner)
	return err == nil && open && age >= time.Since(m.opened)-2*time.Second // Both are rounded.
}

// Leads says whether this process still leads: whether what only one may do can be done. Who was stopped for longer
// than its lease does not know, and waits until the server was asked, or is out of reach; who has lost the name ends
// meanwhile. False: ctx ended.
func (m *Manager) Leads(ctx context.Context) bool {
	for !m.knowsThatItLeads() {
		if !sleep(ctx, leadInterval) {
			return false
		}
	}
	return true
}

func (m *Manager) knowsThatItLeads() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	end := m.leaseEnd
	if c := m.client.Load(); c != nil {
		if until, _ := c.Lease(); until.After(end) { // Closed meanwhile: none.
			end = until
		}
	}
	return !m.o.Follow || time.Now().Before(end) || m.asked.After(end)
}

// lapsedSession remembers until when a session's name was this process's for sure.
func (m *Manager) lapsedSession(c *maas.Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leaseEnd, _ = c.Lease()
}

// goesOn remembers that the server was asked at a time, and that the name was not another's.
func (m *Manager) goesOn(asked time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = asked
}

// Look is remote memory for who follows: to read, each request within its own time. It connects where there is no
// connection.
func (m *Manager) Look(ctx context.Context) (remotefile.Memory, error) {
	c, err := m.look(ctx)
	if err != nil {
		return nil, err
	}
	return stepwise{c}, nil
}

func (m *Manager) look(ctx context.Context) (*maas.Client, error) {
	if c := m.client.Load(); c != nil { // Since Lead.
		return c, nil
	}
	m.readerMu.Lock()
	defer m.readerMu.Unlock()
	if m.reader != nil {
		select {
		case <-m.reader.Lost(): // Nobody sees it any more.
			m.closeReader()
		default:
		}
	}
	if m.reader == nil {
		c, err := m.openReader(ctx)
		if err != nil {
			return nil, err
		}
		m.reader = c
	}
	return m.reader, nil
}

// openReader connects under the standbys' name; without one where that would be too long, or is refused: who is not
// seen can follow all the same.
func (m *Manager) openReader(ctx context.Context) (*maas.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	o := m.o.client()
	o.Name, o.Exclusive = m.o.Owner+followSuffix, false
	var refusal *maas.Error
	if o.Check() == nil {
		if c, err := maas.Open(ctx, o); err == nil || !errors.As(err, &refusal) {
			return c, err
		}
	}
	o.Name = ""
	return maas.Open(ctx, o)
}

// LookAnew makes the next Look connect anew, after one that failed.
func (m *Manager) LookAnew() {
	m.readerMu.Lock()
	defer m.readerMu.Unlock()
	m.closeReader()
}

// closeReader is for who has readerMu.
func (m *Manager) closeReader() {
	if m.reader != nil {
		_ = m.reader.Close()
		m.reader = nil
	}
}

// Lead takes the name, if it is free, and remembers in Arena what the server holds then. From then on this process
// is the one that writes. An error that IsFollowed is no failure: the leader lives, or may.
func (m *Manager) Lead(ctx context.Context) error {
	if m.o.MustFollow && math.IsInf(m.o.Metrics.Behind(), 1) {
		return errHole
	}
	boot, err := m.mayLead(ctx)
	if err != nil {
		return err
	}
	m.empty, m.opening, m.freeAt = true, true, boot
	defer func() { m.empty, m.opening, m.freeAt = false, false, "" }()
	if err := m.connect(ctx); err != nil {
		if errors.Is(err, maas.ErrNameTaken) {
			m.heldAt = boot
		}
		return err
	}
	m.LookAnew()
	m.following.Store(false)
	m.o.Metrics.Follows(false)
	m.o.Metrics.Promotions.Inc()
	m.done = make(chan struct{})
	runCtx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go m.run(runCtx)
	return nil
}

// mayLead asks whether the name is free, without trying to take it, and which process of the server says so. A server
// that was started a moment ago does not know yet who comes back for the name, and must not give it away meanwhile;
// each try that it refuses is a line in its log.
func (m *Manager) mayLead(ctx context.Context) (boot string, err error) {
	c, err := m.look(ctx)
	if err != nil {
		return "", err
	}
	own := c == m.client.Load() // Of a Lead that failed later: the name may be this process's.
	h, err := askHealth(ctx, c)
	if err != nil {
		return "", err
	}
	if !own {
		if _, taken, err := c.SessionAge(ctx, m.o.Owner); err == nil && taken { // An older server does not tell.
			m.heldAt = h.BootID
			return "", fmt.Errorf("owner %q: %w", m.o.Owner, maas.ErrNameTaken)
		}
	}
	if m.heldAt != h.BootID && time.Duration(h.UptimeSeconds)*time.Second <= SessionTTL {
		return "", errMayLive // The leader comes back for its name, and must not find it taken, even for a moment.
	}
	return h.BootID, nil
}

// Holds says whether the name is this process's, as far as its lease tells.
func (m *Manager) Holds() bool {
	c := m.client.Load()
	if c == nil {
		return false
	}
	until, ok := c.Lease()
	return ok && time.Now().Before(until)
}

// IsFollowed says of an error of Lead that the name is not free.
func IsFollowed(err error) bool {
	return errors.Is(err, maas.ErrNameTaken) || errors.Is(err, errMayLive) || errors.Is(err, errHole)
}

// BeginFollowing saves that what is in the directory from now on is a copy of what the leader writes, which nobody
// needs: a next start begins anew. EndFollowing, once the name is this process's, that it is a head of its own.
func (m *Manager) BeginFollowing() error {
	return m.UpdateState(func(s *State) { s.Following, s.MinValidTime, s.FirstChunkSegment = true, nil, 0 })
}

// EndFollowing ends what BeginFollowing began.
func (m *Manager) EndFollowing() error {
	return m.UpdateState(func(s *State) { s.Following = false })
}

// loseName ends a leader that has lost the name: two would scrape, and send alerts.
func (m *Manager) loseName() {
	err := fmt.Errorf("owner %q: %w", m.o.Owner, ErrLost)
	m.o.Logger.Error("MaaS: Prometheus ends; its next start follows the one that leads", "err", err)
	if m.o.Lost != nil {
		m.o.Lost(err)
		return
	}
	os.Exit(1)
}
