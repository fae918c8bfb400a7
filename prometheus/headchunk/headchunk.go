// SPDX-License-Identifier: Apache-2.0

// Package headchunk reads and writes the records of head chunk files, in the format that Prometheus documents in
// tsdb/docs/format/head_chunks.md. It does not look into the bytes of a chunk.
package headchunk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

const (
	// FileHeaderSize is where the first record of a file begins.
	FileHeaderSize = chunks.HeadChunkFileHeaderSize
	// PrefixSize is how many bytes of a record are enough to know its size; a record may be shorter.
	PrefixSize = dataLenOffset + chunks.MaxChunkLengthFieldSize

	mintOffset    = chunks.SeriesRefSize
	maxtOffset    = mintOffset + chunks.MintMaxtSize
	encOffset     = maxtOffset + chunks.MintMaxtSize
	dataLenOffset = encOffset + chunks.ChunkEncodingSize
	oooMask       = chunks.OutOfOrderMask

	formatV1 = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Errors of Parse and Size.
var (
	ErrEnd      = errors.New("no further record")
	ErrShort    = errors.New("the record continues behind these bytes")
	ErrChecksum = errors.New("checksum mismatch of a head chunk")
)

// FileHeader is the beginning of a file.
func FileHeader() [FileHeaderSize]byte {
	var b [FileHeaderSize]byte
	binary.BigEndian.PutUint32(b[:], chunks.MagicHeadChunks)
	b[chunks.MagicChunksSize] = formatV1
	return b
}

// Record is one chunk and its description.
type Record struct {
	Series     chunks.HeadSeriesRef
	Mint, Maxt int64
	Encoding   chunkenc.Encoding // Without the out-of-order bit.
	OutOfOrder bool
	Data       []byte
}

// NumSamples is the number of samples, with which the bytes of every chunk begin.
func (r *Record) NumSamples() uint16 {
	if len(r.Data) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(r.Data)
}

// EncodedSize is how many bytes Append adds for dataLen bytes of data.
func EncodedSize(dataLen int) int {
	var b [binary.MaxVarintLen64]byte
	return dataLenOffset + binary.PutUvarint(b[:], uint64(dataLen)) + dataLen + chunks.CRCSize
}

// Append encodes r behind b.
func Append(b []byte, r Record) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Series))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Mint))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Maxt))
	enc := byte(r.Encoding)
	if r.OutOfOrder {
		enc |= oooMask
	}
	b = append(b, enc)
	b = binary.AppendUvarint(b, uint64(len(r.Data)))
	b = append(b, r.Data...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// Size is the size of the record at the beginning of b; PrefixSize bytes are enough. ErrEnd: the file's zeros
// begin here. ErrShort: b is too short to tell.
func Size(b []byte) (int, error) {
	if len(b) < dataLenOffset+1 {
		return 0, ErrShort
	}
	if binary.BigEndian.Uint64(b) == 0 && binary.BigEndian.Uint64(b[mintOffset:]) == 0 && binary.BigEndian.Uint64(b[maxtOffset:]) == 0 {
		return 0, ErrEnd
	}
	n, width := binary.Uvarint(b[dataLenOffset:min(len(b), PrefixSize)])
	switch {
	case width == 0:
		return 0, ErrShort
	case width < 0 || n < minData(chunkenc.Encoding(b[encOffset]&^oooMask)) || n > chunks.MaxHeadChunkFileSize:
		return 0, fmt.Errorf("a head chunk of %d bytes: %w", n, ErrChecksum)
	}
	return dataLenOffset + width + int(n) + chunks.CRCSize, nil
}

// minData is the least length that the encodings assume: the number of samples, and in all but the first encoding
// a byte of flags.
func minData(e chunkenc.Encoding) uint64 {
	if e == chunkenc.EncXOR || !chunkenc.IsValidEncoding(e) {
		return 2
	}
	return 3
}

// Parse reads the record at the beginning of b and returns its size. Data points into b.
func Parse(b []byte) (Record, int, error) {
	size, err := Size(b)
	if err != nil {
		return Record{}, 0, err
	}
	if len(b) < size {
		return Record{}, 0, ErrShort
	}
	end := size - chunks.CRCSize
	if binary.BigEndian.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli) {
		return Record{}, 0, ErrChecksum
	}
	_, width := binary.Uvarint(b[dataLenOffset:])
	return Record{
		Series:     chunks.HeadSeriesRef(binary.BigEndian.Uint64(b)),
		Mint:       int64(binary.BigEndian.Uint64(b[mintOffset:])),
		Maxt:       int64(binary.BigEndian.Uint64(b[maxtOffset:])),
		Encoding:   chunkenc.Encoding(b[encOffset] &^ oooMask),
		OutOfOrder: b[encOffset]&oooMask != 0,
		Data:       b[dataLenOffset+width : end],
	}, size, nil
}

// Prefix returns how many bytes at the beginning of b are whole, valid records. The rest may be a record that is
// still being written, the zeros that a file is extended with, or damage.
func Prefix(b []byte) (n, records int) {
	for {
		_, size, err := Parse(b[n:])
		if err != nil {
			return n, records
		}
		n += size
		records++
	}
}
