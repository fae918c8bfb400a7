// SPDX-License-Identifier: Apache-2.0

// The cache of remote bytes, outside of the Go heap.

package chunkstore

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/maas-memory/maas/prometheus/headchunk"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// blockSize is the unit in which files are read from remote memory. Sorted passes write chunks of neighbouring
// labels side by side, so that few blocks serve a query.
const blockSize = 16 << 10

// MinCacheSize is the smallest cache; a smaller size means this one.
const MinCacheSize = 4 * blockSize

type blockKey struct {
	file  *remotefile.File // Not the number: another file may use that again.
	block int64
}

type slot struct {
	key   blockKey
	valid int  // In bytes; the last block of a file that grows is short.
	used  bool // Whether it was used since the clock's hand passed.
}

// cache keeps blocks in one arena, and replaces them by CLOCK.
type cache struct {
	size int // In blocks.

	mu    sync.Mutex // Guards the fields below.
	arena []byte
	slots []slot
	index map[blockKey]int
	hand  int
}

func newCache(size int64) (*cache, error) {
	n := max(size, MinCacheSize) / blockSize
	arena, err := unix.Mmap(-1, 0, int(n*blockSize), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes for the cache of remote blocks: %w", n*blockSize, err)
	}
	return &cache{size: int(n), arena: arena, slots: make([]slot, n), index: make(map[blockKey]int, n)}, nil
}

func (c *cache) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	arena := c.arena
	c.arena, c.slots, c.index = nil, nil, nil
	if arena == nil {
		return nil
	}
	return unix.Munmap(arena)
}

// get copies bytes of a block, and says whether the cache had all of them.
func (c *cache) get(dst []byte, key blockKey, off int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.index[key]
	if !ok || off+len(dst) > c.slots[i].valid {
		return false
	}
	c.slots[i].used = true
	copy(dst, c.arena[i*blockSize+off:])
	return true
}

// record copies the record that begins at an offset of a block; nil if the block does not have all of it. Most
// reads of chunks come down to this: one look-up, one copy.
func (c *cache) record(key blockKey, off int) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.index[key]
	if !ok || off >= c.slots[i].valid {
		return nil
	}
	block := c.arena[i*blockSize+off : i*blockSize+c.slots[i].valid]
	size, err := headchunk.Size(block)
	if err != nil || size > len(block) {
		return nil
	}
	c.slots[i].used = true
	return append([]byte(nil), block[:size]...)
}

func (c *cache) put(key blockKey, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.arena == nil {
		return
	}
	i, ok := c.index[key]
	if !ok {
		i = c.victim()
		delete(c.index, c.slots[i].key)
		c.index[key] = i
	}
	c.slots[i] = slot{key: key, valid: copy(c.arena[i*blockSize:(i+1)*blockSize], data), used: ok}
}

// victim advances the hand to a slot that nobody has used since the hand last passed. Caller holds mu.
func (c *cache) victim() int {
	for {
		i := c.hand
		c.hand = (c.hand + 1) % len(c.slots)
		if !c.slots[i].used {
			return i
		}
		c.slots[i].used = false
	}
}

// drop forgets the blocks of a range of a file: their bytes were wrong.
func (c *cache) drop(file *remotefile.File, from, to int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for b := from; b <= to; b++ {
		key := blockKey{file, b}
		if i, ok := c.index[key]; ok {
			delete(c.index, key)
			c.slots[i] = slot{}
		}
	}
}

func (c *cache) bytes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.index) * blockSize
}
