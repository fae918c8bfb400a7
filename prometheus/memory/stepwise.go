// SPDX-License-Identifier: Apache-2.0

// Reading a server's memory in many requests, each with a time limit of its own.

package memory

import (
	"context"
	"errors"
	"time"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// stepTimeout bounds each request while the server's memory is listed.
const stepTimeout = 5 * time.Second

// stepwise gives each request that reads the server's memory a time limit of its own, so that the total may take
// as long as it must.
type stepwise struct{ *maas.Client }

// List is the client's List.
func (s stepwise) List(ctx context.Context, owner string) ([]maas.Allocation, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return s.Client.List(ctx, owner)
}

// ReadV is the client's ReadV.
func (s stepwise) ReadV(ctx context.Context, ranges []maas.Range) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return s.Client.ReadV(ctx, ranges)
}

// List lists all that the server holds of this owner while others write to it and free it. An allocation that is
// not found is no failure of the server; the caller lists again.
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
