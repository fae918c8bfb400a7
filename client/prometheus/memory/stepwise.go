// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"time"

	"maas/client/go"
)

// stepTimeout bounds one request while the server is looked at.
const stepTimeout = 5 * time.Second

// stepwise gives every request that looks at the server its own time: a server that answers each of them in
// time may hold as much as it will.
type stepwise struct{ *maas.Client }

// List is the client's.
func (s stepwise) List(ctx context.Context, owner string) ([]maas.Allocation, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return s.Client.List(ctx, owner)
}

// ReadV is the client's.
func (s stepwise) ReadV(ctx context.Context, ranges []maas.Range) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return s.Client.ReadV(ctx, ranges)
}
