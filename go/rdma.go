// SPDX-License-Identifier: Apache-2.0

//go:build maasrdma && cgo

// The transport RDMA: a handle of libmaas, through cgo.

package maas

// #cgo LDFLAGS: -lmaas
// #include "rdma_glue.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"runtime/cgo"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	rdmaBuilt    = true
	maxSubmitted = 256 // transfers under way at once

	libraryTimeout = 24 * time.Hour // the most that the library takes
)

// rdmaPlane carries allocations and bytes through a handle of libmaas. The handle's session is the
// client's.
type rdmaPlane struct {
	sender  *sender
	timeout time.Duration
	id      string // the session's

	living context.Context // ends when the session is lost
	lose   context.CancelCauseFunc
	arg    cgo.Handle // of this plane, for the library's callback

	// turns holds a token for each transfer that may be under way; polling holds one for the
	// goroutine that takes the completions of all.
	turns   chan struct{}
	polling chan struct{}

	mu      sync.RWMutex   // every call into the library holds it for reading
	handle  *C.struct_maas // guarded by mu; nil: none, or closed
	closed  bool           // guarded by mu
	buffers map[*byte]buffer
	bufMu   sync.Mutex // guards buffers; taken under mu
}

// openRDMA returns no plane if "auto" has chosen HTTP. The library may take Options.Timeout to
// open; a caller whose context ends earlier does not wait for that.
func openRDMA(ctx context.Context, w *sender, o *Options) (plane, session, error) {
	started := time.Now()
	opened := make(chan error, 1)
	p := newRDMAPlane(w, o.Timeout)
	go func() { opened <- p.open(o) }()
	var err error
	select {
	case err = <-opened:
	case <-ctx.Done():
		go func() {
			<-opened
			_ = p.close()
		}()
		return nil, nil, w.explainEnd(ctx, started)
	}
	if err == nil && C.maas_transport(p.handle) == C.MAAS_TRANSPORT_RDMA {
		return p, p, nil
	}
	return nil, nil, errors.Join(err, p.close())
}

func newRDMAPlane(w *sender, timeout time.Duration) *rdmaPlane {
	p := &rdmaPlane{
		sender:  w,
		timeout: timeout,
		turns:   make(chan struct{}, maxSubmitted),
		polling: make(chan struct{}, 1),
		buffers: map[*byte]buffer{},
	}
	p.living, p.lose = context.WithCancelCause(context.Background())
	p.arg = cgo.NewHandle(p)
	return p
}

// open blocks for as long as Options.Timeout allows the library.
func (p *rdmaPlane) open(o *Options) error {
	var text cText
	defer text.free()
	options := C.struct_maas_options{
		size:               C.sizeof_struct_maas_options,
		url:                text.add(p.sender.text), // in one of the forms that the library takes,
		transport:          C.MAAS_TRANSPORT_AUTO,
		timeout_ms:         milliseconds(o.Timeout),
		connect_timeout_ms: milliseconds(min(o.Timeout, connectTimeout)),
		max_submitted:      maxSubmitted,
		session_name:       text.add(o.Name),
		session_exclusive:  C.bool(o.Exclusive),
		token_file:         text.orNone(o.TokenFile),
		ca_file:            text.orNone(o.CAFile),
		cert_file:          text.orNone(o.CertFile),
		key_file:           text.orNone(o.KeyFile),
		server_name:        text.orNone(o.ServerName),
	}
	if o.Transport == TransportRDMA {
		options.transport = C.MAAS_TRANSPORT_RDMA
	}
	if o.Name != "" {
		options.ttl_seconds = C.uint32_t(o.SessionTTL / time.Second)
	}
	var handle *C.struct_maas
	var words cError
	if r := C.glue_open(&options, C.uintptr_t(p.arg), &handle, words.at()); r < 0 {
		err := p.fail(r, words.String())
		if o.Name != "" {
			err = fmt.Errorf("session %q: %w", o.Name, err)
		}
		return err
	}
	p.handle = handle
	var s C.struct_maas_session
	if r := C.glue_session_get(handle, &s); r < 0 {
		return p.fail(r, "the session")
	}
	p.id = C.GoString(&s.id[0])
	return nil
}

func (*rdmaPlane) transport() string { return TransportRDMA }

// close waits for calls under way. Afterwards the library touches nobody's memory.
func (p *rdmaPlane) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	C.maas_close(p.handle) // allows NULL
	p.handle = nil
	p.arg.Delete()
	for _, b := range p.buffers {
		b.pin.Unpin()
	}
	p.buffers = nil
	return nil
}

// enter keeps the handle open until leave.
func (p *rdmaPlane) enter() error {
	p.mu.RLock()
	if p.handle == nil {
		p.mu.RUnlock()
		return ErrClosed
	}
	return nil
}

func (p *rdmaPlane) leave() { p.mu.RUnlock() }

// ---- as a session

func (p *rdmaPlane) name() string { return p.id }

func (p *rdmaPlane) lost() context.Context { return p.living }

// end leaves it to close to end the session: the connection has to end before the session.
func (*rdmaPlane) end() error { return nil }

func (p *rdmaPlane) lease() (time.Time, bool) {
	if p.enter() != nil {
		return time.Time{}, false
	}
	defer p.leave()
	return p.leaseNow()
}

// leaseNow is called between enter and leave, or while opening.
func (p *rdmaPlane) leaseNow() (time.Time, bool) {
	if p.handle == nil {
		return time.Time{}, false
	}
	var s C.struct_maas_session
	now := time.Now() // before the library looks at its clock, so that the lease is not overrated
	if C.glue_session_get(p.handle, &s) < 0 || s.state != C.MAAS_SESSION_LIVE {
		return now, false
	}
	return now.Add(time.Duration(s.lease_ms) * time.Millisecond), p.living.Err() == nil
}

func (p *rdmaPlane) sessionLost(errno int) {
	p.lose(fmt.Errorf("the server: %v: %w", syscall.Errno(errno), ErrSessionLost))
}

// ---- errors

// cError is a buffer for a sentence of the library.
type cError [C.MAAS_ERROR_BYTES]C.char

func (e *cError) at() *C.char { return &e[0] }

func (e *cError) String() string { return C.GoString(&e[0]) }

// refusals turn the library's errors back into the server's answers.
var refusals = map[syscall.Errno]Error{
	syscall.EACCES:    {Status: 401, Code: "unauthenticated"},
	syscall.EDQUOT:    {Status: 507, Code: "grants_exhausted"},
	syscall.EEXIST:    {Status: 409, Code: "name_taken"},
	syscall.EFBIG:     {Status: 413, Code: "too_large"},
	syscall.EMSGSIZE:  {Status: 413, Code: "body_too_large"},
	syscall.ENOBUFS:   {Status: 503, Code: "busy"},
	syscall.ENOENT:    {Status: 404, Code: "not_found"},
	syscall.ENOSPC:    {Status: 507, Code: "pool_exhausted"},
	syscall.ENOTUNIQ:  {Status: 409, Code: "request_id_reused"},
	syscall.ENODATA:   {Status: 409, Code: "answer_forgotten"},
	syscall.ENOSR:     {Status: 507, Code: "quota_exhausted"},
	syscall.EPERM:     {Status: 403, Code: "forbidden"},
	syscall.ERANGE:    {Status: 416, Code: "bad_range"},
	syscall.ESHUTDOWN: {Status: 503, Code: "stopping"},
	syscall.EUSERS:    {Status: 429, Code: "too_many"},
}

// fail makes an error from a result of the library and its sentence.
func (p *rdmaPlane) fail(r C.int, words string) error {
	errno := syscall.Errno(-r)
	if refusal, ok := refusals[errno]; ok {
		refusal.Message = words
		return fmt.Errorf("%s: %w", p.sender.text, &refusal)
	}
	switch errno {
	case syscall.EKEYREVOKED:
		if _, ok := p.leaseNow(); !ok {
			return fmt.Errorf("%s: %w", p.sender.text, ErrSessionLost)
		}
	case syscall.ETIMEDOUT:
		return fmt.Errorf("%s did not answer in time (%s): %w; see whether maasd and the network are well, or allow more time",
			p.sender.text, words, context.DeadlineExceeded)
	case syscall.ECONNREFUSED:
		return fmt.Errorf("%s: %s: %w; start maasd there or correct the URL", p.sender.text, words, errno)
	}
	return fmt.Errorf("%s: %s: %w", p.sender.text, words, errno)
}

// failHere is fail for calls in which the server has no part.
func failHere(r C.int, words string) error {
	return fmt.Errorf("%s: %w", words, syscall.Errno(-r))
}

func milliseconds(d time.Duration) C.uint32_t {
	return C.uint32_t(max(time.Millisecond, min(d, libraryTimeout)) / time.Millisecond)
}

// cText is strings for the library, which are freed together.
type cText []*C.char

// add returns NULL for an empty string.
func (t *cText) add(s string) *C.char {
	if s == "" {
		return nil
	}
	return t.orNone(s)
}

// orNone returns "" for an empty string: none, whatever the environment says.
func (t *cText) orNone(s string) *C.char {
	text := C.CString(s)
	*t = append(*t, text)
	return text
}

func (t cText) free() {
	for _, text := range t {
		C.free(unsafe.Pointer(text))
	}
}
