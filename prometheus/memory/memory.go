// SPDX-License-Identifier: Apache-2.0

// Package memory holds a Prometheus's connection to its memory server: one exclusive session under
// the owner's name, a circuit breaker in front of it, and what the server holds of this owner.
//
// Whoever uses it never waits for a dead server: two failures in a row, or one timeout, open the
// breaker, and from then on calls fail at once until a check in the background finds the server
// again. Nothing is written that could meet a successor: a write is only sent while the session's
// lease has longer to run than the write may take.
package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// Errors that calls fail with, without a word to the server.
var (
	ErrDegraded = errors.New("the memory server is not in use: it failed, and is tried again in the background")
	ErrFenced   = errors.New("another Prometheus has taken over this owner's memory: this one writes nothing more to it")
	ErrForked   = errors.New("the memory server holds another log of this owner than this data directory: both have gone on, each in its own way, from a copy or after a take-over; start on an empty directory to go on with the server's, choose another owner name (--storage.tsdb.maas.owner), or free the server's (maas free --owner NAME) to go on with this one")
	ErrBehind   = errors.New("the memory server holds a newer state of this owner than this data directory, an older copy: start Prometheus anew while the server is there, to go on with it")
)

// ErrOptions is what Open fails with, whether the server is required or not, where no server could ever be
// used so.
var ErrOptions = errors.New("--storage.tsdb.maas.url, .owner or .transport cannot work")

var errHole = errors.New("what it followed had a hole, with which it does not lead")

var errMayLive = errors.New("the memory server was restarted a moment ago: who had this owner's memory may live, and has the time of a lease to come back for it")

const (
	// SessionTTL is how long the server holds the name of a Prometheus that died.
	SessionTTL = 10 * time.Second
	// writeTimeout bounds a write, with what its bytes take at the slowest rate that is good enough; the
	// lease has to outlive it.
	writeTimeout = 2 * time.Second
	slowestRate  = 2 << 20 // Bytes per second.
	// retryInterval is how often a server that failed is tried again.
	retryInterval = time.Second
	// refusedInterval is how often one is whose memory of this owner is not that of the data directory.
	refusedInterval = 15 * time.Second
	// healthInterval is how often one that works is asked how it is.
	healthInterval = 30 * time.Second
	// failuresToOpen is how many failures in a row open the breaker.
	failuresToOpen = 2
)

// Options of Open.
type Options struct {
	URL       string
	Owner     string
	Transport string // auto, http, rdma.
	Dir       string // The data directory, where the state is kept.

	// Required makes Open fail when the server is not there, or when it holds another log.
	Required bool

	// Compare says how the directory's log stands to what the server holds. sameWriter: the directory knows of
	// all who wrote to it. Nil: it has all.
	Compare func(ctx context.Context, mem remotefile.Memory, l *remotefile.Listing, sameWriter bool) (Relation, error)

	// Follow makes a standby of a Prometheus that finds the name taken: see Manager.Following. Lost ends the
	// process of a leader that has lost the name; nil: at once, with status 1.
	// MustFollow makes one in any case, which does not take the name before it has caught up.
	Follow, MustFollow bool
	Lost               func(error)

	// Lease is how long memory of an owner whose name is made up outlives its Prometheus; 0: 70 minutes.
	Lease time.Duration

	Logger  *slog.Logger
	Metrics *Metrics
}

// Relation is how a data directory's log stands to the one that the server holds.
type Relation int

// The relations.
const (
	HasAll Relation = iota // The server's is the beginning of the directory's.
	Behind                 // The server's goes on where the directory's ends.
	Forked                 // They are two different logs.
)

// Arena is what the server held when the session began, or began again after a loss.
type Arena struct {
	ID      string
	Epoch   uint64              // Of what is written from now on.
	Listing *remotefile.Listing // Whoever attaches a file or frees an orphan owns it from then on.
}

// Manager is safe for use by many goroutines.
type Manager struct {
	o      Options
	cancel context.CancelFunc
	done   chan struct{}
	kick   chan struct{}

	client   atomic.Pointer[maas.Client] // Nil while there is no session.
	arena    atomic.Pointer[Arena]       // Nil until the first session.
	up       atomic.Bool
	failures atomic.Int32
	reload   atomic.Bool // The server has lost some of what it held.
	room     room
	lent     lent
	place    place
	madeUp   bool // The owner's name.
	leases   leases

	// empty: the data directory can still be filled with what the server holds. Only while Open waits: who
	// goes on without the server begins a head of its own.
	empty bool

	// opening: no database is open yet that writes to the directory's log. behind: the server's goes on where
	// that one ends.
	opening, behind bool

	refused refusal // What the server held when it was compared last, if that was refused.

	following atomic.Bool
	readerMu  sync.Mutex   // Guards reader.
	reader    *maas.Client // Of who follows, for Look; nil: not connected.
	heldAt    string       // Of who follows: the boot of the server at which the leader held the name.
	freeAt    string       // Of who is about to lead: the boot at which the name was free.

	opened     time.Time // The session that was opened last.
	takenSince time.Time // When this process, which leads, found the name taken first; zero: it was not, last time.

	mu       sync.Mutex // Guards what follows.
	state    State
	why      error     // Why it is not up.
	leaseEnd time.Time // Of the session that was lost last.
	asked    time.Time // When it was tried last to have a session again, that failed for another reason than a lost name.
}

// client is what a session is opened with.
func (o *Options) client() maas.Options {
	return maas.Options{
		URL: o.URL, Name: o.Owner, Exclusive: true, SessionTTL: SessionTTL,
		Transport: o.Transport, Timeout: 5 * time.Second,
	}
}

// check refuses what would leave a mirror without its server for ever. A bare word is a name that the
// client takes for a host, and port 80; here it is a slip.
func (o *Options) check() error {
	err := o.client().Check()
	if err == nil && !strings.Contains(o.URL, ":") {
		err = fmt.Errorf("%q names no port; give %s:3000, or http://%s for port 80", o.URL, o.URL, o.URL)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	return nil
}

// Open connects. Unless the server is required, it returns a Manager also when there is none, which
// goes on trying. Where the owner's name is taken, it waits for the lease of a predecessor that died.
func Open(ctx context.Context, o Options) (*Manager, error) {
	state, err := LoadState(o.Dir)
	if err != nil {
		return nil, err
	}
	madeUp := o.Owner == ""
	if madeUp {
		o.Owner = state.Owner
	}
	if o.Owner == "" {
		o.Owner = NewOwner()
	}
	if o.Lease == 0 {
		o.Lease = defaultLease
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if state.Owner != o.Owner {
		// What is of the directory's log stays.
		state = State{Owner: o.Owner, ChunkSegment: state.ChunkSegment, MinValidTime: state.MinValidTime}
	}
	runCtx, cancel := context.WithCancel(context.Background())
	m := &Manager{o: o, cancel: cancel, done: make(chan struct{}), kick: make(chan struct{}, 1), state: state, madeUp: madeUp, asked: time.Now()}
	if madeUp {
		o.Logger.Warn("MaaS owner name is made up, and known to this data directory alone: no other node can take over, and a directory that does not last leaves its memory behind, for an hour, at each start; give a name that lasts (--storage.tsdb.maas.owner)", "owner", o.Owner)
	}
	m.showState()
	m.showInfo()
	m.place = holdPlace(o.Dir)
	m.endPredecessor(ctx)
	m.empty, m.opening = IsEmpty(o.Dir) || state.Following, true
	if o.MustFollow {
		m.empty, m.opening = false, false
		m.follow(errHole)
		return m, nil
	}
	needed := o.Required || m.empty
	if err := m.connectFirst(ctx, needed); err != nil {
		if m.mustFollow(err) {
			m.empty, m.opening = false, false
			m.follow(err)
			return m, nil
		}
		if o.Required || errors.Is(err, context.Canceled) || needed && (errors.Is(err, maas.ErrNameTaken) || errors.Is(err, errMayLive)) {
			cancel()
			m.closeClient()
			m.place.release()
			return nil, cmp.Or(m.InUse(), fmt.Errorf("memory server %s: %w", o.URL, err))
		}
		m.why = err
		m.o.Logger.Warn("MaaS server is not in use; local storage serves alone until it is", "url", o.URL, "err", err)
	}
	m.empty, m.opening = false, false
	go m.run(runCtx)
	return m, nil
}

// connectFirst connects, and gives a dead predecessor's lease the time to lapse: the server may hold more of
// the log than the directory does. Where the server is needed, it waits twice as long before it gives up.
func (m *Manager) connectFirst(ctx context.Context, needed bool) error {
	patience := SessionTTL + 2*retryInterval
	if needed {
		patience = 2 * SessionTTL
	}
	deadline := time.Now().Add(patience)
	for said := false; ; {
		err := m.connect(ctx)
		taken := errors.Is(err, maas.ErrNameTaken)
		if !taken && !errors.Is(err, errMayLive) || m.place.taken || m.o.Follow { // Who holds the place lives.
			return err
		}
		if time.Now().After(deadline) {
			if !taken {
				return err
			}
			return fmt.Errorf("another Prometheus holds the memory of owner %q, and lives: stop it, or choose another name (--storage.tsdb.maas.owner): %w", m.o.Owner, err)
		}
		if !said {
			m.o.Logger.Info("MaaS owner name is taken, by a predecessor or by another Prometheus; waiting for its lease to end", "owner", m.o.Owner)
			said = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryInterval):
		}
	}
}

// Owner is the name that the allocations carry.
func (m *Manager) Owner() string { return m.o.Owner }

// Metrics is where users of this package count.
func (m *Manager) Metrics() *Metrics { return m.o.Metrics }

// Arena is what the server holds of this owner; nil while it was never reached. Another pointer than
// before means that what was attached is gone.
func (m *Manager) Arena() *Arena { return m.arena.Load() }

// Up says whether the breaker is closed.
func (m *Manager) Up() bool { return m.up.Load() }

// Fenced says whether a successor has taken over for good.
func (m *Manager) Fenced() bool { return errors.Is(m.reason(), ErrFenced) }

// State returns the directory's state as it was saved last.
func (m *Manager) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// Behind says whether the server holds the rest of the directory's log, which is to be brought back before
// a database opens it.
func (m *Manager) Behind() bool { return m.behind }

// UpdateState changes the state and saves it.
func (m *Manager) UpdateState(change func(*State)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.state
	change(&next)
	if err := next.Save(m.o.Dir); err != nil {
		return fmt.Errorf("save the state of remote memory: %w", err)
	}
	m.state = next
	return nil
}

// Read runs a call that changes nothing at the server, bounded by timeout.
func (m *Manager) Read(op string, timeout time.Duration, call func(context.Context, *Conn) error) error {
	return m.do(op, timeout, false, call)
}

// Write runs a call that changes what the server holds, and carries so many bytes.
func (m *Manager) Write(op string, size int, call func(context.Context, *Conn) error) error {
	return m.do(op, Patience(size), true, call)
}

// Patience is how long a call that nobody waits for may take with so many bytes.
func Patience(size int) time.Duration {
	return writeTimeout + time.Duration(size)*time.Second/slowestRate
}

func (m *Manager) do(op string, timeout time.Duration, write bool, call func(context.Context, *Conn) error) error {
	c := m.client.Load()
	if c == nil || !m.up.Load() {
		return m.downErr()
	}
	if write {
		if until, ok := c.Lease(); !ok || time.Until(until) < timeout {
			m.trip(maas.ErrSessionLost)
			return m.downErr()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	start := time.Now()
	err := call(ctx, &Conn{Client: c, m: m})
	if errors.Is(err, errNotAsked) {
		return err
	}
	m.o.Metrics.Durations.WithLabelValues(op).Observe(time.Since(start).Seconds())
	if err == nil {
		m.failures.Store(0)
		return nil
	}
	m.o.Metrics.Errors.WithLabelValues(op).Inc()
	m.judge(err, ctx.Err() != nil)
	return err
}

// judge decides what a failed call says of the server.
func (m *Manager) judge(err error, timedOut bool) {
	switch {
	case IsFull(err):
		// But well: what it holds is there.
	case errors.Is(err, remotefile.ErrOutOfRange), errors.Is(err, remotefile.ErrFreed):
	case maas.IsNotFound(err):
		m.reload.Store(true)
		m.trip(fmt.Errorf("the server has lost memory that it lent: %w", err))
	case timedOut:
		m.trip(err)
	default:
		m.Failed(err)
	}
}

// Failed counts a failure that the caller found, such as a wrong checksum.
func (m *Manager) Failed(err error) {
	if m.failures.Add(1) >= failuresToOpen {
		m.trip(err)
	}
}

func (m *Manager) downErr() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.why != nil {
		return fmt.Errorf("%w (%w)", ErrDegraded, m.why)
	}
	return ErrDegraded
}

// trip opens the breaker.
func (m *Manager) trip(err error) {
	m.mu.Lock()
	m.why = err
	m.mu.Unlock()
	if !m.up.CompareAndSwap(true, false) {
		return
	}
	m.showState()
	meanwhile := "local storage serves until it is back"
	if m.o.Required {
		meanwhile = "what it holds is out of reach until it is back"
	}
	m.o.Logger.Warn("MaaS server failed; "+meanwhile, "url", m.o.URL, "err", err)
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// showState keeps the metrics of how the server is: after each change, as it is then.
func (m *Manager) showState() {
	m.mu.Lock()
	defer m.mu.Unlock()
	up, degraded := 0.0, 1.0
	if m.up.Load() {
		up = 1
		if !m.room.full() {
			degraded = 0
		}
	}
	m.o.Metrics.Up.Set(up)
	m.o.Metrics.Degraded.Set(degraded)
}

func (m *Manager) showInfo() {
	mode := "mirror"
	if m.o.Required {
		mode = "remote"
	}
	m.o.Metrics.Info.Reset()
	m.o.Metrics.Info.WithLabelValues(m.o.Owner, mode, strconv.FormatUint(m.State().Epoch, 10)).Set(1)
}

// Close ends the session; the memory stays with the owner's name.
func (m *Manager) Close() error {
	m.cancel()
	<-m.done
	m.LookAnew()
	m.up.Store(false)
	m.showState()
	defer m.place.release()
	return m.closeClient()
}

func (m *Manager) closeClient() error {
	if c := m.client.Swap(nil); c != nil {
		return c.Close()
	}
	return nil
}
