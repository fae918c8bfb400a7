// SPDX-License-Identifier: Apache-2.0

//go:build !maasrdma || !cgo

package maas

import "context"

const rdmaBuilt = false

// openRDMA in a program that was built without it is only asked for auto, which comes to HTTP.
func openRDMA(context.Context, *wire, *Options) (plane, session, error) { return nil, nil, nil }
