// SPDX-License-Identifier: Apache-2.0

//go:build maasrdma && cgo

// Allocations over RDMA. Requests to the server block in the library for up to Options.Timeout.
// They run in goroutines of their own; the caller leaves when its context ends, and close waits for
// the rest.

package maas

// #include "rdma_glue.h"
import "C"

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
	"unsafe"
)

type allocated struct {
	lent []Allocation
	err  error
}

func (p *rdmaPlane) allocate(ctx context.Context, o *AllocateOptions) ([]Allocation, error) {
	result := make(chan allocated, 1)
	request := *o
	if err := p.enter(); err != nil {
		return nil, err
	}
	go func() {
		defer p.leave()
		lent, err := p.allocateNow(&request)
		result <- allocated{lent, err}
	}()
	select {
	case r := <-result:
		return r.lent, r.err
	case <-ctx.Done():
		return nil, p.sender.explainEnd(ctx, time.Now())
	}
}

func (p *rdmaPlane) allocateNow(o *AllocateOptions) ([]Allocation, error) {
	var text cText
	defer text.free()
	options := C.struct_maas_alloc_options{
		size:        C.sizeof_struct_maas_alloc_options,
		lifetime:    lifetimes[o.Lifetime],
		ttl_seconds: C.uint32_t(o.TTL / time.Second),
		owner:       text.add(o.Owner),
		request_id:  text.add(o.RequestID),
	}
	lent := make([]C.struct_maas_allocation, o.Count)
	var words cError
	if r := C.glue_alloc(p.handle, C.uint64_t(o.Size), C.uint32_t(o.Count), &options, &lent[0], words.at()); r < 0 {
		return nil, p.fail(r, words.String())
	}
	all := make([]Allocation, o.Count)
	for i := range lent {
		all[i] = Allocation{
			ID:         C.GoString(&lent[i].id[0]),
			Size:       int64(lent[i].size_bytes),
			ActualSize: int64(lent[i].actual_size_bytes),
			Age:        time.Duration(lent[i].age_seconds) * time.Second,
			Owner:      C.GoString(&lent[i].owner[0]),
			Lifetime:   o.Lifetime,
		}
		if !idPattern.MatchString(all[i].ID) || all[i].Size != o.Size || all[i].ActualSize < o.Size {
			return nil, fmt.Errorf("%s: the server's answer describes no such allocation; is it maasd?", p.sender.text)
		}
	}
	return all, nil
}

var lifetimes = map[string]C.enum_maas_lifetime{
	"delete":  C.MAAS_LIFETIME_DELETE,
	"ttl":     C.MAAS_LIFETIME_TTL,
	"session": C.MAAS_LIFETIME_SESSION,
}

type freedResult struct {
	freed   int
	unknown []string
	err     error
}

func (p *rdmaPlane) free(ctx context.Context, ids []string) (int, []string, error) {
	result := make(chan freedResult, 1)
	left := append([]string(nil), ids...)
	if err := p.enter(); err != nil {
		return 0, nil, err
	}
	go func() {
		defer p.leave()
		var r freedResult
		for len(left) > 0 && r.err == nil && ctx.Err() == nil {
			if p.sender.holds != nil { // Not asked: it would enter a second time, behind a close that waits.
				if _, ok := p.leaseNow(); !ok {
					r.err = cmp.Or(context.Cause(p.living), ErrSessionLost)
					break
				}
			}
			n := min(len(left), maxBatch)
			freed, unknown, err := p.freeNow(left[:n])
			r = freedResult{r.freed + freed, append(r.unknown, unknown...), err}
			left = left[n:]
		}
		result <- r
	}()
	select {
	case r := <-result:
		if r.err == nil && len(left) > 0 {
			r.err = p.sender.explainEnd(ctx, time.Now())
		}
		return r.freed, r.unknown, r.err
	case <-ctx.Done():
		return 0, nil, p.sender.explainEnd(ctx, time.Now())
	}
}

// freeNow splits a request that is too long for the server.
func (p *rdmaPlane) freeNow(ids []string) (freed int, unknown []string, err error) {
	missing, freed, err := p.freeKnown(ids)
	var refusal *Error
	if len(ids) > 1 && errors.As(err, &refusal) && refusal.Code == "body_too_large" {
		freed, unknown, err = p.freeNow(ids[:len(ids)/2])
		if err != nil {
			return freed, unknown, err
		}
		n, more, err := p.freeNow(ids[len(ids)/2:])
		return freed + n, append(unknown, more...), err
	}
	for i := range missing {
		if missing[i] {
			unknown = append(unknown, ids[i])
		}
	}
	return freed, unknown, err
}

// freeKnown removes what is not an id; the library would refuse all ids for one such.
func (p *rdmaPlane) freeKnown(ids []string) (missing []C.bool, freed int, err error) {
	var text cText
	defer text.free()
	missing = make([]C.bool, len(ids))
	asked := make([]int, 0, len(ids))
	list := (**C.char)(C.calloc(C.size_t(len(ids)), C.size_t(unsafe.Sizeof((*C.char)(nil)))))
	defer C.free(unsafe.Pointer(list))
	pointers := unsafe.Slice(list, len(ids))
	for i, id := range ids {
		if missing[i] = C.bool(!idPattern.MatchString(id)); !missing[i] {
			pointers[len(asked)] = text.add(id)
			asked = append(asked, i)
		}
	}
	if len(asked) == 0 {
		return missing, 0, nil
	}
	flags := make([]C.bool, len(asked))
	var words cError
	r := C.glue_free(p.handle, list, C.uint32_t(len(asked)), &flags[0], words.at())
	if r < 0 {
		return nil, 0, p.fail(r, words.String())
	}
	for i, at := range asked {
		missing[at] = flags[i]
	}
	return missing, int(r), nil
}
