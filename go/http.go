// SPDX-License-Identifier: Apache-2.0

// The transport HTTP: allocations and bytes.

package maas

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

// httpPlane carries allocations and bytes over HTTP.
type httpPlane struct {
	sender  *sender
	session string // id, empty: none

	// batch is how many ids or ranges go into one request. It becomes less than maxBatch when
	// the server refuses a request because of its --max-body-size.
	batch atomic.Int64
}

func newHTTPPlane(w *sender, session string) *httpPlane {
	p := &httpPlane{sender: w, session: session}
	p.batch.Store(maxBatch)
	return p
}

func (*httpPlane) transport() string { return TransportHTTP }

func (*httpPlane) register([]byte) error { return nil }

func (*httpPlane) unregister([]byte) error { return nil }

func (*httpPlane) close() error { return nil }

// allocateRequest is the body of POST /allocate.
type allocateRequest struct {
	Size      int64  `json:"size_bytes"`
	Count     int    `json:"count"`
	Session   string `json:"session,omitempty"`
	Access    string `json:"access,omitempty"`
	Owner     string `json:"owner,omitempty"`
	Lifetime  string `json:"lifetime"`
	TTL       int64  `json:"ttl_seconds,omitempty"`
	RequestID string `json:"request_id"`
}

func (p *httpPlane) allocate(ctx context.Context, o *AllocateOptions) ([]Allocation, error) {
	request := allocateRequest{
		Size: o.Size, Count: o.Count, Owner: o.Owner, Lifetime: o.Lifetime,
		TTL: int64(o.TTL / time.Second), RequestID: o.RequestID,
	}
	if o.Lifetime == "session" {
		request.Session = p.session
		request.Access = "none" // no keys: the bytes come over HTTP
	}
	text, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Allocations atMost[allocationAnswer] `json:"allocations"`
		Owner       string                   `json:"owner"` // where none was asked for, and there is one
	}
	answer.Allocations.max = o.Count
	err = p.sender.do(ctx, &call{
		method: "POST", path: "/allocate", body: newBody(text, nil), answer: &answer, follow: true, changes: true,
		maxAnswer: maxSmallAnswer + int64(o.Count)*entryBytes,
	})
	if err != nil {
		return nil, err
	}
	if len(answer.Allocations.items) != o.Count {
		return nil, fmt.Errorf("%s: the server's answer has %d allocations where %d were asked for; is it maasd?",
			p.sender.text, len(answer.Allocations.items), o.Count)
	}
	owner := o.Owner
	if owner == "" && namePattern.MatchString(answer.Owner) {
		owner = answer.Owner
	}
	lent := make([]Allocation, o.Count)
	for i := range answer.Allocations.items {
		lent[i], err = answer.Allocations.items[i].allocation()
		if err == nil && lent[i].Size != o.Size {
			err = fmt.Errorf("the server lent %d bytes where %d were asked for; is it maasd?", lent[i].Size, o.Size)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.sender.text, err)
		}
		lent[i].Owner, lent[i].Lifetime = owner, o.Lifetime
	}
	return lent, nil
}

func (p *httpPlane) free(ctx context.Context, ids []string) (freed int, unknown []string, err error) {
	for len(ids) > 0 {
		batch := ids[:min(len(ids), p.maxBatch())]
		n, missing, err := p.freeBatch(ctx, batch)
		if p.shrink(err, len(batch)) {
			continue
		}
		if err != nil {
			return freed, unknown, err
		}
		freed += n
		unknown = append(unknown, missing...)
		ids = ids[len(batch):]
	}
	return freed, unknown, nil
}

func (p *httpPlane) freeBatch(ctx context.Context, ids []string) (freed int, unknown []string, err error) {
	text, err := json.Marshal(map[string][]string{"ids": ids})
	if err != nil {
		return 0, nil, err
	}
	var answer struct {
		Freed   int            `json:"freed"`
		Unknown atMost[string] `json:"unknown"`
	}
	answer.Unknown.max = len(ids)
	err = p.sender.do(ctx, &call{
		method: "POST", path: "/free", body: newBody(text, nil), answer: &answer, changes: true,
		maxAnswer: maxSmallAnswer + 2*int64(len(text)), // unknown ids come back, escaped
	})
	if err != nil {
		return 0, nil, err
	}
	unknown, ok := asked(ids, answer.Unknown.items)
	if !ok || answer.Freed != len(ids)-len(unknown) {
		return 0, nil, fmt.Errorf("%s: the server's answer has ids that were not asked about; is it maasd?", p.sender.text)
	}
	return answer.Freed, unknown, nil
}

// asked returns those of ids that the server names; the server names them in the same order. ok is
// false if it names another.
func asked(ids, named []string) (found []string, ok bool) {
	for _, id := range ids {
		// JSON replaces invalid UTF-8 by U+FFFD.
		if len(found) < len(named) && string([]rune(id)) == named[len(found)] {
			found = append(found, id)
		}
	}
	return found, len(found) == len(named)
}

func (p *httpPlane) readV(ctx context.Context, ranges []Range) error {
	return p.each(ctx, ranges, p.readBatch)
}

func (p *httpPlane) writeV(ctx context.Context, ranges []Range) error {
	return p.each(ctx, ranges, p.writeBatch)
}

func (p *httpPlane) each(ctx context.Context, ranges []Range, do func(context.Context, []Range) error) error {
	for batch := range batches(ranges, p.maxBatch) {
		err := do(ctx, batch)
		if p.shrink(err, len(batch)) {
			err = p.each(ctx, batch, do)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *httpPlane) maxBatch() int { return int(p.batch.Load()) }

// shrink learns from a request that was refused because its JSON was too long; such a request did
// nothing. It tells whether to try with less.
func (p *httpPlane) shrink(err error, had int) bool {
	var refusal *Error
	if had < 2 || !errors.As(err, &refusal) || refusal.Code != "body_too_large" {
		return false
	}
	for old := p.batch.Load(); old > int64(had/2); old = p.batch.Load() {
		if p.batch.CompareAndSwap(old, int64(had/2)) {
			break
		}
	}
	return true
}

func (p *httpPlane) readBatch(ctx context.Context, ranges []Range) error {
	if len(ranges) == 1 {
		span := spanOf(&ranges[0])
		return p.sender.do(ctx, &call{
			method: "GET", path: "/allocate/" + ranges[0].ID + "/data", into: ranges,
			byteRange: "bytes=" + span, wantRange: "bytes " + span + "/",
		})
	}
	return p.sender.do(ctx, &call{
		method: "POST", path: "/data/read", body: newBody(appendRanges(nil, ranges), nil), into: ranges,
	})
}

func (p *httpPlane) writeBatch(ctx context.Context, ranges []Range) error {
	if len(ranges) == 1 {
		return p.sender.do(ctx, &call{
			method: "PUT", path: "/allocate/" + ranges[0].ID + "/data", body: newBody(nil, ranges), bytes: true, changes: true,
			contentRange: "bytes " + spanOf(&ranges[0]) + "/*",
		})
	}
	// The length of the JSON, the JSON, the bytes.
	head := appendRanges(make([]byte, 4, 4+len(ranges)*rangeBytes), ranges)
	binary.LittleEndian.PutUint32(head, uint32(len(head)-4))
	return p.sender.do(ctx, &call{
		method: "POST", path: "/data/write", body: newBody(head, ranges), bytes: true, changes: true,
	})
}

func spanOf(r *Range) string {
	return strconv.FormatInt(r.Offset, 10) + "-" + strconv.FormatInt(r.Offset+int64(len(r.Data))-1, 10)
}

const rangeBytes = 100 // of JSON for one range, about

// appendRanges writes the JSON of /data/read and /data/write; ids need no escapes.
func appendRanges(text []byte, ranges []Range) []byte {
	text = append(text, `{"ranges":[`...)
	for i := range ranges {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, `{"id":"`...)
		text = append(text, ranges[i].ID...)
		text = append(text, `","offset":`...)
		text = strconv.AppendInt(text, ranges[i].Offset, 10)
		text = append(text, `,"length":`...)
		text = strconv.AppendInt(text, int64(len(ranges[i].Data)), 10)
		text = append(text, '}')
	}
	return append(text, "]}"...)
}
