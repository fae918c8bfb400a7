// SPDX-License-Identifier: Apache-2.0

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

// body is what a request carries: a head of ours, then the bytes of the ranges where they lie.
//
// net/http may read a request's body after the request has failed. Each read copies a piece under
// mu, so that once detach has returned nobody touches the caller's memory any more.
type body struct {
	head   []byte
	ranges []Range
	size   int64

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

// open reads the body from its beginning, as often as a request is sent.
func (b *body) open() (io.ReadCloser, error) {
	return &bodyReader{body: b, next: -1}, nil
}

type bodyReader struct {
	body *body
	next int // range that is being read; -1: the head
	at   int // how much of it has been
}

func (r *bodyReader) Read(p []byte) (int, error) {
	b := r.body
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

// atMost is a list of JSON that an answer cannot fill memory with: a text of a few MB would give a
// million empty elements.
type atMost[T any] struct {
	items []T
	max   int
}

func (l *atMost[T]) UnmarshalJSON(text []byte) error {
	l.items = nil
	decoder := json.NewDecoder(bytes.NewReader(text))
	if first, err := decoder.Token(); err != nil || first != json.Delim('[') {
		return errors.New("no list where one was due")
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
