// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"maas/client/prometheus/maastest"
	"maas/client/prometheus/record"
)

// A block counts once for a chunk, wherever in it the chunk lies.
func TestReader__hits_and_misses_are_blocks(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	m := open(t, server.URL, t.TempDir(), true)
	s, err := NewRemote(m, RemoteOptions{})
	require.NoError(t, err)
	var refs []chunks.ChunkDiskMapperRef
	for range 200 { // Of 1,000 bytes and some: every 16th or so lies in two blocks.
		c, err := chunkenc.FromData(chunkenc.EncXOR, make([]byte, 1000))
		require.NoError(t, err)
		refs = append(refs, s.WriteChunk(1, 0, 0, c, false, nil))
	}
	maastest.Eventually(t, "all is remote", s.IsQueueEmpty)
	hits, misses := m.Metrics().CacheHits, m.Metrics().CacheMisses
	for i := len(refs) - 1; i >= 0; i-- { // Backwards: nothing is read ahead.
		_, first := refs[i].Unpack()
		last := first + record.EncodedSize(1000) - 1
		blocks := last/blockSize - first/blockSize + 1
		hadHits, hadMisses := testutil.ToFloat64(hits), testutil.ToFloat64(misses)
		_, err := s.Chunk(refs[i])
		require.NoError(t, err)
		missed := testutil.ToFloat64(misses) - hadMisses
		require.Equal(t, float64(blocks), testutil.ToFloat64(hits)-hadHits+missed, "chunk %d", i)
	}
	blocks := (s.files[0].file.Len() + blockSize - 1) / blockSize
	require.Equal(t, float64(blocks), testutil.ToFloat64(misses))
	require.Equal(t, float64(s.files[0].file.Len()), testutil.ToFloat64(m.Metrics().BytesRead.WithLabelValues("chunks_head")))
	require.NoError(t, s.Close())
	require.NoError(t, m.Close())
}
