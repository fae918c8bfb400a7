// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// link reads want over a link of this many bytes a second, and remembers how long the longest request took.
type link struct {
	want     []byte
	rate     int
	requests int
	longest  time.Duration
}

func (l *link) read(p []byte, off int64) error {
	took := time.Duration(len(p)) * time.Second / time.Duration(l.rate)
	time.Sleep(took)
	l.longest = max(l.longest, took)
	l.requests++
	copy(p, l.want[off:])
	return nil
}

func TestInSteps__each_request_is_answered_in_time(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := bytes.Repeat([]byte("0123456789abcdef"), 4<<20/16)
		for rate, requests := range map[int]int{60_000: 16, 400_000: 16, 1 << 20: 6, 100 << 20: 5} {
			l := link{want: want, rate: rate}
			got := make([]byte, len(want)-100)
			require.NoError(t, InSteps(got, 100, l.read))
			require.Equal(t, want[100:], got)
			require.Less(t, l.longest, stepTimeout)
			require.Equal(t, requests, l.requests, "at %d bytes a second", rate)
		}
	})
}

func TestInSteps__ends_with_an_error(t *testing.T) {
	wrong, calls := errors.New("wrong"), 0
	require.ErrorIs(t, InSteps(make([]byte, 1<<20), 0, func([]byte, int64) error { calls++; return wrong }), wrong)
	require.Equal(t, 1, calls)
	require.NoError(t, InSteps(nil, 0, func([]byte, int64) error { return wrong }), "nothing to read")
}
