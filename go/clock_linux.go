// SPDX-License-Identifier: Apache-2.0

package maas

import (
	"syscall"
	"time"
	"unsafe"
)

const clockBoottime = 7 // CLOCK_BOOTTIME

// sinceBoot is a clock that never steps and goes on while the machine sleeps, as leases at a server do. The monotonic
// clock of package time stops then.
func sinceBoot() time.Duration {
	var now syscall.Timespec
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&now)), 0); errno != 0 {
		return time.Since(started) // Linux before 2.6.39, or a sandbox
	}
	return time.Duration(now.Nano())
}
