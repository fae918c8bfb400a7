// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"errors"
	"time"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// stepTimeout bounds one request while the server is looked at.
const stepTimeout = 5 * time.Second

// stepwise gives every request that looks at the server its own time: a server that answers each of them in
// time may hold as much as it will.
type stepwise struct{ *maas.Client }

// List is the client's.
func (s stepwise) List(ctx context.Context, owner string) ([]maas.Allocation, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return s.Client.List(ctx, owner)
}

// ReadV is the client's.
func (s stepwise) ReadV(ctx context.Context, ranges []maas.Range) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return s.Client.ReadV(ctx, ranges)
}

// List looks at all that the server holds of this owner, while others write to it and free of it: that
// something is not found says nothing of the server, but that one has to look again.
func (m *Manager) List(ctx context.Context) (*remotefile.Listing, error) {
	c := m.client.Load()
	if c == nil || !m.up.Load() {
		return nil, m.downErr()
	}
	l, err := remotefile.List(ctx, stepwise{c}, m.o.Owner)
	if err != nil && ctx.Err() == nil && !maas.IsNotFound(err) {
		m.o.Metrics.Errors.WithLabelValues("list").Inc()
		m.judge(err, errors.Is(err, context.DeadlineExceeded))
	}
	return l, err
}
