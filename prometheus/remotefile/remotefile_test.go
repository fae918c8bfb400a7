// SPDX-License-Identifier: Apache-2.0

package remotefile

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

var ctx = context.Background()

func client(t *testing.T, args ...string) *maas.Client {
	return shared.Client(t, maastest.Start(t, append([]string{"--max-pool-size", "64MiB"}, args...)...).URL)
}

// list is what a successor would find.
func list(t *testing.T, c *maas.Client) *Listing {
	return maastest.Must(List(ctx, c, "me"))(t)
}

// isEmpty wants the owner to have no memory.
func isEmpty(t *testing.T, c *maas.Client) {
	require.Empty(t, maastest.Must(c.List(ctx, "me"))(t), "memory that nobody knows of")
}

// only is the one file that a successor would find.
func only(t *testing.T, c *maas.Client) *File {
	l := list(t, c)
	require.Empty(t, l.Orphans)
	require.Len(t, l.Files, 1)
	return l.Files[0]
}

// written is a new file with these bytes.
func written(t *testing.T, c *maas.Client, epoch uint64, name Name, b []byte) *File {
	f := New("me", epoch, name, false)
	require.NoError(t, f.Append(ctx, c, b))
	return f
}

func random(seed int64, n int) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(seed)).Read(b)
	return b
}

func content(t *testing.T, mem Memory, f *File) []byte {
	b := make([]byte, f.Len())
	require.NoError(t, f.ReadAt(ctx, mem, b, 0))
	return b
}

// A Prometheus of another version finds this layout.
func TestHeader__golden_bytes(t *testing.T) {
	h := header{
		name: Name{Kind: Checkpoint, Number: 0x01020304, Part: 5}, flags: flagLast | flagFinal, index: 6, generation: 7,
		base: 0x1122334455, epoch: 9, length: 10, crc: 0xDEADBEEF, extra: 0x0E0A0B0C0D, chunks: 8,
	}
	var b [slotSize]byte
	h.encode(&b)
	require.Equal(t, "4d61536701040300"+"04030201"+"05000000"+"06000000"+"07000000"+"5544332211000000"+
		"0900000000000000"+"0a000000"+"efbeadde"+"0d0c0b0a"+"0e000000"+"08000000"+hex.EncodeToString(b[60:]), hex.EncodeToString(b[:]))
	require.Equal(t, h, maastest.Must(decodeSlot(b[:]))(t))
}

func TestHeader__hostile_bytes(t *testing.T) {
	good := header{name: Name{Kind: WAL, Number: 1}, generation: 4, length: 100}
	old := good
	old.generation, old.length = 3, 50
	var a, b [slotSize]byte
	good.encode(&a)
	old.encode(&b)
	slots := append(a[:], b[:]...)

	require.Equal(t, uint32(100), maastest.Must(decodeHeader(slots, 1000))(t).length)

	require.ErrorContains(t, maastest.Err(decodeHeader(slots, 99)), "100 bytes")

	for i := range slotSize { // Any torn byte makes the other slot count.
		torn := append([]byte(nil), slots...)
		torn[i] ^= 0x40
		require.Equal(t, uint32(50), maastest.Must(decodeHeader(torn, 1000))(t).length)
	}
	_, err := decodeHeader(make([]byte, HeaderSize), 1000)
	require.ErrorIs(t, err, errNoHeader)
}

func TestFile__is_found_again_as_it_was_appended(t *testing.T) {
	c := client(t)
	want := map[Name][]byte{}
	for i, size := range []int{1, 1000, mib/2 - HeaderSize, mib/2 - HeaderSize + 1, 5 * mib, 13*mib + 7} {
		name := Name{Kind: WAL, Number: uint32(i)}
		f := New("me", 3, name, i%2 == 0)
		b := random(int64(i), size)
		rnd := rand.New(rand.NewSource(int64(i)))
		for rest := b; len(rest) > 0; {
			n := min(1+rnd.Intn(3*mib), len(rest))
			require.NoError(t, f.Append(ctx, c, rest[:n]))
			rest = rest[n:]
		}
		require.Equal(t, b, content(t, c, f))
		want[name] = b
	}
	l := list(t, c)
	require.Empty(t, l.Orphans)
	require.Equal(t, uint64(3), l.Epoch)
	require.Len(t, l.Files, len(want))
	for _, f := range l.Files {
		require.Equal(t, want[f.Name()], content(t, c, f))
		require.Equal(t, f.Name().Number%2 == 0, f.Sorted())
		for _, p := range f.Pieces() {
			require.Equal(t, Checksum(want[f.Name()][p.Offset:p.Offset+p.Length]), p.CRC)
		}
		require.NoError(t, f.Append(ctx, c, []byte("more")))
		require.Equal(t, append(want[f.Name()], "more"...), content(t, c, f))
		require.NoError(t, f.Free(ctx, c))
		require.Zero(t, f.Len())
	}
	isEmpty(t, c)
}

func TestFile__finish_is_seen(t *testing.T) {
	c := client(t)
	empty := New("me", 1, Name{Kind: Checkpoint, Number: 1, Part: 1}, false)
	require.NoError(t, empty.Finish(ctx, c, true))
	f := written(t, c, 1, Name{Kind: Checkpoint, Number: 1}, []byte("x"))
	require.NoError(t, f.Finish(ctx, c, false))
	l := list(t, c)
	require.Len(t, l.Files, 2)
	for i, isFinal := range []bool{false, true} {
		last, final := l.Files[i].Last()
		require.Equal(t, []bool{true, isFinal}, []bool{last, final})
	}
}

// failing is a memory whose n-th write, or allocation, fails before or after it took effect.
type failing struct {
	Memory
	left  int
	after bool
}

var errInjected = errors.New("injected")

func (f *failing) fails() bool { f.left--; return f.left == 0 }

func (f *failing) Allocate(ctx context.Context, o maas.AllocateOptions) ([]maas.Allocation, error) {
	if !f.fails() {
		return f.Memory.Allocate(ctx, o)
	}
	if f.after {
		_, _ = f.Memory.Allocate(ctx, o)
	}
	return nil, errInjected
}

func (f *failing) WriteV(ctx context.Context, r []maas.Range) error {
	if f.fails() {
		if f.after {
			_ = f.Memory.WriteV(ctx, r)
		}
		return errInjected
	}
	return f.Memory.WriteV(ctx, r)
}

func TestFile__every_failed_call_leaves_a_prefix(t *testing.T) {
	c := client(t)
	b := random(1, 3*mib)
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			mem := &failing{Memory: c, left: n, after: after}
			f := New("me", 1, Name{Kind: WAL}, false)
			failed := false
			for off := 0; off < len(b); {
				size := min(700_000, len(b)-off)
				if err := f.Append(ctx, mem, b[off:off+size]); err != nil {
					require.ErrorIs(t, err, errInjected)
					require.Equal(t, int64(off), f.Len())
					failed = true
					for _, found := range list(t, c).Files {
						require.Equal(t, b[:found.Len()], content(t, c, found))
						require.GreaterOrEqual(t, found.Len(), f.Len())
					}
					continue
				}
				off += size
			}
			require.Equal(t, b, content(t, c, f))
			require.NoError(t, f.Free(ctx, c))
			isEmpty(t, c)
			if !failed {
				break
			}
		}
	}
}

// headless is a memory that writes the bytes of a file, and then fails.
type headless struct{ Memory }

func (h headless) WriteV(ctx context.Context, r []maas.Range) error {
	last := 0
	for i := range r {
		if r[i].Offset >= HeaderSize {
			last = i + 1
		}
	}
	return errors.Join(h.Memory.WriteV(ctx, r[:last]), errInjected)
}

// A reader of chunks wants whole ones.
func TestFile__nobody_finds_a_part_of_what_is_being_appended(t *testing.T) {
	c := client(t)
	b := random(1, 9*mib)
	f := written(t, c, 1, Name{Kind: Chunks}, b[:10])
	require.ErrorIs(t, f.Append(ctx, headless{c}, b[10:]), errInjected)
	found := list(t, c).Files[0]
	require.Equal(t, b[:10], content(t, c, found))
	require.NoError(t, f.Append(ctx, c, b[10:]))
	require.Equal(t, b, content(t, c, only(t, c)))
}

func TestFile__gaps_and_strangers_are_orphans(t *testing.T) {
	c := client(t)
	f := written(t, c, 2, Name{Kind: WAL}, random(1, 2*mib))
	written(t, c, 1, Name{Kind: WAL}, []byte("of an epoch before"))
	require.NoError(t, maastest.Err(c.Allocate(ctx, maas.AllocateOptions{Size: 64, Owner: "me"})))
	_, _, err := c.Free(ctx, f.extents[1].id)
	require.NoError(t, err)

	l := list(t, c)
	require.Len(t, l.Files, 1)
	require.Equal(t, int64(mib/2-HeaderSize), l.Files[0].Len())
	require.Len(t, l.Orphans, len(f.extents)-2+1+1)
}

func TestReadAt__outside_is_an_error(t *testing.T) {
	c := client(t)
	f := written(t, c, 1, Name{Kind: WAL}, []byte("abc"))
	require.ErrorIs(t, f.ReadAt(ctx, c, make([]byte, 2), 2), ErrOutOfRange)
	require.ErrorIs(t, f.ReadAt(ctx, c, make([]byte, 1), -1), ErrOutOfRange)
	require.NoError(t, f.ReadAt(ctx, c, nil, 3))
}

func TestFile__says_what_it_follows(t *testing.T) {
	c := client(t)
	first := New("me", 1, Name{Kind: Chunks, Number: 7}, true)
	next := New("me", 1, Name{Kind: Chunks, Number: 8}, true)
	far := New("me", 1, Name{Kind: Chunks, Number: 70}, true)
	far.After(8, mib)
	for _, f := range []*File{first, next, far} {
		require.NoError(t, f.Append(ctx, c, random(1, mib)))
	}
	l := list(t, c)
	require.Len(t, l.Files, 3)
	require.True(t, l.Files[1].Follows(l.Files[0]))
	require.True(t, l.Files[2].Follows(l.Files[1]))
	require.False(t, l.Files[2].Follows(l.Files[0]))
	require.NoError(t, next.Append(ctx, c, []byte("a byte more, or less")))
	require.False(t, far.Follows(next))
}

func TestFile__an_allocation_that_is_asked_for_again_is_the_same(t *testing.T) {
	c := client(t)
	mem := &failing{Memory: c, after: true} // The answers come too late.
	f := New("me", 1, Name{Kind: WAL}, false)
	for range 3 {
		mem.left = 1
		require.ErrorIs(t, f.Append(ctx, mem, []byte("abc")), errInjected)
	}
	require.NoError(t, f.Append(ctx, mem, random(1, mib)))
	require.Len(t, maastest.Must(c.List(ctx, "me"))(t), len(f.extents))
}

func TestList__what_is_too_large_to_be_an_extent_is_none(t *testing.T) {
	c := client(t, "--slab-sizes", "64KiB,8MiB")
	a := maastest.Must(c.Allocate(ctx, maas.AllocateOptions{Size: maxExtent + 1, Owner: "me"}))(t)
	h := header{name: Name{Kind: WAL}, generation: 1, length: maxExtent}
	var slot [slotSize]byte
	h.encode(&slot)
	require.NoError(t, c.WriteV(ctx, []maas.Range{{ID: a[0].ID, Data: slot[:]}}))
	l := list(t, c)
	require.Empty(t, l.Files)
	require.Equal(t, []string{a[0].ID}, l.Orphans)
}

// other is a memory that claims to have other slab classes.
type other struct {
	Memory
	classes []int64
}

func (o other) SlabSizes() []int64 { return o.classes }

func TestFile__lies_in_the_slabs_that_the_server_has(t *testing.T) {
	for classes, whole := range map[string]bool{
		"64KiB": true, "1KiB,128KiB": true, "512KiB,2MiB": true, "4MiB": true, "8KiB,8MiB": false, "1KiB,2KiB,4KiB,8KiB,512KiB,1MiB,4MiB": true,
	} {
		c := client(t, "--slab-sizes", classes)
		require.NoError(t, CheckSizes(c.SlabSizes()))
		b := random(1, 7*mib)
		f := written(t, c, 1, Name{Kind: WAL}, b[:mib])
		require.NoError(t, f.Append(ctx, c, b[mib:]), classes)
		found := only(t, c)
		require.Equal(t, b, content(t, c, found), classes)
		lent := maastest.Must(c.List(ctx, "me"))(t)
		var sum int64
		for _, a := range lent {
			require.Equal(t, whole, a.Size == a.ActualSize, "%s: %+v", classes, a)
			sum += a.ActualSize
		}
		for _, f := range []*File{f, found} {
			extents, bytes := f.Allocated()
			require.Equal(t, len(lent), extents, classes)
			require.Equal(t, sum, bytes, "%s: what the server lends", classes)
		}
	}
}

func TestFile__goes_on_where_the_classes_were_others(t *testing.T) {
	c := client(t)
	b := random(1, 3*mib)
	written(t, c, 1, Name{Kind: WAL}, b[:2*mib])
	require.NoError(t, only(t, c).Append(ctx, other{c, []int64{kib, 64 * kib}}, b[2*mib:]))
	require.Equal(t, b, content(t, c, only(t, c)))
}

func TestCheckSizes__says_what_is_too_small(t *testing.T) {
	require.ErrorContains(t, CheckSizes([]int64{kib, 8 * kib}), "--slab-sizes")
	require.NoError(t, CheckSizes(nil))
}

func TestRefresh__sees_what_was_appended_and_nothing_else(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	c := shared.Client(t, server.URL)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	w := written(t, c, 3, Name{Kind: WAL, Number: 7}, data[:1000])
	f := only(t, c)
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
	f = only(t, c)
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
	f = only(t, c)
	require.Equal(t, int64(2000), f.Len())

	// The memory belongs to another file by now.
	other := f.extents[0]
	other.name.Number++
	require.NoError(t, c.WriteV(ctx, []maas.Range{other.nextSlot()}))
	require.ErrorIs(t, f.Refresh(ctx, c), ErrFreed)
	require.NoError(t, c.WriteV(ctx, []maas.Range{{ID: f.extents[0].id, Data: make([]byte, HeaderSize)}}))
	require.ErrorIs(t, f.Refresh(ctx, c), ErrFreed)

	server.Kill()
	err := f.Refresh(ctx, c)
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrFreed, "who knows")
}
