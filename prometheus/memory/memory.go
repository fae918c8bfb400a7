// SPDX-License-Identifier: Apache-2.0

// Package memory holds the connection of a Prometheus to its memory server: one exclusive session under the
// owner's name, a circuit breaker in front of the server, and the list of what the server holds of this owner.
//
// Callers never wait for a dead server. Two failures in a row, or one timeout, open the breaker; from then on
// calls fail at once, until a check in the background finds the server again. A write never meets a successor: it
// is sent only while the session's lease has longer to run than the write may take.
//
// This file has the calls and the breaker; connect.go watches the server and connects, verify.go asks whether the server
// still has everything, follow.go is for standbys.
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

// Errors of calls that fail without a request to the server.
var (
	ErrDegraded = errors.New("the memory server is not in use: it failed, and is being tried again in the background")
	ErrFenced   = errors.New("another Prometheus has taken over this owner's memory: this one writes nothing more to it")
	ErrForked   = errors.New("the memory server holds another log of this owner than this data directory: each has continued in its own way, from a copy or after a take-over; start on an empty directory to continue with the server's, choose another owner name (--storage.tsdb.maas.owner), or free the server's (maas free --owner NAME) to continue with this one")
	ErrBehind   = errors.New("this data directory is an older copy: the memory server holds a newer state of this owner; start Prometheus again while the server is there, to continue with that state")
)

// ErrOptions is the error of Open for options with which no server can ever be used, whether the server is
// required or not.
var ErrOptions = errors.New("--storage.tsdb.maas.url, .owner or .transport cannot work")

var errHole = errors.New("the log that it followed had a hole, and it does not lead with a hole")

var errMayLive = errors.New("the memory server was restarted a moment ago: the Prometheus that had this owner's memory may live, and has the time of a lease to come back for it")

const (
	// SessionTTL is how long the server holds the name of a Prometheus that died.
	SessionTTL = 10 * time.Second
	// writeTimeout bounds a write; the time that its bytes take at slowestRate comes on top. The lease has to
	// outlive both.
	writeTimeout = 2 * time.Second
	slowestRate  = 2 << 20 // Bytes per second.
	// retryInterval is how often a server that failed is tried again.
	retryInterval = time.Second
	// refusedInterval is how often a server is tried whose memory of this owner is not that of the data
	// directory.
	refusedInterval = 15 * time.Second
	// healthInterval is how often a server that works is asked for its health.
	healthInterval = 30 * time.Second
	// failuresToOpen is how many failures in a row open the breaker.
	failuresToOpen = 2
)

// Options are the options of Open.
type Options struct {
	URL       string
	Owner     string
	Transport string       // auto, http, rdma.
	Proof     maas.Options // Of these, the token and the fields of TLS.
	Dir       string       // The data directory, where the state is kept.

	// Required makes Open fail when the server is not there, or when it holds another log.
	Required bool

	// Compare compares the directory's log with the one at the server. sameWriter: the directory knows every
	// process that wrote to the server's log. Nil: the directory has all.
	Compare func(ctx context.Context, mem remotefile.Memory, l *remotefile.Listing, sameWriter bool) (Relation, error)

	// Prepare is called once the directory is this process's, before anything looks at its log. Nil: nothing.
	Prepare func() error

	// Follow makes a Prometheus that finds the name taken a standby: see Manager.Following. MustFollow makes
	// it a standby in any case, which does not take the name before it has caught up. Lost ends the process of
	// a leader that has lost the name; nil: at once, with status 1.
	Follow, MustFollow bool
	Lost               func(error)

	// Lease is how long memory of an owner whose name is made up outlives its Prometheus; 0: 70 minutes.
	Lease time.Duration

	// Verify is the pause between two looks whether the server still has everything; 0: 10 minutes.
	Verify time.Duration

	Logger  *slog.Logger
	Metrics *Metrics
}

// Relation says how a data directory's log relates to the one at the server.
type Relation int

// The relations.
const (
	HasAll Relation = iota // The server's log is the beginning of the directory's.
	Behind                 // The server's log goes on where the directory's ends.
	Forked                 // They are two different logs.
)

// Arena is what the server held when the session began, or began again after a loss.
type Arena struct {
	ID      string
	Epoch   uint64              // Of what is written from now on.
	Listing *remotefile.Listing // A caller that attaches a file, or frees an orphan, owns it from then on.
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
	reload   atomic.Bool // The server has lost some of its memory.
	room     room
	piece    piece
	lent     lent
	place    place
	madeUp   bool // The owner's name.
	leases   leases

	// empty: the data directory can still be filled with what the server holds. True only while Open waits:
	// without the server, the Prometheus begins a head of its own.
	empty bool

	// opening: no database that writes to the directory's log is open yet. behind: the server's log goes on
	// where the directory's ends.
	opening, behind bool

	refused refusal // What the server held at the last comparison, if that was refused.

	following      atomic.Bool
	leaderHasNoLog atomic.Bool
	readerMu       sync.Mutex   // Guards reader.
	reader         *maas.Client // A standby's, for Look; nil: not connected.
	heldAt         string       // With Follow: the boot of the server at which another held the name.
	freeAt         string       // While it is about to lead: the boot at which the name was free.

	opened     time.Time // When the last session was opened.
	takenSince time.Time // When this leader first found its name taken; zero: at the last try it was not.

	saving   sync.Mutex // Held while the state is saved, which waits for the disk.
	mu       sync.Mutex // Guards what follows.
	state    State
	why      error     // Why the breaker is open.
	leaseEnd time.Time // Of the session that was lost last.
	reliedOn []func() []*remotefile.File
	asked    time.Time // When the last attempt to connect without a session began.
	denial   error     // Why the server, if it answered, did not give this process the name at that attempt.
}

// client returns the options of the session.
func (o *Options) client() maas.Options {
	c := o.Proof
	c.URL, c.Name, c.Exclusive, c.SessionTTL = o.URL, o.Owner, true, SessionTTL
	c.Transport, c.Timeout = o.Transport, stepTimeout
	return c
}

// NeverWorks says that no server would do: the options or a file of TLS cannot work, the server does not know the token
// or certificate, or its principal may not use the owner's name. A mirror starts without a server, but not so.
func NeverWorks(err error) bool {
	var refusal *maas.Error
	return errors.Is(err, ErrOptions) || errors.Is(err, maas.ErrTLSFiles) || errors.Is(err, maas.ErrToken) || errors.As(err, &refusal) && refusal.Code == "forbidden"
}

// check refuses options that would leave a mirror without its server for ever. The client takes a bare word for a
// host, with port 80; here a bare word is a slip.
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

// Open connects. If the server is not required and not there, Open returns a Manager all the same, which goes on
// trying. If the owner's name is taken, Open waits for the lease of a predecessor that died.
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
	if o.Verify == 0 {
		o.Verify = defaultVerify
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if state.Owner != o.Owner {
		// What is known of the directory's log stays.
		state = State{Owner: o.Owner, ChunkSegment: state.ChunkSegment, MinValidTime: state.MinValidTime}
	}
	runCtx, cancel := context.WithCancel(context.Background())
	m := &Manager{o: o, cancel: cancel, done: make(chan struct{}), kick: make(chan struct{}, 1), state: state, madeUp: madeUp}
	if madeUp {
		o.Logger.Warn("MaaS owner name is made up, and known to this data directory alone: no other node can take over, and if the directory does not last, each start leaves its memory behind for an hour; give a permanent name (--storage.tsdb.maas.owner)", "owner", o.Owner)
	}
	m.showState()
	m.showInfo()
	m.place = holdPlace(o.Dir)
	if o.Prepare != nil && m.InUse() == nil {
		if err := o.Prepare(); err != nil {
			cancel()
			m.place.release()
			return nil, fmt.Errorf("data directory %s: %w", o.Dir, err)
		}
	}
	m.endPredecessor(ctx)
	m.empty, m.opening = IsEmpty(o.Dir) || state.Following, true
	if o.MustFollow {
		m.empty, m.opening = false, false
		m.follow(errHole)
		return m, nil
	}
	needed := o.Required || m.empty
	begun := time.Now()
	err = m.connectFirst(ctx, needed)
	m.heard(begun, err)
	if err != nil {
		if m.mustFollow(err) {
			m.empty, m.opening = false, false
			m.follow(err)
			return m, nil
		}
		if o.Required || NeverWorks(err) || errors.Is(err, context.Canceled) || needed && (errors.Is(err, maas.ErrNameTaken) || errors.Is(err, errMayLive)) {
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

// connectFirst connects, and gives the lease of a dead predecessor time to end: the server may hold more of the
// log than the directory does. If the server is needed, it waits twice as long before it gives up.
func (m *Manager) connectFirst(ctx context.Context, needed bool) error {
	patience := SessionTTL + 2*retryInterval
	if needed {
		patience = 2 * SessionTTL
	}
	deadline := time.Now().Add(patience)
	for said := false; ; {
		err := m.connect(ctx)
		taken := errors.Is(err, maas.ErrNameTaken)
		if !taken && !errors.Is(err, errMayLive) || m.place.taken || m.o.Follow { // The process that holds the place lives.
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

// Metrics are the metrics that users of this package count in.
func (m *Manager) Metrics() *Metrics { return m.o.Metrics }

// Arena is what the server holds of this owner; nil while the server was never reached. A different pointer than
// before means that everything attached before is gone.
func (m *Manager) Arena() *Arena { return m.arena.Load() }

// Up says whether the breaker is closed.
func (m *Manager) Up() bool { return m.up.Load() }

// Fenced says whether a successor has taken over for good.
func (m *Manager) Fenced() bool { return errors.Is(m.reason(), ErrFenced) }

// State returns the directory's state as it was last saved.
func (m *Manager) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// Behind says whether the server holds the rest of the directory's log, which has to be brought back before a
// database opens the directory.
func (m *Manager) Behind() bool { return m.behind }

// UpdateState changes the state and saves it.
func (m *Manager) UpdateState(change func(*State)) error {
	m.saving.Lock()
	defer m.saving.Unlock()
	next := m.State()
	change(&next)
	if err := next.Save(m.o.Dir); err != nil {
		return fmt.Errorf("save the state of remote memory: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = next
	return nil
}

// Read runs a call that changes nothing at the server, bounded by timeout.
func (m *Manager) Read(op string, timeout time.Duration, call func(context.Context, *Conn) error) error {
	return m.do(op, timeout, false, call)
}

// Write runs a call that changes what the server holds, and that carries size bytes: PieceSize at most, because the lease
// has to outlive the time that they may take.
func (m *Manager) Write(op string, size int, call func(context.Context, *Conn) error) error {
	return m.do(op, Patience(size), true, func(ctx context.Context, c *Conn) error {
		begun := time.Now()
		err := call(ctx, c)
		if err == nil || ctx.Err() != nil {
			m.piece.learn(size, time.Since(begun), err != nil)
		}
		return err
	})
}

// Patience is how long a call with so many bytes may take when nobody waits for it.
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
	failed := m.o.Metrics.Errors.WithLabelValues(op) // At 0: rate() does not see what a series begins with.
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
	failed.Inc()
	m.judge(err, ctx.Err() != nil)
	return err
}

// judge decides what a failed call says about the server.
func (m *Manager) judge(err error, timedOut bool) {
	switch {
	case IsFull(err):
	// The server is well.
	case errors.Is(err, remotefile.ErrOutOfRange), errors.Is(err, remotefile.ErrFreed):
	case maas.IsNotFound(err):
		m.reload.Store(true)
		m.trip(fmt.Errorf("the server has lost memory that it lent: %w", err))
	case timedOut, isTurnedAway(err):
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

// trip opens the breaker, unless it is open.
func (m *Manager) trip(err error) {
	m.mu.Lock()
	tripped := m.up.CompareAndSwap(true, false)
	if tripped {
		m.why = err
	}
	m.mu.Unlock()
	if !tripped {
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

// showState sets the metrics of the server's state; it is called after each change.
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

// Close ends the session; the memory stays under the owner's name.
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
