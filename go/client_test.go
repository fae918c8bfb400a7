// SPDX-License-Identifier: Apache-2.0

// Allocations and their bytes, against a real server.

package maas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/maas-memory/maas/go/maastest"
)

// pattern is bytes that differ from one seed to the next.
func pattern(seed uint64, n int) []byte {
	p := make([]byte, n)
	rand.New(rand.NewSource(int64(seed))).Read(p)
	return p
}

// scaled is the count of a test; smaller on a machine that is slow because it is emulated.
func scaled(count, short int) int {
	if testing.Short() {
		return short
	}
	return count
}

func TestHealthAndStats(t *testing.T) {
	c := open(t, maastest.Start(t, "--max-pool-size", "64MiB"), Options{})
	health := maastest.Must(c.Health(t.Context()))(t)
	holds(t, health.Status == "healthy" && health.Memory.MaxPoolSize == 64<<20, health)
	holds(t, health.Version != "" && health.ArenaID != "" && health.BootID != "", health)
	sizes := c.SlabSizes()
	holds(t, slices.Equal(sizes, health.SlabSizes) && len(sizes) > 0 && sizes[len(sizes)-1] == 4<<20, sizes, health.SlabSizes)
	allocate(t, c, AllocateOptions{Size: 1000, Count: 3})
	stats := maastest.Must(c.Stats(t.Context()))(t)
	holds(t, stats.ActiveAllocations == 3 && stats.TotalInUseBytes == 3000 && stats.MaxPoolSize == 64<<20, stats)
	holds(t, len(stats.Pools) > 0 && stats.Pools[0].UsedSlabs == 3, stats)
	holds(t, maastest.Transport() != TransportHTTP || c.Session() == "", "a session without a name")
}

func TestAllocateDescribeFree(t *testing.T) {
	c := open(t, maastest.Start(t), Options{})
	ctx := t.Context()
	lent := allocate(t, c, AllocateOptions{Size: 5000, Count: 2, Owner: "a/b:c@d"})
	holds(t, len(lent) == 2 && lent[0].Size == 5000 && lent[0].ActualSize >= 5000 && lent[0].ID != lent[1].ID, lent)
	got := maastest.Must(c.Describe(ctx, lent[0].ID))(t)
	got.Age = lent[0].Age
	holds(t, got == lent[0] && got.Owner == "a/b:c@d" && got.Lifetime == "delete", lent[0], "is described as", got)
	leased := allocate(t, c, AllocateOptions{Size: 1, TTL: 90 * time.Minute})
	got = maastest.Must(c.Describe(ctx, leased[0].ID))(t)
	holds(t, got.Lifetime == "ttl", got)
	check(t, c.Renew(ctx, leased[0].ID))
	wantError(t, c.Renew(ctx, lent[0].ID), nil, "maas: renew "+lent[0].ID, "not_renewable")
	holds(t, IsNotFound(c.Renew(ctx, "../x")), "a path is no id")
	freed, unknown, err := c.Free(ctx, lent[0].ID, "x", lent[1].ID, leased[0].ID, `"`)
	holds(t, freed == 3 && slices.Equal(unknown, []string{"x", `"`}) && err == nil, freed, unknown, err)
	_, err = c.Describe(ctx, lent[0].ID)
	holds(t, IsNotFound(err), err)
	wantError(t, err, nil, "maas: describe "+lent[0].ID, "it was freed")
	freed, unknown, err = c.Free(ctx)
	holds(t, freed == 0 && unknown == nil && err == nil, freed, unknown, err)
}

func TestSameRequestID(t *testing.T) {
	c := open(t, maastest.Start(t), Options{})
	first := allocate(t, c, AllocateOptions{Size: 100, RequestID: "once"})
	again := allocate(t, c, AllocateOptions{Size: 100, RequestID: "once"})
	holds(t, first[0].ID == again[0].ID, "a second answer to the same request")
	_, err := c.Allocate(t.Context(), AllocateOptions{Size: 200, RequestID: "once"})
	var refusal *Error
	holds(t, errors.As(err, &refusal) && refusal.Status == 409 && refusal.Code == "request_id_reused", err)
}

func idsOf(list []Allocation) (sorted []string) {
	for _, a := range list {
		sorted = append(sorted, a.ID)
	}
	slices.Sort(sorted)
	return sorted
}

func TestManyAllocations(t *testing.T) {
	c := open(t, maastest.Start(t, "--max-grants", "100000"), Options{})
	ctx := t.Context()
	count := scaled(12000, 1500) // more than one page and, if not short, one batch
	var lent []Allocation
	for left := count; left > 0; left -= min(left, maxBatch) {
		lent = append(lent, allocate(t, c, AllocateOptions{Size: 64, Count: min(left, maxBatch), Owner: "many"})...)
	}
	allocate(t, c, AllocateOptions{Size: 64, Owner: "other"})
	listed := maastest.Must(c.List(ctx, "many"))(t)
	all := maastest.Must(c.List(ctx, ""))(t)
	none := maastest.Must(c.List(ctx, "nobody"))(t)
	holds(t, len(listed) == count && len(all) == count+1 && len(none) == 0, len(listed), len(all), len(none))
	ids := idsOf(lent)
	holds(t, slices.Equal(idsOf(listed), ids), "other allocations were listed")
	freed, unknown, err := c.Free(ctx, ids...)
	holds(t, freed == count && len(unknown) == 0 && err == nil, freed, len(unknown), err)
}

func TestReadWrite(t *testing.T) {
	c := open(t, maastest.Start(t, "--slab-sizes", "1KiB,16MiB"), Options{})
	ctx := t.Context()
	const size = 9<<20 + 17 // cut into three requests
	id := allocate(t, c, AllocateOptions{Size: size})[0].ID
	isThere := func(off int, want []byte) {
		got := make([]byte, len(want))
		check(t, c.Read(ctx, id, int64(off), got))
		holds(t, bytes.Equal(got, want), "other bytes came back:", len(got), "at", off)
	}
	isThere(0, make([]byte, size))
	want := pattern(1, size)
	check(t, c.Write(ctx, id, 0, want))
	for _, span := range [][2]int{{0, size}, {0, 1}, {size - 1, 1}, {1000, 70000}, {transferBytes - 1, 2}, {5, 0}} {
		isThere(span[0], want[span[0]:span[0]+span[1]])
	}
	check(t, c.Write(ctx, id, 12345, []byte("in between")))
	copy(want[12345:], "in between")
	isThere(0, want)
}

func TestReadWriteErrors(t *testing.T) {
	c := open(t, maastest.Start(t), Options{})
	ctx := t.Context()
	id := allocate(t, c, AllocateOptions{Size: 1000})[0].ID
	buf := make([]byte, 10)
	for name, test := range map[string]struct {
		bad    Range
		status int
	}{
		"behind the end": {Range{id, 1000, buf}, 416},
		"across the end": {Range{id, 991, buf}, 416},
		"negative":       {Range{id, -1, buf}, 416},
		"far away":       {Range{id, 1<<63 - 5, buf}, 416},
		"no such id":     {Range{someID, 0, buf}, 404},
		"a path":         {Range{"../stats", 0, buf}, 404},
		"empty":          {Range{"", 0, buf}, 404},
	} {
		t.Run(name, func(t *testing.T) {
			bad, status := test.bad, test.status
			for what, err := range map[string]error{
				"read":   c.Read(ctx, bad.ID, bad.Offset, buf),
				"write":  c.Write(ctx, bad.ID, bad.Offset, buf),
				"readv":  c.ReadV(ctx, []Range{{id, 0, buf}, bad}),
				"writev": c.WriteV(ctx, []Range{{id, 0, buf}, bad}),
			} {
				var refusal *Error
				if !errors.As(err, &refusal) || refusal.Status != status || IsNotFound(err) != (status == 404) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

func TestVectors(t *testing.T) {
	c := open(t, maastest.Start(t, "--max-grants", "100000"), Options{})
	ctx := t.Context()
	for _, test := range []struct{ allocations, size int }{{2, 1}, {100, 1000}, {scaled(300, 80), 64 << 10}} {
		t.Run(fmt.Sprintf("%dx%d", test.allocations, test.size), func(t *testing.T) {
			lent := allocate(t, c, AllocateOptions{Size: int64(test.size), Count: test.allocations})
			out := make([]Range, len(lent))
			in := make([]Range, len(lent))
			for i := range lent {
				out[i] = Range{lent[i].ID, 0, pattern(uint64(i), test.size)}
				in[i] = Range{lent[i].ID, 0, make([]byte, test.size)}
			}
			out = append(out, Range{lent[0].ID, 0, nil}) // does nothing
			check(t, c.WriteV(ctx, out))
			check(t, c.ReadV(ctx, in))
			for i := range in {
				wantBytes(t, in[i].Data, out[i].Data)
			}
		})
	}
}

func TestVectorOfManyRangesInOrder(t *testing.T) {
	// A server whose longest JSON holds far fewer ranges than that.
	c := open(t, maastest.Start(t, "--max-body-size", "4KiB"), Options{})
	ctx := t.Context()
	id := allocate(t, c, AllocateOptions{Size: 1000})[0].ID
	want := make([]byte, 1000)
	var ranges []Range
	for i := range 11000 {
		data := pattern(uint64(i), 1+i%5)
		off := i * 7 % 990
		copy(want[off:], data)
		ranges = append(ranges, Range{id, int64(off), data})
	}
	check(t, c.WriteV(ctx, ranges))
	check(t, c.ReadV(ctx, nil))
	for i := range ranges {
		ranges[i].Data = make([]byte, len(ranges[i].Data))
	}
	check(t, c.ReadV(ctx, ranges))
	for _, r := range ranges {
		wantBytes(t, r.Data, want[r.Offset:r.Offset+int64(len(r.Data))])
	}
	freed, unknown, err := c.Free(ctx, append(slices.Repeat([]string{someID}, 300), id)...)
	holds(t, freed == 1 && len(unknown) == 300 && err == nil, freed, len(unknown), err)
}

func TestExhausted(t *testing.T) {
	c := open(t, maastest.Start(t, "--max-pool-size", "4MiB"), Options{})
	_, err := c.Allocate(t.Context(), AllocateOptions{Size: 1 << 20, Count: 5})
	holds(t, IsExhausted(err), err)
	wantError(t, err, nil, "maas: allocate 1048576 bytes 5 times", "507 pool_exhausted", "--max-pool-size")
	_, err = c.Allocate(t.Context(), AllocateOptions{Size: 1 << 40})
	holds(t, !IsExhausted(err), err)
	wantError(t, err, nil, "413 too_large", "--slab-sizes")
	allocate(t, c, AllocateOptions{Size: 1 << 20, Count: 4})
}

func TestAllocateOptions(t *testing.T) {
	c := open(t, maastest.Start(t), Options{})
	for name, o := range map[string]AllocateOptions{
		"no size":      {},
		"negative":     {Size: -1},
		"count":        {Size: 1, Count: maxBatch + 1},
		"owner":        {Size: 1, Owner: "no spaces"},
		"lifetime":     {Size: 1, Lifetime: "long"},
		"ttl missing":  {Size: 1, Lifetime: "ttl"},
		"ttl too much": {Size: 1, Lifetime: "delete", TTL: time.Second},
		"ttl negative": {Size: 1, TTL: -time.Minute},
		"request id":   {Size: 1, RequestID: string(make([]byte, 200))},
	} {
		if _, err := c.Allocate(t.Context(), o); err == nil {
			t.Errorf("%s: %+v was taken", name, o)
		}
	}
	stats, err := c.Stats(t.Context())
	holds(t, err == nil && stats.TotalAllocations == 0, stats, err)
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no URL":       {},
		"no port":      {URL: "host:port"},
		"no host":      {URL: ":3000/"},
		"bare path":    {URL: "host:3000/path"},
		"bare user":    {URL: "me:secret@host:3000"},
		"scheme":       {URL: "ftp://host"},
		"no TLS":       {URL: "http://host", CAFile: "ca.pem"},
		"path":         {URL: "http://host:3000/path"},
		"user":         {URL: "http://me:secret@host:3000"},
		"user, TLS":    {URL: "https://me:secret@host:3000"},
		"user, port":   {URL: "http://me:secret/more@host:3000"},
		"user, escape": {URL: "http://me:%secret@host:3000"},
		"user, space":  {URL: "http://me:my secret@host:3000"},
		"token":        {URL: "http://host:3000/?token=secret"},
		"no socket":    {URL: "unix:"},
		"name":         {URL: "http://host", Name: "no spaces"},
		"exclusive":    {URL: "http://host", Exclusive: true},
		"transport":    {URL: "http://host", Transport: "pigeon"},
		"timeout":      {URL: "http://host", Timeout: -1},
		"TTL negative": {URL: "http://host", SessionTTL: -time.Minute},
	} {
		_, err := Open(t.Context(), o)
		wantError(t, err, nil, "maas: ")
		wantError(t, o.Check(), nil, err.Error())
		holds(t, !strings.Contains(err.Error(), "secret"), name, "shows the password:", err)
	}
}

func TestFormsOfTheURL(t *testing.T) {
	bare, _ := strings.CutPrefix(maastest.Start(t).URL, "http://")
	for _, url := range []string{bare, "HTTP://" + bare, "http://" + bare + "//"} {
		check(t, maastest.Err(tryOpen(t, &maastest.Server{URL: url}, Options{Timeout: 1000 * time.Hour})))
	}
	for text, base := range map[string]string{
		"localhost:3000": "http://localhost:3000", "[::1]:3000": "http://[::1]:3000", "host": "http://host"} {
		a, err := parseURL(text)
		holds(t, err == nil && a.base == base, text, a, err)
	}
}

func TestBuiltWithoutRDMA(t *testing.T) {
	if rdmaBuilt {
		t.Skip("it is built with it")
	}
	s := maastest.Start(t)
	wantError(t, maastest.Err(tryOpen(t, s, Options{Transport: TransportRDMA})), nil, "-tags maasrdma")
	open(t, s, Options{Transport: TransportAuto})
}

func TestUnixSocket(t *testing.T) {
	if maastest.Transport() != TransportHTTP {
		t.Skip("RDMA needs an address")
	}
	s := maastest.Start(t, "--listen", "unix:"+filepath.Join(t.TempDir(), "socket"))
	c := open(t, s, Options{Name: "here"})
	id := allocate(t, c, AllocateOptions{Size: 10, Lifetime: "session"})[0].ID
	check(t, c.Write(t.Context(), id, 0, []byte("0123456789")))
	check(t, c.Close())
	s.Kill()
	wantError(t, maastest.Err(tryOpen(t, s, Options{})), nil, "start maasd")
}

func TestNoServer(t *testing.T) {
	s := maastest.Start(t)
	s.Kill()
	_, err := tryOpen(t, s, Options{})
	wantError(t, err, nil, "maas: open: "+s.URL, "refused", "start maasd there or correct the URL")
}

func TestManyThreads(t *testing.T) {
	c := open(t, maastest.Start(t), Options{Name: "threads"})
	together(16, func(n int) {
		for round := range scaled(20, 5) {
			if err := roundTrip(t.Context(), c, uint64(100*n+round)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	stats, err := c.Stats(t.Context())
	holds(t, err == nil && stats.ActiveAllocations == 0, stats, err)
}

func roundTrip(ctx context.Context, c *Client, seed uint64) error {
	want := pattern(seed, 3000)
	got := make([]byte, len(want))
	lent, err := c.Allocate(ctx, AllocateOptions{Size: int64(len(want))})
	if err != nil {
		return err
	}
	id := lent[0].ID
	if err := errors.Join(c.Write(ctx, id, 0, want), c.Read(ctx, id, 0, got)); err != nil {
		return err
	}
	if !bytes.Equal(want, got) {
		return errors.New("other bytes came back")
	}
	freed, _, err := c.Free(ctx, id)
	if freed != 1 {
		err = errors.Join(err, errors.New("it was not there to free"))
	}
	return err
}

func TestClosed(t *testing.T) {
	c := open(t, maastest.Start(t), Options{Name: "short"})
	id := allocate(t, c, AllocateOptions{Size: 10})[0].ID
	check(t, c.Close())
	check(t, c.Close())
	for _, call := range calls(c, id, make([]byte, 1)) {
		wantError(t, call(t.Context()), ErrClosed)
	}
	_, ok := c.Lease()
	holds(t, !ok, "a lease after the end")
}

func TestCloseUnderWay(t *testing.T) {
	c := open(t, maastest.Start(t), Options{Name: "me"})
	id := allocate(t, c, AllocateOptions{Size: 1 << 20})[0].ID
	data := make([]byte, 1<<20)
	var written atomic.Int64
	together(4, func(int) {
		for {
			if err := c.Write(context.Background(), id, 0, data); err != nil {
				if !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
				return
			}
			if written.Add(1) == 8 {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	})
}
