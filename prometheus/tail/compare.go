// SPDX-License-Identifier: Apache-2.0

// Comparing a data directory's log with the one in remote memory.

package tail

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// Compare compares the log of a data directory, byte by byte, with what remote memory holds of it. However old the
// directory is, a log that continues the directory's log is the same log; however new it is, a log that continues
// in another way is another log. No database may have the directory open.
//
// sameWriter says that the directory knows every process that wrote to remote memory. Without it, a log that has
// no byte in common with the directory's is taken for another log.
func Compare(ctx context.Context, mem remotefile.Memory, l *remotefile.Listing, dir string, sameWriter bool) (memory.Relation, error) {
	plan, _, err := planRestore(l.Files, false)
	if err != nil || len(plan) == 0 {
		plan = [][]*remotefile.File{nil, nil, nil} // Nobody could start from this.
	}
	return compare(readsFrom(ctx, mem), plan, dir, sameWriter, newCompared(ctx.Err))
}

func compare(read readFunc, plan [][]*remotefile.File, dir string, sameWriter bool, known *compared) (memory.Relation, error) {
	c := comparison{read: read, known: known}
	if err := c.start(plan, dir); err != nil {
		return 0, fmt.Errorf("compare the checkpoint of the data directory with remote memory: %w", err)
	}
	for i, kind := range []remotefile.Kind{remotefile.WAL, remotefile.WBL} {
		local, err := listLog(dir, kind)
		if err != nil {
			return 0, err
		}
		if err := c.log(plan[1+i], local); err != nil {
			return 0, fmt.Errorf("compare the log of the data directory with remote memory: %w", err)
		}
	}
	switch {
	case c.forked || !c.met && !sameWriter:
		return memory.Forked, nil
	case c.behind:
		return memory.Behind, nil
	}
	return memory.HasAll, nil
}

// ahead is by how many bytes the WAL of a data directory, its whole records, is longer than that of a plan, and whether
// it is the same log. Only if it is longer, the logs are compared.
func ahead(ctx context.Context, mem remotefile.Memory, plan [][]*remotefile.File, dir string, known *compared) (longer int64, goesOn bool, err error) {
	number, length := int64(-1), int64(math.MaxInt64) // The end of the plan's.
	for _, files := range plan[:2] {
		if len(files) > 0 {
			number = int64(files[len(files)-1].Name().Number)
		}
	}
	if wal := plan[1]; len(wal) > 0 {
		length = wal[len(wal)-1].Len()
	}
	local, err := listLog(dir, remotefile.WAL)
	if err != nil {
		return 0, false, err
	}
	for _, s := range local {
		n := int64(s.name.Number)
		if n < number || n == number && s.info.Size() <= length {
			continue
		}
		end, err := known.validEnd(s)
		if err != nil {
			return 0, false, err
		}
		if n == number {
			end = max(0, end-length)
		}
		longer += end
	}
	if longer == 0 {
		return 0, false, nil
	}
	relation, err := compare(readsFrom(ctx, mem), plan, dir, false, known)
	return longer, err == nil && relation != memory.Forked, err
}

// compared is what comparisons have found out about the files of a directory, so that the next one, with more in remote
// memory, need not read them again. Whoever changes a file meanwhile has to change its length.
type compared struct {
	between func() error     // Runs before a file is read; its error ends the comparison.
	same    map[place]string // The pieces of remote files that the directory's begin with.
	ends    map[place]int64  // The ends of their last whole records.
}

// place is a file of a directory.
type place struct {
	path string
	size int64
}

func newCompared(between func() error) *compared {
	return &compared{between, map[place]string{}, map[place]int64{}}
}

// validEnd is the end of the last whole record in a segment.
func (k *compared) validEnd(l localFile) (int64, error) {
	at := place{l.path, l.info.Size()}
	if end, ok := k.ends[at]; ok {
		return end, nil
	}
	if err := k.between(); err != nil {
		return 0, err
	}
	end := validEnd(l.path)
	if end > 0 { // Else it may be that the segment could not be read this time.
		k.ends[at] = end
	}
	return end, nil
}

// commonPrefix is how many bytes at their beginning a remote file and a local one have in common.
func (k *compared) commonPrefix(f *remotefile.File, l localFile, read readFunc) (int64, error) {
	at, pieces := place{l.path, l.info.Size()}, fmt.Sprint(f.Pieces())
	if same, ok := k.same[at]; ok && same == pieces {
		return f.Len(), nil
	}
	if err := k.between(); err != nil {
		return 0, err
	}
	n, err := commonPrefix(f, l, read)
	if err == nil && n == f.Len() {
		k.same[at] = pieces
	}
	return n, err
}

// comparison is the result so far.
type comparison struct {
	read  readFunc
	known *compared

	met    bool // The two have bytes in common.
	behind bool // Remote memory has records that the directory lacks.
	forked bool // The directory has records in the place of others.
}

// start looks for the beginning of the directory's log. If that is lost, or is not as it was written, and remote memory
// has it, remote memory has records that the directory lacks.
func (c *comparison) start(plan [][]*remotefile.File, dir string) error {
	wal, err := listLog(dir, remotefile.WAL)
	if err != nil || len(wal) == 0 {
		return err
	}
	checkpoint, err := listCheckpoint(filepath.Dir(wal[0].path))
	if err != nil {
		return err
	}
	whole := hasStart(slices.Concat(wal, checkpoint))
	if remote := plan[0]; whole && len(remote) > 0 && len(checkpoint) > 0 && remote[0].Name().Number == checkpoint[0].name.Number {
		if whole, err = c.same(remote, checkpoint); err != nil {
			return err
		}
		c.met = whole
	}
	if whole || len(plan[0])+len(plan[1]) == 0 {
		return nil
	}
	c.behind = true
	end := int64(-1) // Of what remote memory has.
	for _, f := range slices.Concat(plan[0], plan[1]) {
		end = max(end, int64(f.Name().Number))
	}
	c.forked = int64(wal[0].name.Number) > end+1 // Between the two, something is missing.
	return nil
}

// same says whether the parts of a checkpoint are those in remote memory.
func (c *comparison) same(remote []*remotefile.File, local []localFile) (bool, error) {
	if len(remote) != len(local) {
		return false, nil
	}
	for i, f := range remote {
		n, err := c.known.commonPrefix(f, local[i], c.read)
		if err != nil || n != f.Len() || n != local[i].info.Size() {
			return false, err
		}
	}
	return true, nil
}

// log compares the segments of one log.
func (c *comparison) log(remote []*remotefile.File, local []localFile) error {
	lacks := false // A segment lacks something, so the directory's later segments do not continue it.
	for _, l := range local {
		i := slices.IndexFunc(remote, func(f *remotefile.File) bool { return f.Name() == l.name })
		if i < 0 {
			if lacks {
				c.forked = c.forked || validEnd(l.path) > 0
			}
			continue
		}
		behind, err := c.segment(remote[i], l)
		if err != nil {
			return err
		}
		lacks = lacks || behind
	}
	for _, f := range remote {
		if len(local) == 0 || f.Name().Number > local[len(local)-1].name.Number {
			lacks = true // Prometheus has one segment more after each start; of a log without any, all is missing.
		}
	}
	c.behind = c.behind || lacks
	return nil
}

// segment compares one segment, and says whether remote memory has records of it that the directory lacks.
func (c *comparison) segment(f *remotefile.File, l localFile) (behind bool, err error) {
	n, err := c.known.commonPrefix(f, l, c.read)
	if err != nil {
		return false, err
	}
	c.met = c.met || n > 0
	complete, _ := f.Last()
	if n == f.Len() && !(complete && l.info.Size() > n) {
		return false, nil
	}
	end := validEnd(l.path)
	if end > n {
		lost, err := hasLost(f, l, n, c.read)
		c.forked = c.forked || err == nil && !lost
		return lost, err
	}
	whole, err := validEndOfBoth(f, l, n, c.read)
	return whole > end, err
}

// hasLost says whether, behind its first n bytes, the directory's segment is the one of remote memory with some
// bytes replaced by zeros. A power cut leaves such zeros where later bytes reached the disk before earlier ones.
func hasLost(f *remotefile.File, l localFile, n int64, read readFunc) (bool, error) {
	file, err := os.Open(l.path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	local := bufio.NewReaderSize(io.NewSectionReader(file, n, l.info.Size()-n), memory.MaxPiece)
	remote := bufio.NewReaderSize(&remoteReader{f: f, read: read, off: n}, memory.MaxPiece)
	for {
		ours, err := local.ReadByte()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		theirs, remoteErr := remote.ReadByte()
		if errors.Is(remoteErr, io.EOF) { // Zeros may be behind it.
			theirs, remoteErr = 0, nil
		}
		if err := errors.Join(err, remoteErr); err != nil {
			return false, err
		}
		if ours != 0 && ours != theirs {
			return false, nil
		}
	}
}

// remoteReader reads a remote file from an offset on, piece by piece.
type remoteReader struct {
	f    *remotefile.File
	read readFunc
	off  int64
	err  error
}

// Read implements io.Reader.
func (r *remoteReader) Read(p []byte) (int, error) {
	p = p[:min(int64(len(p)), memory.MaxPiece, r.f.Len()-r.off)]
	if len(p) == 0 {
		return 0, io.EOF
	}
	if r.err = r.read(r.f, p, r.off); r.err != nil {
		return 0, r.err
	}
	r.off += int64(len(p))
	return len(p), nil
}

// validEndOfBoth is the end of the last whole record in a segment that consists of the directory's first n bytes
// and the bytes of remote memory behind them.
func validEndOfBoth(f *remotefile.File, l localFile, n int64, read readFunc) (int64, error) {
	file, err := os.Open(l.path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	rest := &remoteReader{f: f, read: read, off: n}
	end := validEndOf(io.MultiReader(io.LimitReader(file, n), rest))
	return end, rest.err
}

// readFunc fills p with the bytes of a remote file from an offset on. However slow the link is, it ends.
type readFunc = func(f *remotefile.File, p []byte, off int64) error

// readsFrom reads from a memory, until ctx ends.
func readsFrom(ctx context.Context, mem remotefile.Memory) readFunc {
	return func(f *remotefile.File, p []byte, off int64) error { return memory.ReadFile(ctx, mem, f, p, off) }
}

// commonPrefix is how many bytes at their beginning a remote file and a local one have in common. Of the remote
// file it reads only the piece in which the two differ.
func commonPrefix(f *remotefile.File, l localFile, read readFunc) (int64, error) {
	file, err := os.Open(l.path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	buf := make([]byte, 256<<10) // A part of a piece; a piece is read whole only if its checksum differs.
	for _, p := range f.Pieces() {
		sum := remotefile.NewChecksum()
		n, err := io.CopyBuffer(sum, io.NewSectionReader(file, p.Offset, p.Length), buf)
		if err != nil {
			return 0, err
		}
		if n < p.Length || sum.Sum32() != p.CRC {
			return whereTheyPart(f, p, file, read)
		}
	}
	return f.Len(), nil
}

// whereTheyPart is the offset of the first byte of a piece that differs.
func whereTheyPart(f *remotefile.File, p remotefile.Piece, file *os.File, read readFunc) (int64, error) {
	local, remote := make([]byte, p.Length), make([]byte, p.Length)
	n, err := readAtMost(file, local, p.Offset)
	if err != nil {
		return 0, err
	}
	if err := read(f, remote, p.Offset); err != nil {
		return 0, err
	}
	for i := range n {
		if local[i] != remote[i] {
			return p.Offset + int64(i), nil
		}
	}
	return p.Offset + int64(n), nil
}

// validEnd is the end of the last whole record in a segment; 0 if there is none, or no file.
func validEnd(path string) int64 {
	file, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer file.Close()
	return validEndOf(file)
}

func validEndOf(r io.Reader) (end int64) {
	records := wlog.NewReader(bufio.NewReaderSize(r, 1<<20))
	for records.Next() {
		end = records.Offset()
	}
	return end
}
