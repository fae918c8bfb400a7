// SPDX-License-Identifier: Apache-2.0

// What small writes and reads cost beside libmaas.

package maas

import (
	"context"
	"fmt"
	"testing"

	"github.com/maas-memory/maas/go/maastest"
)

func BenchmarkRead(b *testing.B)  { benchmarkTransfer(b, (*Client).ReadV) }
func BenchmarkWrite(b *testing.B) { benchmarkTransfer(b, (*Client).WriteV) }

func benchmarkTransfer(b *testing.B, transfer func(*Client, context.Context, []Range) error) {
	c := open(b, maastest.Start(b), Options{})
	for _, size := range []int{1 << 10, 16 << 10, 256 << 10, 4 << 20} {
		for _, count := range []int{1, 16} {
			if size*count > 4<<20 {
				continue
			}
			b.Run(fmt.Sprintf("%dKiBx%d", size>>10, count), func(b *testing.B) {
				lent := allocate(b, c, AllocateOptions{Size: int64(size), Count: count})
				ranges := make([]Range, count)
				for i := range ranges {
					ranges[i] = Range{lent[i].ID, 0, make([]byte, size)}
				}
				b.SetBytes(int64(size * count))
				b.ReportAllocs()
				for b.Loop() {
					check(b, transfer(c, b.Context(), ranges))
				}
			})
		}
	}
}
