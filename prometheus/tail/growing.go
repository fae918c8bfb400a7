// SPDX-License-Identifier: Apache-2.0

// A segment that grows: its bytes are fetched from remote memory as the leader writes them.

package tail

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/maas-memory/maas/prometheus/remotefile"
)

const (
	// How wlog writes records: in pages; no fragment of a record crosses the end of a page.
	logPage       = 32 << 10
	logHeader     = 7 // Type, length, checksum.
	logTypeMask   = 7
	logPadding    = 0 // The rest of the page.
	logWholeType  = 1
	logFirstType  = 2
	logMiddleType = 3
	logLastType   = 4

	// fetchBudget is what one fetch brings at most, plus one piece.
	fetchBudget = 16 << 20
)

var (
	errWrongBytes = errors.New("remote memory holds other bytes than its header says")
	errWasCut     = errors.New("the log in remote memory was cut behind what was replayed")
)

// growing is a segment of the leader's log that arrives bit by bit in a local file. Its reader returns whole
// records only, and ends, for now, where there is none: a part of a record would be taken for a torn log.
type growing struct {
	number uint32
	file   *os.File
	length int64  // The file's.
	epoch  uint64 // The remote file's writer's.

	piece int64  // Offset of the piece that was fetched last,
	sum   uint32 // and its checksum so far.

	// What extend has seen: the offset of the next fragment, and the end of the last whole record. In between,
	// a record may have begun.
	next, whole int64
	inside      bool

	given   int64 // How much the reader has got.
	records *bufio.Reader
}

// newGrowing begins the local file of a segment anew.
func newGrowing(number uint32, path string) (*growing, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	g := &growing{number: number, file: file, piece: -1}
	g.records = bufio.NewReaderSize(wholeRecords{g}, 64<<10)
	return g, nil
}

// wholeRecords reads the records that extend has seen whole. Its io.EOF is not final.
type wholeRecords struct{ g *growing }

// Read implements io.Reader.
func (r wholeRecords) Read(p []byte) (int, error) {
	g := r.g
	p = p[:min(int64(len(p)), g.whole-g.given)]
	if len(p) == 0 {
		return 0, io.EOF
	}
	n, err := g.file.ReadAt(p, g.given)
	g.given += int64(n)
	return n, err
}

// fresh says whether the reader has more to give.
func (g *growing) fresh() bool { return g.given < g.whole }

// fetch brings the bytes that the remote segment has and the local file lacks. Each piece is checked with its
// checksum, which also covers what was fetched of it before. more says that there is still more.
func (g *growing) fetch(f *remotefile.File, read readFunc) (more bool, err error) {
	if last, _ := f.Last(); f.Len() < g.length && f.Epoch() != g.epoch && !last {
		return false, nil // The server lost the segment, and the leader copies it again.
	}
	if f.Len() < g.length {
		if err := g.cut(f.Len()); err != nil {
			return false, err
		}
	}
	g.epoch = f.Epoch()
	budget := int64(fetchBudget)
	for _, p := range f.Pieces() {
		if p.Offset+p.Length <= g.length {
			continue
		}
		if budget <= 0 {
			more = true
			break
		}
		n, err := g.fetchPiece(f, p, read)
		if err != nil {
			return false, err
		}
		budget -= n
	}
	return more, g.extend()
}

func (g *growing) fetchPiece(f *remotefile.File, p remotefile.Piece, read readFunc) (int64, error) {
	sum, err := g.sumFrom(p.Offset)
	if err != nil {
		return 0, err
	}
	b := make([]byte, p.Offset+p.Length-g.length)
	if err := read(f, b, g.length); err != nil {
		return 0, err
	}
	if sum = remotefile.Extend(sum, b); sum != p.CRC {
		return 0, fmt.Errorf("segment %d at %d: %w", g.number, p.Offset, errWrongBytes)
	}
	if _, err := g.file.WriteAt(b, g.length); err != nil {
		return 0, err
	}
	g.length += int64(len(b))
	g.piece, g.sum = p.Offset, sum
	return int64(len(b)), nil
}

// sumFrom is the checksum of the local file's bytes from an offset on.
func (g *growing) sumFrom(off int64) (uint32, error) {
	switch off {
	case g.length:
		return 0, nil
	case g.piece:
		return g.sum, nil
	}
	b := make([]byte, g.length-off)
	_, err := g.file.ReadAt(b, off)
	return remotefile.Checksum(b), err
}

// cut makes the local file as short as the remote one has become: a leader that is started again cuts a torn end.
func (g *growing) cut(n int64) error {
	if err := g.file.Truncate(n); err != nil {
		return err
	}
	g.length, g.next, g.whole, g.inside, g.piece = n, 0, 0, false, -1
	if err := g.extend(); err != nil {
		return err
	}
	if g.whole < g.given {
		return fmt.Errorf("segment %d at %d: %w", g.number, n, errWasCut)
	}
	return nil
}

// extend finds the whole records in what is new.
func (g *growing) extend() error {
	left := g.length - g.next
	in := bufio.NewReaderSize(io.NewSectionReader(g.file, g.next, left), int(min(64<<10, left)))
	for g.next < g.length {
		head, err := in.Peek(1)
		if err != nil {
			return err
		}
		kind, size := head[0]&logTypeMask, logPage-g.next%logPage
		if kind != logPadding {
			if g.length-g.next < logHeader {
				return nil
			}
			if head, err = in.Peek(logHeader); err != nil {
				return err
			}
			size = logHeader + int64(binary.BigEndian.Uint16(head[1:]))
		}
		if g.next+size > g.length {
			return nil // The fragment is not complete yet.
		}
		if _, err := in.Discard(int(size)); err != nil {
			return err
		}
		g.next += size
		switch kind {
		case logFirstType, logMiddleType:
			g.inside = true
		case logWholeType, logLastType:
			g.inside = false
		}
		if !g.inside {
			g.whole = g.next
		}
	}
	return nil
}

// end cuts everything behind the last whole record, and closes the file.
func (g *growing) end() error {
	return errors.Join(g.file.Truncate(g.whole), g.file.Sync(), g.file.Close())
}
