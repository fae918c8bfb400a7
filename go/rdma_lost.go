// SPDX-License-Identifier: Apache-2.0

//go:build maasrdma && cgo

// The callback of libmaas for a lost session. A file with exported functions may have
// nothing but declarations in its C preamble.

package maas

// #include <stdint.h>
import "C"

import "runtime/cgo"

//export maasGoSessionLost
func maasGoSessionLost(arg C.uintptr_t, errno C.int) {
	cgo.Handle(arg).Value().(*rdmaPlane).sessionLost(int(-errno))
}
