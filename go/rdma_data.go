// SPDX-License-Identifier: Apache-2.0

//go:build maasrdma && cgo

// Transfers over RDMA, and registered buffers.

package maas

// #include "rdma_glue.h"
import "C"

import (
	"context"
	"errors"
	"runtime"
	"runtime/cgo"
	"time"
	"unsafe"
)

// op is a submitted transfer. ended is closed once the library has released its buffers.
type op struct {
	ended  chan struct{}
	status C.int
	words  string
}

func (p *rdmaPlane) readV(ctx context.Context, ranges []Range) error {
	return p.transfer(ctx, ranges, false)
}

func (p *rdmaPlane) writeV(ctx context.Context, ranges []Range) error {
	return p.transfer(ctx, ranges, true)
}

func (p *rdmaPlane) transfer(ctx context.Context, ranges []Range, write bool) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.leave()
	for batch := range batches(ranges, func() int { return maxBatch }) {
		if err := p.transferBatch(ctx, batch, write); err != nil {
			return err
		}
	}
	return nil
}

func (p *rdmaPlane) transferBatch(ctx context.Context, ranges []Range, write bool) error {
	select {
	case p.turns <- struct{}{}:
		defer func() { <-p.turns }()
	case <-ctx.Done():
		return p.sender.explainEnd(ctx, time.Now())
	}
	timeout := p.timeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	if ctx.Err() != nil || timeout <= 0 {
		<-ctx.Done()
		return p.sender.explainEnd(ctx, time.Now())
	}
	started := time.Now()
	o := &op{ended: make(chan struct{})}
	// The library holds the caller's memory from here until the operation has ended, even if
	// that is late.
	var pin runtime.Pinner
	defer pin.Unpin()
	if err := p.submit(o, &pin, ranges, timeout, write); err != nil {
		return err
	}
	if err := p.wait(o); err != nil {
		return err
	}
	if o.status == 0 {
		return nil
	}
	if ctx.Err() != nil {
		return p.sender.explainEnd(ctx, started)
	}
	return p.fail(o.status, o.words)
}

func (p *rdmaPlane) submit(o *op, pin *runtime.Pinner, ranges []Range, timeout time.Duration, write bool) error {
	list := newRangeList(ranges, pin)
	defer C.free(unsafe.Pointer(list))
	number := cgo.NewHandle(o)
	var words cError
	r := C.glue_submit(p.handle, list, C.uint32_t(len(ranges)), milliseconds(timeout),
		C.uintptr_t(number), C.bool(write), words.at())
	if r < 0 {
		number.Delete()
		return p.fail(r, words.String())
	}
	return nil
}

// newRangeList writes ranges in the library's form, followed by their ids.
func newRangeList(ranges []Range, pin *runtime.Pinner) *C.struct_maas_range {
	n := len(ranges)
	// Zeroed, because the garbage collector looks at pointers that are overwritten.
	block := C.calloc(C.size_t(n), C.sizeof_struct_maas_range+C.MAAS_ID_BYTES)
	list := unsafe.Slice((*C.struct_maas_range)(block), n)
	ids := unsafe.Slice((*byte)(unsafe.Add(block, n*C.sizeof_struct_maas_range)), n*C.MAAS_ID_BYTES)
	for i := range ranges {
		id := ids[i*C.MAAS_ID_BYTES : (i+1)*C.MAAS_ID_BYTES]
		copy(id[:C.MAAS_ID_BYTES-1], ranges[i].ID)
		data := unsafe.SliceData(ranges[i].Data)
		pin.Pin(data)
		list[i].id = (*C.char)(unsafe.Pointer(&id[0]))
		list[i].offset = C.uint64_t(ranges[i].Offset)
		list[i].buf = unsafe.Pointer(data)
		list[i].len = C.size_t(len(ranges[i].Data))
	}
	return (*C.struct_maas_range)(block)
}

// wait returns when the operation has ended. One of the waiting goroutines takes the completions of
// all, until its own is among them.
func (p *rdmaPlane) wait(o *op) error {
	select {
	case <-o.ended:
		return nil
	case p.polling <- struct{}{}:
	}
	defer func() { <-p.polling }()
	for {
		select {
		case <-o.ended:
			return nil
		default:
		}
		if err := p.poll(); err != nil {
			return err
		}
	}
}

func (p *rdmaPlane) poll() error {
	var ends [C.GLUE_ENDS]C.struct_glue_end
	var words cError
	n := C.glue_poll(p.handle, &ends[0], words.at())
	if n < 0 {
		return p.fail(n, words.String())
	}
	for i := range ends[:n] {
		number := cgo.Handle(ends[i].op)
		o := number.Value().(*op)
		number.Delete()
		o.status = ends[i].status
		if o.status != 0 {
			o.words = C.GoString(&ends[i].error[0])
		}
		close(o.ended)
	}
	return nil
}

// ---- buffers

type buffer struct {
	of  *C.struct_maas_buffer
	len int
	pin *runtime.Pinner
}

func (p *rdmaPlane) register(buf []byte) error {
	if len(buf) == 0 {
		return errors.New("it has no bytes")
	}
	if err := p.enter(); err != nil {
		return err
	}
	defer p.leave()
	p.bufMu.Lock()
	defer p.bufMu.Unlock()
	b := buffer{len: len(buf), pin: new(runtime.Pinner)}
	b.pin.Pin(&buf[0])
	var words cError
	r := C.glue_register(p.handle, unsafe.Pointer(&buf[0]), C.size_t(len(buf)), &b.of, words.at())
	if r < 0 {
		b.pin.Unpin()
		return failHere(r, words.String())
	}
	p.buffers[&buf[0]] = b
	return nil
}

func (p *rdmaPlane) unregister(buf []byte) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.leave()
	p.bufMu.Lock()
	defer p.bufMu.Unlock()
	b, ok := p.buffers[unsafe.SliceData(buf)]
	if !ok || b.len != len(buf) {
		return errors.New("it is not registered with this client")
	}
	var words cError
	if r := C.glue_unregister(p.handle, b.of, words.at()); r < 0 {
		return failHere(r, words.String())
	}
	b.pin.Unpin()
	delete(p.buffers, &buf[0])
	return nil
}
