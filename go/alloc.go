// SPDX-License-Identifier: Apache-2.0

// Allocations: borrowing, freeing, renewing, describing and listing them.

package maas

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"time"
)

const (
	maxBatch     = 10000   // allocations, ids or ranges in one request
	pageSize     = 1000    // allocations in one answer of List
	maxListed    = 4 << 20 // that List returns
	entryBytes   = 512     // of JSON for one allocation, with room to spare
	maxRequestID = 127
)

// AllocateOptions describe what to borrow.
type AllocateOptions struct {
	Size      int64         // bytes of each
	Count     int           // how many, at most 10,000, all or none; 0: one
	Owner     string        // a name to list them by
	Lifetime  string        // "delete" (until freed), "ttl" or "session"; empty: "ttl" with a TTL, else "delete"
	TTL       time.Duration // of lifetime "ttl", rounded up to whole seconds
	RequestID string        // the same id gives the same answer again; empty: a new one
}

// Allocation is memory that was lent.
type Allocation struct {
	ID         string
	Size       int64         // as asked for; this much can be read and written
	ActualSize int64         // taken from the pool
	Age        time.Duration // 0 in the answer that a RequestID gets once more
	Owner      string        // empty: none
	Lifetime   string
}

func (o *AllocateOptions) check() error {
	if o.Count == 0 {
		o.Count = 1
	}
	if o.RequestID == "" {
		o.RequestID = rand.Text()
	}
	if o.Lifetime == "" {
		o.Lifetime = "delete"
		if o.TTL != 0 {
			o.Lifetime = "ttl"
		}
	}
	o.TTL = wholeSeconds(o.TTL)
	switch {
	case o.Size <= 0:
		return errors.New("the size has to be at least 1")
	case o.Count < 0 || o.Count > maxBatch:
		return fmt.Errorf("a count of %d: one call allocates 1 to %d", o.Count, maxBatch)
	case o.Owner != "" && !namePattern.MatchString(o.Owner):
		return fmt.Errorf("owner %q: it must be 1 to 63 of A-Z a-z 0-9 . _ : / @ -", o.Owner)
	case o.Lifetime != "delete" && o.Lifetime != "ttl" && o.Lifetime != "session":
		return fmt.Errorf("lifetime %q: it must be delete, ttl or session", o.Lifetime)
	case (o.TTL != 0) != (o.Lifetime == "ttl"):
		return errors.New("lifetime ttl needs a TTL, and a TTL needs lifetime ttl")
	case o.TTL < 0 || o.TTL > maxTTL:
		return fmt.Errorf("TTL %v: it must be 1 s to %v", o.TTL, maxTTL)
	case len(o.RequestID) > maxRequestID:
		return fmt.Errorf("the request id has %d characters; at most %d are taken", len(o.RequestID), maxRequestID)
	}
	return nil
}

// Allocate borrows zeroed memory: all that was asked for, or nothing. After an error of the
// connection, or a timeout, the server may have lent the memory all the same: a call with the same
// RequestID returns it, and List finds it by its owner.
func (c *Client) Allocate(ctx context.Context, o AllocateOptions) ([]Allocation, error) {
	what := fmt.Sprintf("maas: allocate %d bytes", o.Size)
	if o.Count > 1 {
		what += fmt.Sprintf(" %d times", o.Count)
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if o.Lifetime == "session" && c.session == nil {
		return nil, fmt.Errorf("%s: lifetime session needs a session; open the client with a name", what)
	}
	ctx, done, err := c.begin(ctx, true)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer done()
	lent, err := c.plane.allocate(ctx, &o)
	if err != nil {
		// Only the server's refusal counts: where the lease ended here, the server may know the session still. And
		// Close ends a session that is not lost.
		var refusal *Error
		if s, ok := c.session.(*httpSession); ok && errors.As(err, &refusal) && errors.Is(refusal, ErrSessionLost) && c.alive.Err() == nil {
			s.unknown(err)
		}
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return lent, nil
}

// Free gives memory back. When it returns without an error, nobody reaches the bytes any more of what
// it freed. unknown are the ids that the server did not know, or that another request is just freeing; the
// bytes of those may be reached for another second. After an error, some allocations may have been
// freed.
func (c *Client) Free(ctx context.Context, ids ...string) (freed int, unknown []string, err error) {
	if len(ids) == 0 {
		return 0, nil, nil
	}
	ctx, done, err := c.begin(ctx, true)
	if err != nil {
		return 0, nil, fmt.Errorf("maas: free %d allocations: %w", len(ids), err)
	}
	defer done()
	freed, unknown, err = c.plane.free(ctx, ids)
	if err != nil {
		return freed, unknown, fmt.Errorf("maas: free %d allocations: %w", len(ids), err)
	}
	return freed, unknown, nil
}

// Renew starts the lease of an allocation (lifetime "ttl") anew. If the allocation is gone,
// IsNotFound says so of the error.
func (c *Client) Renew(ctx context.Context, id string) error {
	ctx, done, err := c.begin(ctx, true)
	if err != nil {
		return fmt.Errorf("maas: renew %s: %w", shorten(id, 40), err)
	}
	defer done()
	err = checkID(id)
	if err == nil {
		err = c.sender.do(ctx, &call{
			method: "POST", path: "/allocate/" + id + "/renew", body: newBody([]byte("{}"), nil), control: true, changes: true,
		})
	}
	if err != nil {
		return fmt.Errorf("maas: renew %s: %w", shorten(id, 40), err)
	}
	return nil
}

// allocationAnswer is the server's description of an allocation.
type allocationAnswer struct {
	ID         string  `json:"id"`
	Size       int64   `json:"size_bytes"`
	ActualSize int64   `json:"actual_size_bytes"`
	AgeSeconds int64   `json:"age_seconds"`
	Owner      *string `json:"owner"`
	Lifetime   string  `json:"lifetime"`
}

func (a *allocationAnswer) allocation() (Allocation, error) {
	if !answeredID.MatchString(a.ID) || a.Size <= 0 || a.ActualSize < a.Size ||
		a.AgeSeconds < 0 || a.AgeSeconds > math.MaxInt64/int64(time.Second) {
		return Allocation{}, errors.New("the server's answer describes no allocation; is it maasd?")
	}
	lent := Allocation{
		ID: a.ID, Size: a.Size, ActualSize: a.ActualSize,
		Age: time.Duration(a.AgeSeconds) * time.Second, Lifetime: a.Lifetime,
	}
	if a.Owner != nil {
		lent.Owner = *a.Owner
	}
	return lent, nil
}

// Describe asks the server for one allocation. If it is gone, IsNotFound says so of the error.
func (c *Client) Describe(ctx context.Context, id string) (Allocation, error) {
	ctx, done, err := c.begin(ctx, false)
	if err != nil {
		return Allocation{}, fmt.Errorf("maas: describe %s: %w", shorten(id, 40), err)
	}
	defer done()
	lent, err := c.describe(ctx, id)
	if err != nil {
		return Allocation{}, fmt.Errorf("maas: describe %s: %w", shorten(id, 40), err)
	}
	return lent, nil
}

func (c *Client) describe(ctx context.Context, id string) (Allocation, error) {
	if err := checkID(id); err != nil {
		return Allocation{}, err
	}
	var answer allocationAnswer
	err := c.sender.do(ctx, &call{
		method: "GET", path: "/allocate/" + id, answer: &answer, maxAnswer: maxSmallAnswer,
	})
	if err != nil {
		return Allocation{}, err
	}
	lent, err := answer.allocation()
	if err == nil && !strings.EqualFold(lent.ID, id) {
		err = fmt.Errorf("the server's answer is about another allocation, %s; is it maasd?", lent.ID)
	}
	return lent, err
}

// List returns the owner's allocations, or all if owner is empty, in the server's order. An
// allocation that is made or freed meanwhile may be missing or present.
func (c *Client) List(ctx context.Context, owner string) ([]Allocation, error) {
	what := "maas: list allocations"
	if owner != "" {
		what += " of " + shorten(owner, 64)
	}
	ctx, done, err := c.begin(ctx, false)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer done()
	var all []Allocation
	for after := ""; ; {
		page, next, err := c.listPage(ctx, owner, after)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		all = append(all, page...)
		switch {
		case next == "":
			return all, nil
		case len(page) == 0 || next == after || len(all) > maxListed:
			return nil, fmt.Errorf("%s: the server's pages do not end; is it maasd?", what)
		}
		after = next
	}
}

func (c *Client) listPage(ctx context.Context, owner, after string) (page []Allocation, next string, err error) {
	query := url.Values{"limit": {fmt.Sprint(pageSize)}}
	if owner != "" {
		query.Set("owner", owner)
	}
	if after != "" {
		query.Set("after", after)
	}
	var answer struct {
		Allocations atMost[allocationAnswer] `json:"allocations"`
		Next        *string                  `json:"next"`
	}
	answer.Allocations.max = pageSize
	err = c.sender.do(ctx, &call{
		method: "GET", path: "/allocations?" + query.Encode(), answer: &answer,
		maxAnswer: maxSmallAnswer + pageSize*entryBytes,
	})
	if err != nil {
		return nil, "", err
	}
	for i := range answer.Allocations.items {
		lent, err := answer.Allocations.items[i].allocation()
		if err != nil {
			return nil, "", err
		}
		page = append(page, lent)
	}
	if answer.Next != nil {
		next = *answer.Next
		if !answeredID.MatchString(next) {
			return nil, "", errors.New("the server's page has no sensible next one; is it maasd?")
		}
	}
	return page, next, nil
}

// checkID refuses what is not an id, in the server's place: it might not fit into a path.
func checkID(id string) error {
	if idPattern.MatchString(id) {
		return nil
	}
	return &Error{Status: 404, Code: "not_found", Message: fmt.Sprintf("%q is no id of an allocation", shorten(id, 40))}
}
