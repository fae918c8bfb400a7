// SPDX-License-Identifier: Apache-2.0

// Bodies of requests, which are read from the caller's memory, and JSON lists of bounded length.

package maas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

var errDetached = errors.New("the call has ended")

// body is the body of a request: a head, then the bytes of the ranges, read from where they lie.
//
// net/http may read the body of a request after the request has failed. Each read copies a piece
// under mu, so that after detach nobody touches the caller's memory any more.
type body struct {
	head   []byte
	ranges []Range
	size   int64
	holds  func() error // nil, or asked before each piece: an error ends the request

	mu       sync.Mutex
	detached bool // guarded by mu
}

func newBody(head []byte, ranges []Range) *body {
	return &body{head: head, ranges: ranges, size: int64(len(head)) + sumOf(ranges)}
}

func (b *body) detach() {
	b.mu.Lock()
	b.detached = true
	b.mu.Unlock()
}

// open reads the body from its beginning; it is called each time that a request is sent.
func (b *body) open() (io.ReadCloser, error) {
	return &bodyReader{body: b, next: -1}, nil
}

type bodyReader struct {
	body *body
	next int // index of the range that is being read; -1: the head
	at   int // how much of the range was read
}

func (r *bodyReader) Read(p []byte) (int, error) {
	b := r.body
	if b.holds != nil {
		if err := b.holds(); err != nil {
			return 0, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.detached {
		return 0, errDetached
	}
	done := 0
	for done < len(p) && r.next < len(b.ranges) {
		part := b.head
		if r.next >= 0 {
			part = b.ranges[r.next].Data
		}
		n := copy(p[done:], part[r.at:])
		done += n
		r.at += n
		if r.at == len(part) {
			r.next++
			r.at = 0
		}
	}
	if done == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return done, nil
}

func (*bodyReader) Close() error { return nil }

// atMost is a JSON list of limited length. Otherwise an answer of a few MB could fill the memory
// with a million empty elements.
type atMost[T any] struct {
	items []T
	max   int
}

func (l *atMost[T]) UnmarshalJSON(text []byte) error {
	l.items = nil
	decoder := json.NewDecoder(bytes.NewReader(text))
	if first, err := decoder.Token(); err != nil || first != json.Delim('[') {
		return errors.New("a list is missing")
	}
	for decoder.More() {
		if len(l.items) == l.max {
			return fmt.Errorf("a list of more than the %d that were asked for", l.max)
		}
		var item T
		if err := decoder.Decode(&item); err != nil {
			return err
		}
		l.items = append(l.items, item)
	}
	return nil
}

func sumOf(ranges []Range) int64 {
	var sum int64
	for i := range ranges {
		sum += int64(len(ranges[i].Data))
	}
	return sum
}
