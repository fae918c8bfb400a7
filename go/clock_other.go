// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package maas

import "time"

// sinceBoot is the monotonic clock: here, a lease counts as longer by the time that the machine slept.
func sinceBoot() time.Duration { return time.Since(started) }
