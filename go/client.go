// SPDX-License-Identifier: Apache-2.0

// The client: opening, closing, its session, and registered buffers.

package maas

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// endTimeout bounds how long Close waits for a server that does not answer; the lease ends anyway.
const endTimeout = 2 * time.Second

// plane carries allocations and their bytes. Ranges are valid and hold at least one byte.
type plane interface {
	transport() string
	allocate(ctx context.Context, o *AllocateOptions) ([]Allocation, error)
	free(ctx context.Context, ids []string) (freed int, unknown []string, err error)
	readV(ctx context.Context, ranges []Range) error
	writeV(ctx context.Context, ranges []Range) error
	register(buf []byte) error
	unregister(buf []byte) error
	close() error
}

// session is the client's session at the server.
type session interface {
	name() string
	// lease returns the end of the lease, and whether the session lives.
	lease() (until time.Time, ok bool)
	// lost is a context that ends when the session does; ErrSessionLost is its cause, or under
	// it.
	lost() context.Context
	// end ends the session at the server. Afterwards no goroutine of the session is left.
	end() error
}

// Client is a connection to a maasd server. Any goroutine may use it at any time.
type Client struct {
	options Options
	sender  *sender
	plane   plane
	session session // nil: none
	bootID  string

	slabSizes []int64

	alive   context.Context // ends with ErrClosed as its cause
	endLife context.CancelCauseFunc
	closed  sync.Once
	closing error

	lost chan struct{} // closed when the session is lost; nil without one
}

// Open connects to the server: it checks the server's health and opens the session, if the options
// name one.
func Open(ctx context.Context, o Options) (*Client, error) {
	to, err := o.check()
	if err != nil {
		return nil, fmt.Errorf("maas: %w", err)
	}
	sender, err := newSender(to, &o)
	if err != nil {
		return nil, fmt.Errorf("maas: %w", err)
	}
	c := &Client{options: o, sender: sender}
	c.alive, c.endLife = context.WithCancelCause(context.Background())
	if err := c.open(ctx); err != nil {
		c.endLife(ErrClosed)
		c.sender.close()
		return nil, fmt.Errorf("maas: open: %w", err)
	}
	return c, nil
}

func (c *Client) open(ctx context.Context) error {
	health, err := c.health(ctx)
	if err != nil {
		return err
	}
	c.bootID, c.slabSizes = health.BootID, health.SlabSizes
	if c.options.Transport != TransportHTTP {
		if err := c.openRDMA(ctx, health); err != nil {
			return err
		}
	}
	if c.plane == nil {
		if err := c.openHTTP(ctx); err != nil {
			return err
		}
	}
	if c.options.Exclusive {
		c.sender.holds = c.holds
	}
	if c.session != nil {
		c.lost = make(chan struct{})
		context.AfterFunc(c.session.lost(), func() { close(c.lost) })
	}
	return nil
}

func (c *Client) openHTTP(ctx context.Context) error {
	id := ""
	if c.options.Name != "" {
		s, err := openSession(ctx, c.sender, &c.options)
		if err != nil {
			return fmt.Errorf("session %q: %w", c.options.Name, err)
		}
		c.session = s
		id = s.name()
	}
	c.plane = newHTTPPlane(c.sender, id)
	return nil
}

// openRDMA leaves the plane nil if "auto" has chosen HTTP.
func (c *Client) openRDMA(ctx context.Context, health Health) error {
	required := c.options.Transport == TransportRDMA
	if health.RDMA.State != "active" {
		if required {
			return fmt.Errorf("%s: the server has no RDMA (its state there is %q); start maasd with --rdma=required to see why, or use the transport http",
				c.sender.text, health.RDMA.State)
		}
		return nil
	}
	plane, session, err := openRDMA(ctx, c.sender, &c.options)
	if err != nil {
		return err
	}
	if plane == nil {
		return nil
	}
	c.plane = plane
	c.session = session
	return nil
}

// Close ends the session, which frees the allocations of lifetime "session", and every goroutine of
// the client. Calls under way end with ErrClosed. A second Close does nothing.
func (c *Client) Close() error {
	c.closed.Do(func() {
		c.endLife(ErrClosed)
		var errs []error
		if c.session != nil {
			errs = append(errs, c.session.end())
		}
		errs = append(errs, c.plane.close())
		c.sender.close()
		if err := errors.Join(errs...); err != nil {
			c.closing = fmt.Errorf("maas: close: %w", err)
		}
	})
	return c.closing
}

// Transport is the transport of the bytes: "http" or "rdma". It never changes.
func (c *Client) Transport() string { return c.plane.transport() }

// Session is the id of the client's session; empty if there is none.
func (c *Client) Session() string {
	if c.session == nil {
		return ""
	}
	return c.session.name()
}

// Lease returns when the session ends if no further renewal reaches the server, on the monotonic
// clock; if the machine sleeps, that is earlier than was said. ok is false if there is no session, and
// once it is lost or ended.
func (c *Client) Lease() (until time.Time, ok bool) {
	if c.session == nil || c.alive.Err() != nil {
		return time.Time{}, false
	}
	return c.session.lease()
}

// Lost is closed when the session is lost: its lease ended, or the server no longer knows it.
// Without a session it is nil. Close does not close it.
func (c *Client) Lost() <-chan struct{} { return c.lost }

// begin ties a call to the life of the client. If the call changes memory and the session is
// exclusive, it is also tied to the life of the session: a client that has lost its name writes
// nothing more.
func (c *Client) begin(ctx context.Context, changes bool) (context.Context, func(), error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stopAlive := context.AfterFunc(c.alive, func() { cancel(ErrClosed) })
	stopLost := func() bool { return true }
	if changes && c.options.Exclusive {
		lost := c.session.lost()
		stopLost = context.AfterFunc(lost, func() { cancel(context.Cause(lost)) })
		if err := c.holds(); err != nil {
			cancel(err)
		}
	}
	if c.alive.Err() != nil {
		cancel(ErrClosed)
	}
	done := func() {
		stopAlive()
		stopLost()
		cancel(nil)
	}
	if ctx.Err() != nil {
		err := context.Cause(ctx)
		done()
		return nil, nil, err
	}
	return ctx, done, nil
}

// holds tells whether an exclusive client still has its name, and otherwise why not. Whoever sends to the server
// asks this at the last moment: the end of a context is late after the machine slept or the process stood still.
func (c *Client) holds() error {
	if c.alive.Err() != nil {
		return ErrClosed
	}
	if _, ok := c.session.lease(); ok {
		return nil
	}
	if err := context.Cause(c.session.lost()); err != nil {
		return err
	}
	return fmt.Errorf("its lease lapsed: %w", ErrSessionLost)
}

// RegisterBuffer prepares memory for transfers without a copy. Over RDMA the memory is pinned once,
// for all transfers whose buffers lie in it; over HTTP the call does nothing. The memory has to
// stay mapped until UnregisterBuffer or Close; memory on Go's heap is kept alive until then. Ranges
// must not overlap.
func (c *Client) RegisterBuffer(buf []byte) error {
	if err := c.plane.register(buf); err != nil {
		return fmt.Errorf("maas: register a buffer of %d bytes: %w", len(buf), err)
	}
	return nil
}

// UnregisterBuffer takes exactly the slice that was registered. No transfer may be using it.
func (c *Client) UnregisterBuffer(buf []byte) error {
	if err := c.plane.unregister(buf); err != nil {
		return fmt.Errorf("maas: unregister a buffer of %d bytes: %w", len(buf), err)
	}
	return nil
}
