// SPDX-License-Identifier: Apache-2.0

//go:build maasrdma && cgo

package maas

// #include <stdint.h>
import "C"

import "runtime/cgo"

//export maasGoSessionLost
func maasGoSessionLost(arg C.uintptr_t, errno C.int) {
	cgo.Handle(arg).Value().(*rdmaPlane).sessionLost(int(-errno))
}
