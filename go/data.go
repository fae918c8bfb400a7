// SPDX-License-Identifier: Apache-2.0

// Reading and writing the bytes of allocations.

package maas

import (
	"context"
	"fmt"
	"iter"
	"math"
)

// transferBytes is the most data in one request, so that each request can end within its timeout.
const transferBytes = 4 << 20

// Range is a part of an allocation: len(Data) bytes from Offset on.
type Range struct {
	ID     string
	Offset int64
	Data   []byte
}

// Read fills p with the allocation's bytes from off on.
func (c *Client) Read(ctx context.Context, id string, off int64, p []byte) error {
	return c.transfer(ctx, []Range{{ID: id, Offset: off, Data: p}}, false)
}

// Write copies p to the allocation at off. When it returns nil, every reader sees the bytes.
func (c *Client) Write(ctx context.Context, id string, off int64, p []byte) error {
	return c.transfer(ctx, []Range{{ID: id, Offset: off, Data: p}}, true)
}

// ReadV fills the Data of each range. Many ranges travel together, in as few requests as the server
// allows.
func (c *Client) ReadV(ctx context.Context, ranges []Range) error {
	return c.transfer(ctx, ranges, false)
}

// WriteV writes the ranges in order; they travel as those of ReadV. After an error, the first
// ranges may have been written.
func (c *Client) WriteV(ctx context.Context, ranges []Range) error {
	return c.transfer(ctx, ranges, true)
}

func (c *Client) transfer(ctx context.Context, ranges []Range, write bool) error {
	err := c.tryTransfer(ctx, ranges, write)
	if err != nil {
		return fmt.Errorf("maas: %s: %w", describeTransfer(ranges, write), err)
	}
	return nil
}

func (c *Client) tryTransfer(ctx context.Context, ranges []Range, write bool) error {
	if err := checkRanges(ranges); err != nil {
		return err
	}
	ctx, done, err := c.begin(ctx, write)
	if err != nil {
		return err
	}
	defer done()
	if write {
		return c.plane.writeV(ctx, ranges)
	}
	return c.plane.readV(ctx, ranges)
}

func describeTransfer(ranges []Range, write bool) string {
	verb := "read"
	if write {
		verb = "write"
	}
	if len(ranges) == 1 {
		r := &ranges[0]
		return fmt.Sprintf("%s %d bytes at %d of %s", verb, len(r.Data), r.Offset, shorten(r.ID, 40))
	}
	return fmt.Sprintf("%s %d ranges, %d bytes", verb, len(ranges), sumOf(ranges))
}

func checkRanges(ranges []Range) error {
	for i := range ranges {
		r := &ranges[i]
		if err := checkID(r.ID); err != nil {
			return err
		}
		if r.Offset < 0 || r.Offset > math.MaxInt64-int64(len(r.Data)) {
			return &Error{Status: 416, Code: "bad_range", Message: fmt.Sprintf("the offset %d lies outside of %s", r.Offset, r.ID)}
		}
	}
	return nil
}

// batches splits ranges, in order, into requests of at most maxRanges() ranges and transferBytes
// bytes. Empty ranges are left out, large ones are cut. maxRanges may shrink between two steps.
func batches(ranges []Range, maxRanges func() int) iter.Seq[[]Range] {
	return func(yield func([]Range) bool) {
		if fitsOne(ranges, maxRanges()) {
			yield(ranges)
			return
		}
		var batch []Range
		var bytes, cut int // cut: how many bytes of ranges[0] are in batches already
		for len(ranges) > 0 {
			data := ranges[0].Data[cut:]
			n := min(len(data), transferBytes-bytes)
			if n > 0 {
				batch = append(batch, Range{ranges[0].ID, ranges[0].Offset + int64(cut), data[:n:n]})
				bytes += n
			}
			cut += n
			if n == len(data) {
				ranges = ranges[1:]
				cut = 0
			}
			if len(batch) > 0 && (bytes == transferBytes || len(batch) >= maxRanges() || len(ranges) == 0) {
				if !yield(batch) {
					return
				}
				batch, bytes = batch[:0], 0
			}
		}
		if len(batch) > 0 {
			yield(batch)
		}
	}
}

// fitsOne tells whether the ranges fit into one request as they are.
func fitsOne(ranges []Range, maxRanges int) bool {
	if len(ranges) == 0 || len(ranges) > maxRanges || sumOf(ranges) > transferBytes {
		return false
	}
	for i := range ranges {
		if len(ranges[i].Data) == 0 {
			return false
		}
	}
	return true
}
