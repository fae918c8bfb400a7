// SPDX-License-Identifier: Apache-2.0

// Cutting torn ends of logs.

package tail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/maas-memory/maas/prometheus/remotefile"
)

// CutTorn cuts the ends of a data directory's logs down to whole records, before a database opens the directory. A
// crash leaves a torn end, and so does a take-over, because the last copied bytes may end anywhere. Prometheus
// would repair a torn WAL in the same way, but would then not read the WBL, and so lack late samples.
func CutTorn(dir string, logger *slog.Logger) error {
	for _, kind := range []remotefile.Kind{remotefile.WAL, remotefile.WBL} {
		files, err := listLog(dir, kind)
		if err != nil {
			return err
		}
		for len(files) > 0 && files[len(files)-1].info.Size() == 0 {
			files = files[:len(files)-1]
		}
		if len(files) == 0 {
			continue
		}
		last := files[len(files)-1]
		cut, err := cutTornFile(last.path)
		if err != nil {
			return fmt.Errorf("cut the torn end of %s: %w", last.name, err)
		}
		if cut > 0 {
			logger.Warn("MaaS: cut the torn end of the log, which was not a whole record", "file", last.name, "bytes", cut)
		}
	}
	return nil
}

// cutTornFile returns how many bytes it cut. Zeros at the end only fill a page.
func cutTornFile(path string) (cut int64, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	end := validEndOf(file)
	if _, err := file.Seek(end, io.SeekStart); err != nil {
		return 0, err
	}
	rest, err := io.ReadAll(file)
	if err != nil || len(bytes.Trim(rest, "\x00")) == 0 {
		return 0, err
	}
	if err := file.Truncate(end); err != nil {
		return 0, err
	}
	return int64(len(rest)), file.Sync()
}
