// SPDX-License-Identifier: Apache-2.0

// Leases of memory whose owner's name was made up. Such a name is known to its data directory alone. If the
// directory does not last, as in a container without a volume, nobody will ever name the memory again, and each
// start would leave some behind. So this memory carries a lease, which is renewed for as long as its Prometheus
// lives.
//
// Each allocation has a lease of its own. A lease tied to the session would end with the session, within seconds
// of a cut network, and at every restart. The cost is one request for each allocation in ten minutes: seven a
// second for 16 GiB in extents of 4 MiB, some 0.1 % of a core.

package memory

import (
	"context"
	"time"

	maas "github.com/maas-memory/maas/go"
)

const (
	// defaultLease leaves at least an hour in which Prometheus can be started again, whenever it renewed last.
	defaultLease = 70 * time.Minute
	// renewals is how often memory is renewed during a lease.
	renewals = 7
)

// leases belongs to the goroutine that watches the server.
type leases struct {
	renewed time.Time // When the last renewal of all began; zero: there was none.
	any     bool      // Some allocations have leases.
}

// lifetime gives an allocation of a made-up owner its lease.
func (m *Manager) lifetime(o *maas.AllocateOptions) {
	if m.madeUp {
		o.Lifetime, o.TTL = "ttl", m.o.Lease
	}
}

// renewLeases renews all leases of this owner when that is due, also those from a time when the name was made up,
// if a name is given now. A failure opens the breaker, or is tried again soon, like any other.
func (m *Manager) renewLeases(ctx context.Context) {
	if !m.up.Load() || since(m.leases.renewed) < m.o.Lease/renewals {
		return
	}
	begun := time.Now()
	var lent []maas.Allocation
	if err := m.list(ctx, func(mem stepwise) (err error) {
		lent, err = mem.List(ctx, m.o.Owner)
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
		if ctx.Err() != nil {
			return
		}
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

// lapsed says whether memory may be gone because it was not renewed. Otherwise nobody would miss memory that
// nobody reads.
func (m *Manager) lapsed() bool { return m.leases.any && since(m.leases.renewed) >= m.o.Lease }

// since counts the time during which this machine slept, too; the monotonic clock leaves that out.
func since(t time.Time) time.Duration {
	return max(time.Since(t), time.Now().Round(0).Sub(t.Round(0)))
}
