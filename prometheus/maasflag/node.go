// SPDX-License-Identifier: Apache-2.0

// One Prometheus of an owner's name, from its start to its end: leading, following, and starting to follow anew.

package maasflag

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/maas-memory/maas/prometheus/blocks"
	"github.com/maas-memory/maas/prometheus/tail"
)

// startOverInterval is the pause before a standby begins anew. When the next beginning follows soon, because the
// log has something that cannot be followed, the pause doubles, up to maxStartOverInterval.
const (
	startOverInterval    = time.Second
	maxStartOverInterval = 15 * time.Second
)

// Node is one Prometheus of an owner's name: the leader or a standby.
type Node struct {
	c      *Config
	dir    string
	logger *slog.Logger
	reg    prometheus.Registerer

	restarts map[string]int // How often following began anew, by reason.
	holed    bool           // The log that was followed last had a hole.
	attached atomic.Pointer[Attachment]
	opened   atomic.Bool // Open has returned: Close may be called by another goroutine.

	receiving receiving

	// Exit ends the process; tests replace it.
	Exit func(error)
}

// New makes a node from the flags; nothing happens before Open.
func New(c *Config, dir string, logger *slog.Logger, reg prometheus.Registerer) *Node {
	return &Node{c: c, dir: dir, logger: logger, reg: reg, restarts: map[string]int{}, Exit: func(error) { os.Exit(1) }}
}

// Open connects the data directory and calls open, which opens the database with metrics of its own; without a
// URL, Open only calls open. In a standby, open returns when the leader is gone. When the followed log is cut,
// following begins anew, and open is called again. Open ends with an error once stop is closed.
func (n *Node) Open(stop <-chan struct{}, snapshot bool, open func(prometheus.Registerer, *Attachment) error) error {
	if !n.c.Enabled() {
		return open(n.reg, nil)
	}
	interval := startOverInterval
	for {
		begun := time.Now()
		reg := &registerer{Registerer: n.reg}
		err := n.try(stop, snapshot, reg, open)
		reason := startOverReason(err)
		if reason == "" {
			return err
		}
		reg.unregisterAll()
		n.restarts[reason]++
		n.holed = isHole(reason)
		n.logger.Warn("MaaS: following begins anew", "reason", reason, "err", err)
		if n.holed {
			n.logger.Warn("MaaS: this standby does not lead before it has followed without a hole; if no leader is left, start without the flag to take over what there is", "flag", "--"+prefix+"follow")
		}
		if time.Since(begun) > maxStartOverInterval {
			interval = startOverInterval
		}
		select {
		case <-stop:
			return tail.ErrStopped
		case <-time.After(interval):
		}
		interval = min(2*interval, maxStartOverInterval)
	}
}

func (n *Node) try(stop <-chan struct{}, snapshot bool, reg prometheus.Registerer, open func(prometheus.Registerer, *Attachment) error) error {
	a, err := n.attach(stop, snapshot, reg)
	if err != nil {
		return fmt.Errorf("remote memory (--%surl) is not usable: %w", prefix, err)
	}
	for reason, count := range n.restarts {
		a.memory.Metrics().Restarts.WithLabelValues(reason).Add(float64(count))
	}
	if err := open(reg, a); err != nil {
		n.detach((*Attachment).Detach)
		return err
	}
	n.opened.Store(true)
	return nil
}

// startOverReason is the reason why following begins anew after an error; empty where it does not.
func startOverReason(err error) string {
	var log *tail.StartOver
	var head interface{ StartOver() string }
	switch {
	case errors.As(err, &log):
		return log.Reason
	case errors.As(err, &head):
		return head.StartOver()
	}
	return ""
}

// isHole says whether the log itself makes following begin anew, for every follower alike. If the leader was gone,
// a standby that has followed nothing yet would restore such a log, and lead with the hole.
func isHole(reason string) bool {
	switch reason {
	case "series", "records", "damaged", "cut":
		return true
	}
	return false
}

// Return brings back, in the background, the blocks that remote memory has and the data directory lacks; the
// database is open by now.
func (n *Node) Return(db blocks.Database) {
	if a := n.attached.Load(); a != nil {
		a.Return(db)
	}
}

// HandOver ends the lead before the slow part of a shutdown: it copies the end of the log and frees the name.
// Rules and scrapes have ended; samples that others send are refused from now on (Receiver). Without standbys, and
// before Open has returned, it does nothing.
func (n *Node) HandOver() {
	if n.c.Follows() && n.opened.Load() && n.attached.Load() != nil {
		begun := time.Now()
		n.logger.Info("MaaS: handing over", "owner", n.c.Owner)
		n.receiving.drain(drainTime)
		n.detach((*Attachment).handOver)
		n.logger.Info("MaaS: handed over", "owner", n.c.Owner, "duration", time.Since(begun))
	}
}

// Close copies the end of the log and ends the session. A second Close does nothing, nor does one before Open has
// returned, which closes what it could not open.
func (n *Node) Close() {
	if n.opened.Load() {
		n.detach((*Attachment).Detach)
	}
}

func (n *Node) detach(how func(*Attachment)) {
	if a := n.attached.Swap(nil); a != nil {
		how(a)
	}
}

// Leads says whether alerts may be sent: see memory.Manager.Leads.
func (n *Node) Leads(ctx context.Context) bool {
	if a := n.attached.Load(); a != nil {
		return a.memory.Leads(ctx)
	}
	return !n.c.Follows() // Else it has handed over.
}

// NotReady says what a standby waits for; empty in a leader.
func (n *Node) NotReady() string {
	a := n.attached.Load()
	if a == nil || !a.memory.Following() {
		return ""
	}
	behind := a.memory.Metrics().Behind()
	switch {
	case a.memory.LeaderHasNoLog():
		return "following; the leader has no log in remote memory"
	case math.IsInf(behind, 1):
		return "following, catching up"
	}
	return fmt.Sprintf("following, %.0f s behind", behind)
}

// registerer remembers what was registered, so that everything can be registered again.
type registerer struct {
	prometheus.Registerer
	collectors []prometheus.Collector
}

// Register implements prometheus.Registerer.
func (r *registerer) Register(c prometheus.Collector) error {
	err := r.Registerer.Register(c)
	if err == nil {
		r.collectors = append(r.collectors, c)
	}
	return err
}

// MustRegister implements prometheus.Registerer.
func (r *registerer) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

func (r *registerer) unregisterAll() {
	for _, c := range r.collectors {
		r.Unregister(c)
	}
	r.collectors = nil
}
