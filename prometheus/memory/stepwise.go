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
	// stepTimeout bounds each request of the client, and each while the server's memory is listed.
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
// as long as it must. The client's List has one for each page.
type stepwise struct{ *maas.Client }

// ReadV is the client's ReadV.
func (s stepwise) ReadV(ctx context.Context, ranges []maas.Range) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return s.Client.ReadV(ctx, ranges)
}

// List lists all that the server holds of this owner while others write to it and free it. An allocation that is
// not found is no failure of the server; the caller lists again.
func (m *Manager) List(ctx context.Context) (l *remotefile.Listing, err error) {
	err = m.list(ctx, func(mem stepwise) error {
		l, err = remotefile.List(ctx, mem, m.o.Owner)
		return err
	})
	return l, err
}

func (m *Manager) list(ctx context.Context, call func(stepwise) error) error {
	c := m.client.Load()
	if c == nil || !m.up.Load() {
		return m.downErr()
	}
	failed, begun := m.o.Metrics.Errors.WithLabelValues("list"), time.Now()
	err := call(stepwise{c})
	m.o.Metrics.Durations.WithLabelValues("list").Observe(time.Since(begun).Seconds())
	if err != nil && ctx.Err() == nil && !maas.IsNotFound(err) {
		failed.Inc()
		m.judge(err, errors.Is(err, context.DeadlineExceeded))
	}
	return err
}
