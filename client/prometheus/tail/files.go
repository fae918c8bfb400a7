// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"context"
	"fmt"
	"math"
	"os"

	"maas/client/prometheus/memory"
	"maas/client/prometheus/segment"
)

// remote returns the remote file of a local one, begun anew where the local one was replaced; nil
// while it must not be touched.
func (t *Tail) remote(f localFile, truncations int) (*remoteFile, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.files[f.name]
	if r != nil && os.SameFile(r.info, f.info) && r.file.Len() <= f.info.Size() {
		return r, nil
	}
	if f.name.Kind == segment.Chunks && (truncations != t.truncations || t.truncations%2 == 1) {
		return nil, nil // The file that was seen may be another one by now.
	}
	if r != nil {
		t.dead = append(t.dead, r.file) // The log was repaired, or the number is used again.
	}
	sorted := f.name.Kind == segment.Chunks && t.allSorted && f.name.Number >= t.sortedFrom
	r = &remoteFile{
		file: segment.New(t.memory.Owner(), t.arena.Epoch, f.name, sorted), info: f.info, sorted: sorted,
	}
	r.file.SetMinTime(t.minTime.Load())
	t.files[f.name] = r
	return r, nil
}

// freeGone frees what is no longer in the directory. It runs after everything that is there was
// copied: a new checkpoint is complete before the segments that it replaces go.
func (t *Tail) freeGone(local []localFile) error {
	have := make(map[segment.Name]bool, len(local))
	for _, f := range local {
		have[f.name] = true
	}
	t.mu.Lock()
	for name, r := range t.files {
		if !have[name] {
			t.dead = append(t.dead, r.file)
			delete(t.files, name)
		}
	}
	t.mu.Unlock()
	return t.free(t.takeDead(anyName))
}

// attach takes over what the server holds: files that are byte for byte what lies in the directory
// stay, all else is freed and copied again.
func (t *Tail) attach(arena *memory.Arena) error {
	t.mu.RLock()
	truncations := t.truncations
	t.mu.RUnlock()
	local, err := t.list()
	if err != nil {
		return err
	}
	byName := make(map[segment.Name]localFile, len(local))
	for _, f := range local {
		byName[f.name] = f
	}
	t.mu.Lock()
	lost := t.storedLocked()
	t.files = map[segment.Name]*remoteFile{} // Nothing of it is good to read from now on.
	t.mu.Unlock()

	kept := map[segment.Name]*remoteFile{}
	var dead []*segment.File
	for _, f := range arena.Listing.Files {
		if f.Name().Kind == segment.Chunks && !t.o.Chunks {
			continue // Another's to take over.
		}
		l, ok := byName[f.Name()]
		if !ok || !sameBytes(f, l) {
			dead = append(dead, f)
			continue
		}
		kept[f.Name()] = &remoteFile{file: f, info: l.info, sorted: f.Sorted()}
		lost -= f.Len()
	}
	if err := t.freeOrphans(arena); err != nil {
		return err
	}
	t.mu.Lock()
	if truncations != t.truncations || truncations%2 == 1 {
		dead = append(dead, takeChunks(kept)...) // What was compared may be other files by now.
	}
	t.files, t.dead, t.arena = kept, dead, arena
	t.minTime.Store(math.MinInt64) // What said it may be among the dead.
	t.mu.Unlock()
	if lost > 0 {
		t.memory.Metrics().Resynced.Add(float64(lost))
	}
	return nil
}

// takeChunks takes the chunk files out of a set, and returns them.
func takeChunks(files map[segment.Name]*remoteFile) (taken []*segment.File) {
	for name, r := range files {
		if name.Kind == segment.Chunks {
			taken = append(taken, r.file)
			delete(files, name)
		}
	}
	return taken
}

func (t *Tail) storedLocked() (sum int64) {
	for _, r := range t.files {
		sum += r.file.Len()
	}
	return sum
}

func (t *Tail) freeOrphans(arena *memory.Arena) error {
	if len(arena.Listing.Orphans) == 0 {
		return nil
	}
	return t.memory.Write("free", 0, func(ctx context.Context, c *memory.Conn) error {
		_, _, err := c.Free(ctx, arena.Listing.Orphans...)
		return err
	})
}

// sameBytes compares the checksums that the server's extents carry with the local file.
func sameBytes(remote *segment.File, local localFile) bool {
	if remote.Len() > local.info.Size() {
		return false
	}
	file, err := os.Open(local.path)
	if err != nil {
		return false
	}
	defer file.Close()
	var buf []byte
	for _, p := range remote.Pieces() {
		buf = append(buf[:0], make([]byte, p.Length)...)
		if n, err := readAtMost(file, buf, p.Offset); err != nil || int64(n) < p.Length || segment.Checksum(buf) != p.CRC {
			return false
		}
	}
	return true
}

// ChunkFile returns the remote copy of a chunk file, nil where there is none that is good to read.
func (t *Tail) ChunkFile(number uint32) *segment.File {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if r := t.files[segment.Name{Kind: segment.Chunks, Number: number}]; r != nil && r.sorted {
		return r.file
	}
	return nil
}

// SortedFrom says that chunk files from a number on are written by sorted passes alone.
func (t *Tail) SortedFrom(number uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sortedFrom, t.allSorted = number, true
}

// BeginTruncate takes the chunk files below a number out of use, before they are deleted: the same
// numbers may be used again at once, for other bytes. EndTruncate follows when they are gone.
func (t *Tail) BeginTruncate(below uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.truncations%2 == 1 {
		panic(fmt.Sprintf("truncation %d is still under way", t.truncations))
	}
	t.truncations++
	for name, r := range t.files {
		if name.Kind == segment.Chunks && name.Number < below {
			t.dead = append(t.dead, r.file)
			delete(t.files, name)
		}
	}
}

// EndTruncate ends what BeginTruncate began.
func (t *Tail) EndTruncate() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.truncations++
}
