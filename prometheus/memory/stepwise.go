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

const (
	// stepTimeout bounds each request while the server's memory is listed.
	stepTimeout = 5 * time.Second
	// ReadTimeout bounds a request that nobody waits for.
	ReadTimeout = 10 * time.Second
	// firstStep is what the first of the calls of InSteps reads: over a link of 52 kB/s, it takes stepTimeout.
	firstStep = 256 << 10
)

// InSteps fills p with bytes from off on, by several calls of read, so that each can have a time limit of its own: over
// a slow link 4 MiB, an extent, would take longer than any. Where there is time for far more, the next step is larger.
func InSteps(p []byte, off int64, read func(p []byte, off int64) error) error {
	for step := firstStep; len(p) > 0; {
		n, begun := min(step, len(p)), time.Now()
		if err := read(p[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
		if time.Since(begun) < stepTimeout/8 {
			step *= 2
		}
	}
	return nil
}

// ReadFile fills p with the bytes of a file from off on, as Read does, in steps, until ctx ends.
func (m *Manager) ReadFile(ctx context.Context, op string, f *remotefile.File, p []byte, off int64) error {
	return InSteps(p, off, func(p []byte, off int64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return m.Read(op, ReadTimeout, func(ctx context.Context, c *Conn) error { return f.ReadAt(ctx, c, p, off) })
	})
}

// ReadFile is Manager.ReadFile without a breaker.
func ReadFile(ctx context.Context, mem remotefile.Memory, f *remotefile.File, p []byte, off int64) error {
	return InSteps(p, off, func(p []byte, off int64) error {
		ctx, cancel := context.WithTimeout(ctx, ReadTimeout)
		defer cancel()
		return f.ReadAt(ctx, mem, p, off)
	})
}

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
