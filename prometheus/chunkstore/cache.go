// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/maas-memory/maas/prometheus/headchunk"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// blockSize is the unit in which files are read from remote memory. Sorted passes lay chunks of
// neighbouring labels beside each other, so that few blocks serve a query.
const blockSize = 16 << 10

// MinCacheSize is the smallest cache that there is; a smaller size means this one.
const MinCacheSize = 4 * blockSize

type blockKey struct {
	file  *remotefile.File // A file whose number is used again is another file.
	block int64
}

type slot struct {
	key   blockKey
	valid int  // Bytes; the last block of a file that grows is short.
	used  bool // Since the clock's hand passed.
}

// cache keeps blocks in one arena outside of the Go heap, and replaces them by CLOCK.
type cache struct {
	size int // In blocks.

	mu    sync.Mutex // Guards what follows.
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

// get copies bytes of a block, and says whether it had all of them.
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

// record copies the record that begins at an offset of a block; nil where the block does not have all
// of it. It is what most reads of chunks come down to: one look-up, one copy.
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

// victim advances the hand to a slot that nobody used since it passed last. Caller holds mu.
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

// drop forgets a file's blocks from one on: their bytes were wrong.
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
