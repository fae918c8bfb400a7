// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

func TestPiece__becomes_smaller_until_it_arrives_and_grows_where_there_is_time(t *testing.T) {
	var p piece
	require.Equal(t, MaxPiece, p.size())
	p.learn(900_000, Patience(900_000), true)
	require.Equal(t, 450_000, p.size())
	p.learn(100_000, Patience(100_000), true)
	require.Equal(t, 50_000, p.size(), "what is not through will be sent again")
	p.learn(4<<20, Patience(4<<20), true)
	require.Equal(t, 25_000, p.size(), "a large record says less")
	p.learn(100, Patience(100), true)
	require.Equal(t, 25_000, p.size(), "it was not the link")
	for range 10 {
		p.learn(minPiece, Patience(minPiece), true)
	}
	require.Equal(t, minPiece, p.size())

	p.learn(minPiece, Patience(minPiece)/2, false)
	require.Equal(t, minPiece, p.size(), "twice as much may take too long")
	p.learn(minPiece/2, 0, false)
	require.Equal(t, minPiece, p.size(), "nothing is known of more")
	p.learn(0, Patience(0), true)
	require.Equal(t, minPiece, p.size(), "it carried nothing")
	for range 10 {
		p.learn(p.size()-1000, time.Millisecond, false) // Whole chunks.
	}
	require.Equal(t, MaxPiece, p.size())
}

// A second is the time between two looks at the log.
func TestPiece__takes_half_a_second_at_most(t *testing.T) {
	for _, rate := range []int{300_000, 500_000, 1_000_000} {
		var p piece
		took := func() time.Duration { return time.Duration(p.size()) * time.Second / time.Duration(rate) }
		for range 10 {
			p.learn(p.size(), took(), took() > Patience(p.size()))
		}
		require.LessOrEqual(t, took(), slowPiece, "%d bytes a second", rate)
		require.Greater(t, took(), slowPiece/4, "%d bytes a second", rate)
	}
	var p piece
	p.learn(4<<20, time.Second, false)
	require.Equal(t, MaxPiece, p.size(), "a large record says less")
	for range 10 {
		p.learn(p.size(), time.Second, false)
	}
	require.Equal(t, slowFloor, p.size(), "however small a piece is, it takes a second")
}

func TestWrite__learns_only_from_what_arrived_or_took_too_long(t *testing.T) {
	m := open(t, maastest.Start(t).URL)
	err := m.Write("any", MaxPiece, func(context.Context, *Conn) error { return context.DeadlineExceeded })
	require.Error(t, err)
	require.Equal(t, MaxPiece, m.PieceSize(), "it failed at once")
	err = m.Write("any", MaxPiece, func(ctx context.Context, _ *Conn) error {
		<-ctx.Done()
		return ctx.Err()
	})
	require.Error(t, err)
	require.Equal(t, MaxPiece/2, m.PieceSize())
}
