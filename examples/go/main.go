// SPDX-License-Identifier: Apache-2.0

// Counter tells how often it was run. The count lies in another host's memory: it outlives the
// program, and goes on from any other host.
//
//	go run . -url http://localhost:3000
//
// The name of its session is exclusive, so that two counters never count at the same time. To begin
// again: maas free --owner example-counter. For a server that asks for a token, maas token new
// example-counter makes one that may use the name. How to build for RDMA: go doc
// github.com/maas-memory/maas/go.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log"

	maas "github.com/maas-memory/maas/go"
)

const name = "example-counter"

func main() {
	o := maas.Options{Name: name, Exclusive: true}
	flag.StringVar(&o.URL, "url", "http://localhost:3000", "the maasd server")
	flag.StringVar(&o.CAFile, "ca-file", "", "with https: the server's CA, if this machine does not know it")
	flag.StringVar(&o.TokenFile, "token-file", "", "if the server asks for a token")
	flag.Parse()
	n, err := count(context.Background(), o)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("run %d\n", n)
}

// count adds one to the number in memory and returns it.
func count(ctx context.Context, o maas.Options) (n uint64, err error) {
	client, err := maas.Open(ctx, o)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()

	id, err := find(ctx, client)
	if err != nil {
		return 0, err
	}
	var number [8]byte
	if err := client.Read(ctx, id, 0, number[:]); err != nil {
		return 0, err
	}
	n = binary.LittleEndian.Uint64(number[:]) + 1
	binary.LittleEndian.PutUint64(number[:], n)
	return n, client.Write(ctx, id, 0, number[:])
}

// find returns the memory of earlier runs, which their owner's name leads to, or borrows new, which
// is zero.
func find(ctx context.Context, client *maas.Client) (id string, err error) {
	lent, err := client.List(ctx, name)
	if err == nil && len(lent) == 0 {
		lent, err = client.Allocate(ctx, maas.AllocateOptions{Size: 8, Owner: name})
	}
	if err != nil {
		return "", err
	}
	return lent[0].ID, nil
}
