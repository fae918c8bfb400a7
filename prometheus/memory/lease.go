// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"time"

	maas "github.com/maas-memory/maas/go"
)

// A name that was made up lives in its data directory alone. Where that does not last, as in a container
// without a volume, nobody will ever name its memory again, and each start would leave some behind. So this
// memory carries a lease, which is renewed for as long as its Prometheus lives.
//
// The lease is each allocation's own. One that is tied to the session would end with it, within seconds of a
// cut network, and at every restart. What it costs is one request for each allocation in ten minutes: seven a
// second for 16 GiB in extents of 4 MiB, some 0.1 % of a core.
const (
	// defaultLease leaves a Prometheus an hour to be started again, whenever it renewed last.
	defaultLease = 70 * time.Minute
	// renewals are how many fit into a lease.
	renewals = 7
)

// leases are of the goroutine that watches the server.
type leases struct {
	renewed time.Time // When all were, at the latest; zero: not yet.
	any     bool      // There are some.
}

// lifetime gives an allocation of a made-up owner its lease.
func (m *Manager) lifetime(o *maas.AllocateOptions) {
	if m.madeUp {
		o.Lifetime, o.TTL = "ttl", m.o.Lease
	}
}

// renewLeases renews all leases of this owner when it is time to: also of those that were allocated when its
// name was made up, and is given now. A failure opens the breaker or is tried again soon, as any other.
func (m *Manager) renewLeases() {
	if !m.up.Load() || since(m.leases.renewed) < m.o.Lease/renewals {
		return
	}
	begun := time.Now()
	var lent []maas.Allocation
	if err := m.Read("list", writeTimeout, func(ctx context.Context, c *Conn) (err error) {
		lent, err = c.List(ctx, m.o.Owner)
		return err
	}); err != nil {
		return
	}
	m.leases.any = m.madeUp
	for i := range lent {
		if lent[i].Lifetime != "ttl" {
			continue
		}
		m.leases.any = true
		if err := m.Write("renew", 0, func(ctx context.Context, c *Conn) error {
			err := c.Renew(ctx, lent[i].ID)
			if maas.IsNotFound(err) {
				return nil // It was freed since it was listed.
			}
			return err
		}); err != nil {
			return
		}
	}
	m.leases.renewed = begun
}

// lapsed says whether some of the memory is gone for want of renewals: what nobody reads would not be missed.
func (m *Manager) lapsed() bool { return m.leases.any && since(m.leases.renewed) >= m.o.Lease }

// since counts the time for which this machine slept, too, which the monotonic clock leaves out.
func since(t time.Time) time.Duration {
	return max(time.Since(t), time.Now().Round(0).Sub(t.Round(0)))
}
