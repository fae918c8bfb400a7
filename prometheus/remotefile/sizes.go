// SPDX-License-Identifier: Apache-2.0

// The sizes of extents, which fit the server's slab classes.

package remotefile

import "fmt"

const (
	mib = 1 << 20
	kib = 1 << 10

	// maxExtent is the largest size that List takes for an extent.
	maxExtent = 4 * mib
	// minExtent is the smallest size that is worth an allocation: a segment of the log takes 2,048 such
	// extents.
	minExtent = 64 * kib
)

// extentSize is the size of a file's index-th extent at a server with these slab classes. Small files take little,
// and each size fills a slab of the server.
func extentSize(index int, classes []int64) int64 {
	wanted := int64(maxExtent)
	switch {
	case index < 2:
		wanted = mib / 2
	case index < 5:
		wanted = mib
	}
	size := int64(0)
	for _, class := range classes { // Ascending.
		if class >= minExtent && (size == 0 || class <= wanted) {
			size = min(class, maxExtent)
		}
	}
	if size == 0 {
		return wanted // The server does not tell.
	}
	return size
}

// Footprint is how many bytes a file of this length takes at a server with these slab classes.
func Footprint(length int64, classes []int64) (bytes int64) {
	for i := 0; i == 0 || length > 0; i++ {
		size := extentSize(i, classes)
		length -= size - HeaderSize
		for _, class := range classes {
			if class >= size {
				size = class
				break
			}
		}
		bytes += size
	}
	return bytes
}

// CheckSizes says whether a server with these slab classes can hold files at all.
func CheckSizes(classes []int64) error {
	if n := len(classes); n > 0 && classes[n-1] < minExtent {
		return fmt.Errorf("the server's largest slab class has %d bytes, and Prometheus needs %d at least: start maasd without --slab-sizes, or with a larger one in it", classes[n-1], minExtent)
	}
	return nil
}
