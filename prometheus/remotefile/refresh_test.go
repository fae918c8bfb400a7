// SPDX-License-Identifier: Apache-2.0

package remotefile

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
)

func TestRefresh__sees_what_was_appended_and_nothing_else(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	ctx := context.Background()
	c, err := maas.Open(ctx, maas.Options{URL: server.URL, Transport: "http"})
	require.NoError(t, err)
	defer c.Close()
	list := func() *File {
		l, err := List(ctx, c, "me")
		require.NoError(t, err)
		return l.Files[0]
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	w := New("me", 3, Name{Kind: WAL, Number: 7}, false)
	require.NoError(t, w.Append(ctx, c, data[:1000]))
	f := list()
	require.Equal(t, uint64(3), f.Epoch())

	w.SetMinTime(-5)
	require.NoError(t, w.Append(ctx, c, data[1000:3000]))
	require.Equal(t, int64(1000), f.Len())
	require.NoError(t, f.Refresh(ctx, c))
	require.Equal(t, int64(3000), f.Len())
	require.Equal(t, int64(-5), f.MinTime())
	require.False(t, f.Full())
	p := make([]byte, 2500)
	require.NoError(t, f.ReadAt(ctx, c, p, 500))
	require.True(t, bytes.Equal(data[500:3000], p))

	// Refresh sees that there is another extent, but not its bytes.
	require.NoError(t, w.Append(ctx, c, data[3000:]))
	require.NoError(t, f.Refresh(ctx, c))
	require.True(t, f.Full())
	require.Less(t, f.Len(), w.Len())
	f = list()
	require.Equal(t, w.Len(), f.Len())
	require.False(t, f.Full())

	require.NoError(t, w.Finish(ctx, c, false))
	require.NoError(t, f.Refresh(ctx, c))
	require.True(t, f.Full())
	last, _ := f.Last()
	require.True(t, last)

	// Refresh sees a cut within the extent; a file that loses the extent is seen by another listing.
	require.NoError(t, w.Cut(ctx, c, w.Len()-10, bytes.NewReader(data)))
	require.NoError(t, f.Refresh(ctx, c))
	require.Equal(t, w.Len(), f.Len())
	last, _ = f.Last()
	require.False(t, last, "it goes on")
	require.NoError(t, w.Cut(ctx, c, 2000, bytes.NewReader(data)))
	require.ErrorIs(t, f.Refresh(ctx, c), ErrFreed)
	f = list()
	require.Equal(t, int64(2000), f.Len())

	// The memory belongs to another file by now.
	other := f.extents[0]
	other.name.Number++
	require.NoError(t, c.WriteV(ctx, []maas.Range{other.nextSlot()}))
	require.ErrorIs(t, f.Refresh(ctx, c), ErrFreed)
	require.NoError(t, c.WriteV(ctx, []maas.Range{{ID: f.extents[0].id, Data: make([]byte, HeaderSize)}}))
	require.ErrorIs(t, f.Refresh(ctx, c), ErrFreed)

	server.Kill()
	err = f.Refresh(ctx, c)
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrFreed, "who knows")
}
