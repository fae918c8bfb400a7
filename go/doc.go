// SPDX-License-Identifier: Apache-2.0

// Package maas borrows memory from a maasd server.
//
//	client, err := maas.Open(ctx, maas.Options{URL: "http://memory:3000", Name: "me", Exclusive: true})
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//
//	lent, err := client.Allocate(ctx, maas.AllocateOptions{Size: 1 << 20, Owner: "me"})
//	if maas.IsExhausted(err) {
//		// The pool is full; nothing that is lent is ever evicted to make room.
//	}
//	err = client.Write(ctx, lent[0].ID, 0, []byte("hello"))
//	err = client.Read(ctx, lent[0].ID, 0, buf)
//	freed, unknown, err := client.Free(ctx, lent[0].ID)
//
// To import the package, use its path. As long as no proxy serves the module, say in go.mod where a
// checkout of the source is:
//
//	require github.com/maas-memory/maas/go v0.0.0
//
//	replace github.com/maas-memory/maas/go => ../maas/go
//
// examples/go in the source is a whole program with such a go.mod.
//
// # Threads
//
// Any goroutine may use a [Client] at any time. Calls that run at the same time share eight
// connections; leases are renewed on others, so that data cannot hold them up. Close may be called
// at any time, too: calls under way end with [ErrClosed].
//
// # Tokens
//
// A server with --auth-file asks who sends a request: Options.TokenFile, or Options.Token over HTTP,
// has the token that `maas token new` makes. The token goes to the server of Options.URL alone; over
// http:// whoever can read the network can read the token.
//
// # TLS
//
// With https:// the server has to prove that it is the one of the URL, and nothing switches that off.
// Options.CAFile, CertFile, KeyFile and ServerName work over both transports, and a certificate is
// renewed by replacing its file. Options.TLS is for what they cannot say, over HTTP alone.
//
// # Memory and who owns it
//
// An allocation lives until it is freed, whether or not its client lives; AllocateOptions.Lifetime
// "ttl", whose lease [Client.Renew] starts anew, and "session" end it earlier. Give your allocations
// an owner: [Client.List] finds them again after a restart. Health.ArenaID identifies the life of the
// bytes: when it has changed, all bytes are gone.
//
// # Sessions
//
// With Options.Name, Open opens a session, a lease on a name that is renewed in the background. The
// lease is counted from the moment a renewal was sent, and while this machine sleeps, too (on Linux),
// so that the client never relies on it for longer than the server does. A lost session stays lost:
// [Client.Lost] is closed. If the session was exclusive, everything that would change memory fails
// from then on with [ErrSessionLost], calls under way included: they hand no further byte to the network, but
// what is on its way may still arrive. Reading still works. Open a new client to go on.
//
// # Errors and retries
//
// A refusal by the server is an [Error], which errors.As finds. When a connection breaks, its request is
// sent again, at most twice and within its timeout; each request may safely be done twice (allocations
// carry a request id). If a Free was sent again, what its first try freed counts as unknown; over RDMA,
// where libmaas sends it, what is unknown then counts as freed.
// No request ever moves to another transport.
//
// After an error a read may have filled a part of its buffers, and a write may have written all,
// nothing or a part. A write that timed out may still be on its way to the server and arrive
// a little later: write the same bytes again before you rely on them, and do not write others in
// their place before the server has answered again.
//
// # Transports
//
// Over HTTP the package is plain Go and builds with CGO_ENABLED=0. RDMA is libmaas, through cgo:
//
//	CGO_CFLAGS="$(pkg-config --cflags libmaas)" CGO_LDFLAGS="$(pkg-config --libs libmaas)" \
//		go build -tags maasrdma
//
// Then allocations and data go through libmaas, and the bytes travel straight from and to the server's
// memory; the other calls are HTTP. The goroutines that wait for transfers occupy one thread of the
// operating system. There is always a session, without a name if the options have none, and no
// data without it. A context's deadline holds, but up to a second late if the network is silent.
// A context that is cancelled before its deadline only takes effect before and after a transfer, because
// the device may still write to the buffer. Set deadlines well above what a transfer takes: a transfer
// that is late costs the connection.
package maas
