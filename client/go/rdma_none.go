// SPDX-License-Identifier: Apache-2.0

//go:build !maasrdma || !cgo

package maas

import (
	"context"
	"errors"
)

// openRDMA in a program that was built without it: auto is content with HTTP.
func openRDMA(_ context.Context, _ *wire, o *Options) (plane, session, error) {
	if o.Transport == TransportAuto {
		return nil, nil, nil
	}
	return nil, nil, errors.New("this program was built without RDMA; build it with cgo, libmaas and -tags maasrdma, or use the transport http")
}
