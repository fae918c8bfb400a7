// SPDX-License-Identifier: Apache-2.0

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

// startOverInterval lies between two beginnings of a standby; where one follows soon upon the other, for the log has
// something that cannot be followed, the double of the one before, up to maxStartOverInterval.
const (
	startOverInterval    = time.Second
	maxStartOverInterval = 15 * time.Second
)

// Node is one Prometheus of its owner's name: the one that leads, or a standby.
type Node struct {
	c      *Config
	dir    string
	logger *slog.Logger
	reg    prometheus.Registerer

	restarts map[string]int // Of the following, by reason.
	holed    bool           // What was followed last is not what its leader wrote.
	attached atomic.Pointer[Attachment]
	opened   atomic.Bool // Open is through: who closes it is not the one that opens it.

	// Exit ends the process; for tests to replace.
	Exit func(error)
}

// New makes a node of what the flags say; nothing happens before Open.
func New(c *Config, dir string, logger *slog.Logger, reg prometheus.Registerer) *Node {
	return &Node{c: c, dir: dir, logger: logger, reg: reg, restarts: map[string]int{}, Exit: func(error) { os.Exit(1) }}
}

// Open connects the data directory and lets open open the database, with metrics of its own; without a URL alone. A
// standby's open returns when the leader is gone. Where what it follows is cut under it, all begins anew: open is
// called again. Once stop is closed, it ends with an error.
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
			n.logger.Warn("MaaS: this standby does not lead before it has followed without a hole; where no leader is left to go on, take over with what there is by a start without the flag", "flag", "--"+prefix+"follow")
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
		n.detach()
		return err
	}
	n.opened.Store(true)
	return nil
}

// startOverReason is why following begins anew after an error; empty where it does not.
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

// isHole says whether following begins anew because of what the log is, whoever follows it. A take-over by a restore,
// which is what a standby does that has followed nothing yet when the leader is gone, would lead with it.
func isHole(reason string) bool {
	switch reason {
	case "series", "records", "damaged", "cut":
		return true
	}
	return false
}

// Return brings back the blocks that remote memory has and the data directory has not, in the background, now that
// the database is open.
func (n *Node) Return(db blocks.Database) {
	if a := n.attached.Load(); a != nil {
		a.Return(db)
	}
}

// HandOver ends the lead, before what takes long of a shutdown: the last of the log is copied, and the name is free.
// Nothing is appended any more. It does nothing where there can be no standby, nor before Open has returned.
func (n *Node) HandOver() {
	if n.c.Follow && n.opened.Load() && n.attached.Load() != nil {
		begun := time.Now()
		n.logger.Info("MaaS: handing over", "owner", n.c.Owner)
		n.Close()
		n.logger.Info("MaaS: handed over", "owner", n.c.Owner, "duration", time.Since(begun))
	}
}

// Close copies what the log got last and ends the session. A second time it does nothing, nor before Open has returned,
// which closes what it could not open.
func (n *Node) Close() {
	if n.opened.Load() {
		n.detach()
	}
}

func (n *Node) detach() {
	if a := n.attached.Swap(nil); a != nil {
		a.Detach()
	}
}

// Leads says whether alerts may be sent: see memory.Manager.Leads.
func (n *Node) Leads(ctx context.Context) bool {
	if a := n.attached.Load(); a != nil {
		return a.memory.Leads(ctx)
	}
	return !n.c.Follow // Handed over.
}

// NotReady says what a standby waits for; empty for all others.
func (n *Node) NotReady() string {
	a := n.attached.Load()
	if a == nil || !a.memory.Following() {
		return ""
	}
	behind := a.memory.Metrics().Behind()
	if math.IsInf(behind, 1) {
		return "following, catching up"
	}
	return fmt.Sprintf("following, %.0f s behind", behind)
}

// registerer remembers what was registered, so that all of it can be registered again.
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
