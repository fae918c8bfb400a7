// SPDX-License-Identifier: Apache-2.0

// Following: a standby finds its owner's name taken, reads what the leader writes, and tries to take the name until
// it is free. Meanwhile it has a session of another name, which it shares with other standbys. That session gives no
// rights; it lets an operator see the standby (maas prometheus status).

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

const (
	// leadInterval is the pause between two checks whether this process is known to lead.
	leadInterval = 20 * time.Millisecond
	// standbyTime is how long a name that has just become free is left to a standby, which tries four times as
	// often.
	standbyTime = time.Second
)

// ErrLost ends a leader that has lost the name to its standby.
var ErrLost = errors.New("another Prometheus has taken over this owner's name, and continues in place of this one")

// followSuffix, appended to an owner's name, is the name of its standbys' sessions.
const followSuffix = "@follow"

// Following says whether this process is a standby: another has the name. A standby reads that owner's memory and
// writes nothing.
func (m *Manager) Following() bool { return m.following.Load() }

// SetLeaderHasNoLog says whether remote memory has no log to follow, although another has the name: the leader has no
// samples, or no room for them.
func (m *Manager) SetLeaderHasNoLog(is bool) { m.leaderHasNoLog.Store(is) }

// LeaderHasNoLog is what a standby saw at its last look for a log to follow.
func (m *Manager) LeaderHasNoLog() bool { return m.leaderHasNoLog.Load() }

// MustFollow says whether this process may not lead before it has caught up: the log that it followed last had a hole.
func (m *Manager) MustFollow() bool { return m.o.MustFollow }

// mustFollow says whether a failed first attempt to connect makes this process a standby: the leader lives, or the
// directory's log is not, or may not be, the one that the leader's memory will turn out to hold.
func (m *Manager) mustFollow(err error) bool {
	switch {
	case !m.o.Follow || errors.Is(err, context.Canceled):
		return false
	case errors.Is(err, maas.ErrNameTaken), errors.Is(err, errMayLive), errors.Is(err, ErrForked):
		return true
	}
	return m.empty && kind(err) == "out of reach" // A Prometheus that has never led does not begin to lead without the name.
}

// follow makes this process a standby.
func (m *Manager) follow(why error) {
	m.following.Store(true)
	m.why = why
	m.o.Metrics.Follows(true)
	m.o.Logger.Info("MaaS: following the Prometheus that holds this owner's name; until this one has the name, it scrapes nothing and is not ready",
		"owner", m.o.Owner, "url", m.o.URL, "reason", why)
	close(m.done) // In a standby only the follower watches the server.
}

// lostName says whether an error of connect means that another leads. The name may be taken by this process
// itself: at the server, a session that it has given up lives a moment longer, and over RDMA a session whose
// connection broke lives for the rest of its lease. So lostName wants to see the name taken twice, and by a
// session of another age than this process's; and for longer than a lease if this process began without the
// server, because then a predecessor on this directory may have died with the name.
func (m *Manager) lostName(ctx context.Context, err error) bool {
	first := m.takenSince
	switch {
	case !errors.Is(err, maas.ErrNameTaken):
		if err == nil || denies(err) { // Else there was no answer, and the last one stands.
			m.takenSince = time.Time{}
		}
		return m.o.Follow && errors.Is(err, ErrFenced)
	case first.IsZero():
		m.takenSince = time.Now()
		return false
	}
	return m.o.Follow && (m.arena.Load() != nil && !m.isOwn(ctx) || time.Since(first) > SessionTTL)
}

// isOwn says whether the session that has the name is as old as the one that this process opened last. An older
// server does not tell the age.
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

// Leads says whether this process may send alerts. A process that was stopped for longer than its lease does not know
// whether it leads; it waits until the server was asked, or is out of reach. A process that has lost the name ends
// meanwhile. One that the server turns away goes on: another may lead, but an alert that is sent twice harms less than
// one that nobody sends. False: ctx ended.
func (m *Manager) Leads(ctx context.Context) bool {
	for {
		leads, turnedAway := m.leads()
		if leads || turnedAway {
			return true
		}
		if !sleep(ctx, leadInterval) {
			return false
		}
	}
}

// SurelyLeads says whether this process leads as far as it knows, without waiting: false means that another may.
func (m *Manager) SurelyLeads() bool {
	leads, _ := m.leads()
	return leads
}

func (m *Manager) leads() (leads, turnedAway bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	end := m.leaseEnd
	if c := m.client.Load(); c != nil {
		if until := leaseEnd(c); until.After(end) { // A client that was closed meanwhile has no lease.
			end = until
		}
	}
	switch {
	case !m.o.Follow:
		return true, false
	case isTurnedAway(m.why): // Its session has ended already.
		return false, true
	case time.Now().Before(end):
		return true, false
	}
	return m.denial == nil && m.asked.After(end), m.denial != nil && !IsFollowed(m.denial)
}

// isTurnedAway says whether an error is the server's word that this process's token or certificate counts no more. Then
// the server has ended the session, too, and the name is free.
func isTurnedAway(err error) bool {
	var refusal *maas.Error
	return errors.As(err, &refusal) && errors.Is(err, maas.ErrToken)
}

// denies says whether an error of connect leaves open who leads. If it does not, the server gave this process the name,
// or is out of reach, and so for a standby that uses the same server.
func denies(err error) bool {
	var refusal *maas.Error
	return errors.Is(err, maas.ErrNameTaken) || errors.Is(err, errMayLive) || NeverWorks(err) ||
		errors.As(err, &refusal) && refusal.Code != "" // Else a proxy's.
}

// lapsedSession remembers until when the name surely belonged to this process.
func (m *Manager) lapsedSession(c *maas.Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leaseEnd = leaseEnd(c)
}

// leaseEnd is until when the name surely belongs to this process. A session over HTTP is lost before its lease ends only
// if the server does not know it any more; the server keeps one over RDMA whose connection broke.
func leaseEnd(c *maas.Client) time.Time {
	until, ok := c.Lease()
	if now := time.Now(); !ok && until.After(now) && c.Transport() == maas.TransportHTTP {
		return now
	}
	return until
}

// heard remembers an attempt to connect: when it began, and what it says about the name.
func (m *Manager) heard(begun time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = begun
	switch {
	case err == nil:
		m.denial = nil
	case denies(err):
		m.denial = err
	case !errors.Is(m.denial, maas.ErrNameTaken) || time.Since(m.takenSince) > SessionTTL:
		m.denial = nil // Out of reach. Else another had the name a moment ago, and leads.
	}
}

// Look is remote memory for a standby to read, each request with a time limit of its own. It connects if there is
// no connection.
func (m *Manager) Look(ctx context.Context) (remotefile.Memory, error) {
	c, err := m.look(ctx)
	if err != nil {
		return nil, err
	}
	return stepwise{c}, nil
}

func (m *Manager) look(ctx context.Context) (*maas.Client, error) {
	if c := m.client.Load(); c != nil { // There is one since Lead.
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

// openReader connects under the standbys' session name. If the name would be too long, or is refused, it connects
// without a session: a standby that nobody sees can follow all the same.
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

// LookAnew makes the next Look connect again, after a failure.
func (m *Manager) LookAnew() {
	m.readerMu.Lock()
	defer m.readerMu.Unlock()
	m.closeReader()
}

// closeReader needs readerMu.
func (m *Manager) closeReader() {
	if m.reader != nil {
		_ = m.reader.Close()
		m.reader = nil
	}
}

// Lead takes the name, if it is free, and then stores in Arena what the server holds. From then on this process is
// the one that writes. An error that IsFollowed accepts is no failure: the leader lives, or may.
func (m *Manager) Lead(ctx context.Context) error {
	if m.o.MustFollow && math.IsInf(m.o.Metrics.Behind(), 1) {
		return errHole
	}
	m.empty, m.opening = true, true
	defer func() { m.empty, m.opening = false, false }()
	if err := m.connect(ctx); err != nil {
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

// mayLead asks whether the name is free, without trying to take it, and returns the boot of the server that says
// so. A server that was started a moment ago does not know yet whether the leader comes back for the name, and
// must not give it away meanwhile. To ask is better than to try: the server logs each attempt that it refuses.
func (m *Manager) mayLead(ctx context.Context) (boot string, err error) {
	c, err := m.look(ctx)
	if err != nil {
		return "", err
	}
	own := c == m.client.Load() // From a Lead that failed after it connected: this process may have the name.
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
		return "", errMayLive // The leader may come back for its name, and must not find it taken, even for a moment.
	}
	return h.BootID, nil
}

// Holds says whether this process has the name, as far as its lease tells.
func (m *Manager) Holds() bool {
	c := m.client.Load()
	if c == nil {
		return false
	}
	until, ok := c.Lease()
	return ok && time.Now().Before(until)
}

// IsFollowed says whether an error of Lead means that the name is not free.
func IsFollowed(err error) bool {
	return errors.Is(err, maas.ErrNameTaken) || errors.Is(err, errMayLive) || errors.Is(err, errHole)
}

// BeginFollowing saves that from now on the directory holds a copy of what the leader writes. Nobody needs the
// copy: the next start begins anew.
func (m *Manager) BeginFollowing() error {
	return m.UpdateState(func(s *State) { s.Following, s.MinValidTime, s.FirstChunkSegment = true, nil, 0 })
}

// EndFollowing saves that the directory holds a head of its own; this process has the name by now.
func (m *Manager) EndFollowing() error {
	return m.UpdateState(func(s *State) { s.Following = false })
}

// loseName ends a leader that has lost the name; otherwise two would scrape, and send alerts.
func (m *Manager) loseName() {
	err := fmt.Errorf("owner %q: %w", m.o.Owner, ErrLost)
	m.o.Logger.Error("MaaS: Prometheus ends; its next start follows the leader", "err", err)
	if m.o.Lost != nil {
		m.o.Lost(err)
		return
	}
	os.Exit(1)
}
