// SPDX-License-Identifier: Apache-2.0

package headchunk

import (
	"bytes"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// opaque is a chunk of any bytes.
type opaque struct {
	chunkenc.Chunk
	b   []byte
	enc chunkenc.Encoding
}

func (o opaque) Bytes() []byte               { return o.b }
func (o opaque) Encoding() chunkenc.Encoding { return o.enc }

func TestAppend__writes_what_prometheus_writes(t *testing.T) {
	dir := t.TempDir()
	m := maastest.Must(chunks.NewChunkDiskMapper(nil, dir, nil, chunks.MinWriteBufferSize, 0))(t)
	header := FileHeader()
	want := header[:]
	rnd := rand.New(rand.NewSource(1))
	for i, size := range []int{3, 127, 128, 300, 16383, 16384, 5 << 20} {
		r := Record{Series: chunks.HeadSeriesRef(1 + rnd.Uint64()>>1), Mint: -rnd.Int63(), Maxt: rnd.Int63(), Encoding: chunkenc.EncHistogram, OutOfOrder: i%2 == 1, Data: make([]byte, size)}
		rnd.Read(r.Data)
		ref := m.WriteChunk(r.Series, r.Mint, r.Maxt, opaque{b: r.Data, enc: r.Encoding}, r.OutOfOrder, func(err error) { require.NoError(t, err) })
		_, off := ref.Unpack()
		require.Equal(t, len(want), off)
		want = Append(want, r)
		require.Equal(t, len(want)-off, EncodedSize(size))

		got, n, err := Parse(want[off:])
		require.NoError(t, err)
		require.Equal(t, len(want)-off, n)
		require.Equal(t, r, got)
	}
	require.NoError(t, m.Close())
	b := maastest.Must(os.ReadFile(filepath.Join(dir, "000001")))(t)
	require.True(t, bytes.HasPrefix(b, want))
	n, records := Prefix(b[FileHeaderSize:])
	require.Equal(t, len(want)-FileHeaderSize, n)
	require.Equal(t, 7, records)
}

func TestPrefix__ends_at_the_first_record_that_is_not_whole(t *testing.T) {
	one := Append(nil, Record{Series: 1, Mint: 1, Maxt: 2, Encoding: chunkenc.EncXOR, Data: []byte("0123456789")})
	for cut := range len(one) {
		torn := slices.Concat(one, one[:cut])
		for _, b := range [][]byte{torn, append(torn, make([]byte, 100)...)} { // A file is made long with zeros.
			n, records := Prefix(b)
			require.Equal(t, [2]int{len(one), 1}, [2]int{n, records})
		}
	}
}

func TestParse__takes_the_smallest_chunk_that_does_not_panic(t *testing.T) {
	for e := range chunkenc.Encoding(16) {
		empty, err := chunkenc.NewEmptyChunk(e)
		smallest := 2 // Of an encoding that is not known.
		if err == nil {
			smallest = len(empty.Bytes())
		}
		_, _, err = Parse(Append(nil, Record{Series: 1, Encoding: e, Data: make([]byte, smallest-1)}))
		require.ErrorIs(t, err, ErrChecksum, e)
		r, _, err := Parse(Append(nil, Record{Series: 1, Encoding: e, Data: bytes.Repeat([]byte{0x3f}, smallest)}))
		require.NoError(t, err, e)
		if c, err := chunkenc.FromData(e, r.Data); err == nil {
			it := c.Iterator(nil)
			for it.Next() != chunkenc.ValNone {
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Append(nil, Record{Series: 1, Mint: 1, Maxt: 2, Encoding: chunkenc.EncXOR, Data: []byte("0123456789")}))
	f.Add(make([]byte, PrefixSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, err := Parse(b)
		if err != nil {
			return
		}
		if n > len(b) || !bytes.Equal(Append(nil, r)[:8], b[:8]) {
			t.Fatalf("record of %d bytes in %d", n, len(b))
		}
	})
}
