// SPDX-License-Identifier: Apache-2.0

// The set of remote files: which local file each is a copy of, and which are dead.

package tail

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// isOf says whether the file is still the copy of this local file.
func (r *remoteFile) isOf(f localFile) bool {
	return os.SameFile(r.info, f.info) && r.file.Len() <= f.info.Size()
}

// remote returns the remote file of a local one; a new file if the local one was replaced; nil while the file must
// not be touched.
func (t *Tail) remote(f localFile, truncations int) (*remoteFile, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	relies := f.name.Kind == remotefile.Chunks || f.name.Kind == remotefile.Snapshot
	if relies && (truncations != t.truncations || t.truncations%2 == 1) {
		return nil, nil // The name may belong to another file by now, and a file in front of it may be gone.
	}
	r := t.files[f.name]
	if r != nil && r.isOf(f) {
		return r, nil
	}
	if r != nil {
		t.dead = append(t.dead, r.file) // The log was repaired, or the number used again.
		if f.name.Kind == remotefile.Chunks {
			t.dead = append(t.dead, takeKind(t.files, remotefile.Snapshot)...)
		}
	}
	sorted := f.name.Kind == remotefile.Chunks && t.allSorted && f.name.Number >= t.sortedFrom
	r = &remoteFile{
		file: remotefile.New(t.memory.Owner(), t.arena.Epoch, f.name, sorted), info: f.info, sorted: sorted,
	}
	switch f.name.Kind {
	case remotefile.WAL:
		r.file.SetMinTime(t.minTime.Load())
	case remotefile.Snapshot:
		r.file.SetOffset(f.offset)
		r.file.RelyOn(t.lastChunksLocked())
	}
	t.files[f.name] = r
	return r, nil
}

// lastChunksLocked is the highest number of a file of chunks that is in remote memory; 0: there is none.
func (t *Tail) lastChunksLocked() (number uint32) {
	for name, r := range t.files {
		if name.Kind == remotefile.Chunks && r.file.Len() > 0 {
			number = max(number, name.Number)
		}
	}
	return number
}

// freeGone frees what is no longer in the directory. It runs after all that is there was copied: a new checkpoint
// is complete before the segments that it replaces go. If the directory has lost the beginning of its log, remote memory
// keeps that until there is another checkpoint.
func (t *Tail) freeGone(local []localFile) error {
	have := make(map[remotefile.Name]bool, len(local))
	for _, f := range local {
		have[f.name] = true
	}
	begins := hasStart(local)
	t.mu.Lock()
	for name, r := range t.files {
		if !have[name] && (begins || name.Kind != remotefile.WAL && name.Kind != remotefile.Checkpoint) {
			t.dead = append(t.dead, r.file)
			delete(t.files, name)
		}
	}
	t.mu.Unlock()
	return t.free(t.takeDead(anyName))
}

// attach takes over what the server holds. These files stay: one that equals the local file byte for byte; a
// longer log, once it is cut; a checkpoint that the directory's log needs and has lost; and, until freeGone, the files
// that a newer checkpoint replaces. All others are freed and copied again; so is a snapshot of which chunks are missing.
func (t *Tail) attach(arena *memory.Arena) error {
	t.mu.RLock()
	truncations := t.truncations
	t.mu.RUnlock()
	local, err := t.list()
	if err != nil {
		return err
	}
	byName := make(map[remotefile.Name]localFile, len(local))
	for _, f := range local {
		byName[f.name] = f
	}
	t.mu.Lock()
	lost := t.storedLocked()
	t.files = map[remotefile.Name]*remoteFile{} // From now on none of them may be read.
	t.mu.Unlock()

	kept := map[remotefile.Name]*remoteFile{}
	hasLog, begins := false, hasStart(local)
	var dead []*remotefile.File
	for _, f := range arena.Listing.Files {
		if k := f.Name().Kind; k == remotefile.Block || k == remotefile.Chunks && !t.o.Chunks {
			continue // Another package takes it over.
		}
		l, ok := byName[f.Name()]
		if ok {
			var err error
			if ok, err = t.isCopy(f, l); err != nil {
				return err
			}
		}
		if needed := f.Name().Kind == remotefile.Checkpoint && !begins; !ok && !needed && !superseded(f.Name(), local) {
			dead = append(dead, f)
			continue
		}
		kept[f.Name()] = &remoteFile{file: f, info: l.info, sorted: f.Sorted()}
		hasLog = hasLog || f.Name().Kind == remotefile.WAL
		lost -= f.Len()
	}
	if err := t.freeOrphans(arena); err != nil {
		return err
	}
	t.mu.Lock()
	if truncations != t.truncations || truncations%2 == 1 {
		dead = append(dead, takeKind(kept, remotefile.Chunks)...) // The names may belong to other files by now.
	}
	isDead := func(f *remotefile.File) bool { return f.Name().Kind == remotefile.Chunks }
	isMissing := func(f localFile) bool { return f.name.Kind == remotefile.Chunks && kept[f.name] == nil }
	if slices.ContainsFunc(dead, isDead) || slices.ContainsFunc(local, isMissing) {
		dead = append(dead, takeKind(kept, remotefile.Snapshot)...)
	}
	t.files, t.dead, t.arena = kept, dead, arena
	t.minTime.Store(math.MinInt64) // The file that said where may be dead.
	if !hasLog {
		// The log that comes now begins before the head does; the chunks from before the head are gone, so
		// the log has at most a part of them.
		t.minTime.Store(t.memory.MinValidTime())
	}
	t.mu.Unlock()
	if lost > 0 {
		t.memory.Metrics().Resynced.Add(float64(lost))
	}
	return nil
}

// superseded says whether the directory once had this file, and has something newer in its place. A take-over
// needs the file until the newer one is in remote memory, too.
func superseded(name remotefile.Name, local []localFile) bool {
	switch name.Kind {
	case remotefile.WAL, remotefile.WBL, remotefile.Checkpoint:
	default:
		return false
	}
	is := slices.ContainsFunc(local, func(f localFile) bool { return f.name == name })
	return !is && slices.ContainsFunc(local, func(f localFile) bool {
		return f.name.Kind == name.Kind && f.name.Number > name.Number
	})
}

// takeKind removes the files of a kind from a set, and returns them.
func takeKind(files map[remotefile.Name]*remoteFile, kind remotefile.Kind) (taken []*remotefile.File) {
	for name, r := range files {
		if name.Kind == kind {
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

// read is a readFunc.
func (t *Tail) read(f *remotefile.File, p []byte, off int64) error {
	return t.memory.ReadFile(context.Background(), "compare", f, p, off)
}

// isCopy says whether a remote file is, or has become, the beginning of a local one. A log that was cut here, as a
// repair does, is cut at the server to the same length; it is never removed for that, because it may be all that a
// successor has.
func (t *Tail) isCopy(f *remotefile.File, l localFile) (bool, error) {
	n, err := commonPrefix(f, l, t.read)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || n == f.Len() {
		return err == nil, err
	}
	if n == 0 || l.name.Kind != remotefile.WAL && l.name.Kind != remotefile.WBL {
		return false, nil
	}
	file, err := os.Open(l.path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	return true, t.memory.Write("cut", 0, func(ctx context.Context, c *memory.Conn) error {
		return f.Cut(ctx, c, n, file)
	})
}

// follow makes the remote file of a log continue with the local file that has replaced another.
func (t *Tail) follow(f localFile) error {
	if f.name.Kind != remotefile.WAL && f.name.Kind != remotefile.WBL {
		return nil
	}
	t.mu.RLock()
	r := t.files[f.name]
	t.mu.RUnlock()
	if r == nil || r.isOf(f) {
		return nil
	}
	ok, err := t.isCopy(r.file, f)
	if ok && err == nil {
		t.mu.Lock()
		r.info = f.info
		t.mu.Unlock()
	}
	return err
}

// ChunkFile returns the remote copy of a chunk file; nil if there is none that is good to read.
func (t *Tail) ChunkFile(number uint32) *remotefile.File {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if r := t.files[remotefile.Name{Kind: remotefile.Chunks, Number: number}]; r != nil && r.sorted {
		return r.file
	}
	return nil
}

// SortedFrom says that only sorted passes write the chunk files from this number on.
func (t *Tail) SortedFrom(number uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sortedFrom, t.allSorted = number, true
}

// BeginTruncate takes the chunk files below a number out of use before they are deleted: their numbers may be used
// again at once, for other bytes. math.MaxUint32 says that the database could not read them: it does not use the
// snapshot that is there now either. Call EndTruncate when they are gone.
func (t *Tail) BeginTruncate(below uint32) {
	snapshot, _ := listSnapshot(t.o.Dir) // What cannot be listed is not copied either.
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.truncations%2 == 1 {
		panic(fmt.Sprintf("truncation %d is still under way", t.truncations))
	}
	t.truncations++
	for name, r := range t.files {
		if name.Kind == remotefile.Chunks && name.Number < below {
			t.dead = append(t.dead, r.file)
			delete(t.files, name)
		}
	}
	if below == math.MaxUint32 {
		t.dead = append(t.dead, takeKind(t.files, remotefile.Snapshot)...)
		if len(snapshot) > 0 {
			t.discarded = filepath.Dir(snapshot[0].path)
		}
	}
}

// EndTruncate ends what BeginTruncate began.
func (t *Tail) EndTruncate() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.truncations++
}
