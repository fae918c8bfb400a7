// SPDX-License-Identifier: Apache-2.0

//go:build !maasrdma || !cgo

// A program without RDMA.

package maas

import "context"

const rdmaBuilt = false

// openRDMA is only called for "auto" here, which chooses HTTP.
func openRDMA(context.Context, *sender, *Options) (plane, session, error) { return nil, nil, nil }
