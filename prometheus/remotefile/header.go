// SPDX-License-Identifier: Apache-2.0

// The header of an extent. There are two slots for it, which are written in turn: at whatever moment a writer
// dies, one slot is whole. The file's bytes follow.

package remotefile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	slotSize   = 64
	HeaderSize = 2 * slotSize

	magic   = 0x6753614D // "MaSg", little-endian
	version = 1

	flagLast  = 1 << 0 // No extent of this file follows.
	flagFinal = 1 << 1 // No file of this set follows (the last part of a checkpoint).

	flagSorted = 1 << 2 // Chunks in the order of labels.
)

// Kind says what Prometheus uses a file for.
type Kind uint8

// The kinds of files.
const (
	Chunks     Kind = 1 // chunks_head/NUMBER
	WAL        Kind = 2 // wal/NUMBER
	WBL        Kind = 3 // wbl/NUMBER
	Checkpoint Kind = 4 // wal/checkpoint.NUMBER/PART
	Block      Kind = 5 // A block's files; package blocks says which part is which.
	Snapshot   Kind = 6 // chunk_snapshot.NUMBER.OFFSET/PART
)

func (k Kind) String() string {
	switch k {
	case Chunks:
		return "chunks_head"
	case WAL:
		return "wal"
	case WBL:
		return "wbl"
	case Checkpoint:
		return "checkpoint"
	case Block:
		return "block"
	case Snapshot:
		return "chunk_snapshot"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Name names a file. Part is 0 except in files of a checkpoint, of a block or of a snapshot.
type Name struct {
	Kind   Kind
	Number uint32
	Part   uint32
}

func (n Name) String() string {
	switch n.Kind {
	case Checkpoint, Block, Snapshot:
		return fmt.Sprintf("%s.%08d/%08d", n.Kind, n.Number, n.Part)
	}
	return fmt.Sprintf("%s/%08d", n.Kind, n.Number)
}

// header says what an extent holds. All numbers are little-endian:
//
//	 0  magic      u32     20  generation u32     44  crc of the bytes u32
//	 4  version    u8      24  base       u64     60  crc of this slot u32
//	 5  kind       u8      32  epoch      u64
//	 6  flags      u16     40  length     u32
//	 8  number     u32     48  extra      u64
//	12  part       u32     56  chunks     u32
//	16  index      u32
//
// The checksums are CRC-32C. The slot with the higher generation counts. The meaning of extra depends on the kind:
//
//	chunks    u32 number of the file in front, u32 its length; zero: the number is one less
//	WAL       i64 where the head begins, the sign bit inverted; zero: where the log does
//	snapshot  u64 the offset in its name
//
// Chunks is the number of the last file of chunks that a snapshot relies on; zero: it does not say.
type header struct {
	name       Name
	flags      uint16
	index      uint32 // Position of the extent in its file, counted from 0.
	generation uint32
	base       uint64 // Offset of its first byte in the file.
	epoch      uint64 // The writer's.
	length     uint32 // How many bytes the extent holds.
	crc        uint32 // CRC-32C of these bytes.
	extra      uint64
	chunks     uint32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errNoHeader = errors.New("no valid header")

func (h *header) encode(b *[slotSize]byte) {
	*b = [slotSize]byte{}
	le := binary.LittleEndian
	le.PutUint32(b[0:], magic)
	b[4] = version
	b[5] = byte(h.name.Kind)
	le.PutUint16(b[6:], h.flags)
	le.PutUint32(b[8:], h.name.Number)
	le.PutUint32(b[12:], h.name.Part)
	le.PutUint32(b[16:], h.index)
	le.PutUint32(b[20:], h.generation)
	le.PutUint64(b[24:], h.base)
	le.PutUint64(b[32:], h.epoch)
	le.PutUint32(b[40:], h.length)
	le.PutUint32(b[44:], h.crc)
	le.PutUint64(b[48:], h.extra)
	le.PutUint32(b[56:], h.chunks)
	le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
}

func decodeSlot(b []byte) (header, error) {
	le := binary.LittleEndian
	if le.Uint32(b[0:]) != magic || le.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) {
		return header{}, errNoHeader
	}
	if b[4] != version {
		return header{}, fmt.Errorf("header version %d, this program knows %d: use the version of Prometheus that wrote it, or another owner name", b[4], version)
	}
	return header{
		name:       Name{Kind: Kind(b[5]), Number: le.Uint32(b[8:]), Part: le.Uint32(b[12:])},
		flags:      le.Uint16(b[6:]),
		index:      le.Uint32(b[16:]),
		generation: le.Uint32(b[20:]),
		base:       le.Uint64(b[24:]),
		epoch:      le.Uint64(b[32:]),
		length:     le.Uint32(b[40:]),
		crc:        le.Uint32(b[44:]),
		extra:      le.Uint64(b[48:]),
		chunks:     le.Uint32(b[56:]),
	}, nil
}

// decodeHeader returns the newer of the two slots.
func decodeHeader(b []byte, capacity int64) (header, error) {
	var best header
	err := errNoHeader
	for i := range 2 {
		h, slotErr := decodeSlot(b[i*slotSize : (i+1)*slotSize])
		switch {
		case slotErr != nil && err != nil && !errors.Is(slotErr, errNoHeader):
			err = slotErr
		case slotErr == nil && (err != nil || h.generation > best.generation):
			best, err = h, nil
		}
	}
	if err == nil && int64(best.length) > capacity {
		return header{}, fmt.Errorf("header says %d bytes, the extent holds %d", best.length, capacity)
	}
	return best, err
}
