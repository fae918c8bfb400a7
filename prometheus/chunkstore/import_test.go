// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// writeLocal writes some local files of n chunks each.
func (s *remote) writeLocal(files, n int) (chunkDir string, all []written) {
	s.t.Helper()
	chunkDir = filepath.Join(s.dir, "chunks_head")
	local := localChunks(s.t, chunkDir)
	for range files {
		all = append(all, write(s.t, local, s.rnd, n)...)
		local.CutNewFile()
	}
	require.NoError(s.t, local.Close())
	return chunkDir, all
}

func TestImport__local_chunks_become_remote_and_their_files_go(t *testing.T) {
	s := newRemote(t, RemoteOptions{})
	chunkDir, all := s.writeLocal(2, 1000)
	n, err := s.Import(chunkDir)
	require.NoError(t, err)
	require.Equal(t, len(all), n)
	require.NoDirExists(t, chunkDir)
	i := 0
	require.NoError(t, s.IterateAllChunks(func(_ chunks.HeadSeriesRef, ref chunks.ChunkDiskMapperRef, _, _ int64, _ uint16, _ chunkenc.Encoding, _ bool) error {
		all[i].ref = ref
		i++
		return nil
	}))
	s.holds(all)

	n, err = s.Import(chunkDir) // The second start.
	require.NoError(t, err)
	require.Zero(t, n)
}

// Replay reads the log behind the last chunk of a series: samples in a hole would be lost.
func TestImport__ends_in_front_of_damage(t *testing.T) {
	for what, damage := range map[string]func(t *testing.T, path string){
		"a wrong byte":   func(t *testing.T, path string) { flip(t, path, 5000) },
		"a wrong header": func(t *testing.T, path string) { flip(t, path, 0) },
		"no such file":   func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
	} {
		t.Run(what, func(t *testing.T) {
			s := newRemote(t, RemoteOptions{})
			chunkDir, _ := s.writeLocal(3, 100)
			damage(t, filepath.Join(chunkDir, "000002"))

			n, err := s.Import(chunkDir)
			require.NoError(t, err)
			require.GreaterOrEqual(t, n, 100)
			require.Less(t, n, 200)
			require.NoDirExists(t, chunkDir)
		})
	}
}

func flip(t *testing.T, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[at] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o666))
}
