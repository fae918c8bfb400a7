// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"

	"maas/client/prometheus/segment"
)

// Markers: a WBL says of late samples, in between, that they are in a chunk of the head, by the chunk's place in the
// leader's files. Who has other chunk files, because it made its own from the leader's log, must not read them: it
// would take its own chunks for those, and drop the samples.

// withoutMarkers returns the whole records of a segment of a WBL, but for its markers: the very bytes where there is
// none. tmp is a directory to work in, which must not exist.
func withoutMarkers(b []byte, tmp string, logger *slog.Logger) ([]byte, error) {
	b = b[:validEndOf(bytes.NewReader(b))]
	decoder := record.NewDecoder(nil, logger)
	var records [][]byte
	markers := false
	for r := wlog.NewReader(bytes.NewReader(b)); r.Next(); {
		if decoder.Type(r.Record()) == record.MmapMarkers {
			markers = true
			continue
		}
		records = append(records, bytes.Clone(r.Record()))
	}
	if !markers {
		return b, nil
	}
	defer os.RemoveAll(tmp)
	w, err := wlog.NewSize(logger, nil, tmp, (len(b)/logPage+2)*logPage, compression.Snappy)
	if err != nil {
		return nil, err
	}
	err = w.Log(records...)
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, err
	}
	var out []byte
	files, err := listNumbered(tmp, segment.Name{Kind: segment.WBL})
	for _, f := range files {
		part, err := os.ReadFile(filepath.Join(tmp, filepath.Base(f.path)))
		if err != nil {
			return nil, err
		}
		out = append(out, part...)
	}
	return out, err
}
