// SPDX-License-Identifier: Apache-2.0

package maasflag

import (
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/alecthomas/units"
	"github.com/stretchr/testify/require"
)

func TestFallback__every_form_parses(t *testing.T) {
	for _, c := range []struct {
		args []string
		want bool
	}{
		{nil, true},
		{[]string{"--storage.tsdb.maas.fallback"}, true},
		{[]string{"--storage.tsdb.maas.fallback=true"}, true},
		{[]string{"--storage.tsdb.maas.fallback=false"}, false},
		{[]string{"--no-storage.tsdb.maas.fallback"}, false},
	} {
		app := kingpin.New("prometheus", "")
		config := Add(app.Flag)
		_, err := app.Parse(NormaliseArgs(append([]string{"--storage.tsdb.maas.url=http://host:3000"}, c.args...)))
		require.NoError(t, err)
		require.Equal(t, c.want, config.Fallback, c.args)
		require.Equal(t, int64(64<<20), int64(config.CacheSize))
	}
}

func TestCheck__a_snapshot_needs_local_files(t *testing.T) {
	require.NoError(t, (&Config{Fallback: true, CacheSize: units.MiB}).check(true))
	require.ErrorContains(t, (&Config{Fallback: false, CacheSize: units.MiB}).check(true), "memory-snapshot-on-shutdown")
}

func TestCheck__there_is_a_cache(t *testing.T) {
	for _, size := range []string{"0", "0MB", "1KB", "63KB"} {
		app := kingpin.New("prometheus", "")
		config := Add(app.Flag)
		_, err := app.Parse([]string{"--storage.tsdb.maas.cache-size=" + size})
		require.NoError(t, err)
		require.ErrorContains(t, config.check(false), "cache-size", size)
	}
	require.NoError(t, (&Config{CacheSize: 64 * units.KiB}).check(false))
}

func TestBlocks__a_share_of_the_pool_a_size_or_nothing(t *testing.T) {
	for _, c := range []struct {
		text string
		size int64
		on   bool
	}{{"auto", 0, true}, {"off", 0, false}, {"8GB", 8 << 30, true}, {"0B", -1, true}} {
		app := kingpin.New("prometheus", "")
		config := Add(app.Flag)
		_, err := app.Parse([]string{"--storage.tsdb.maas.blocks=" + c.text})
		require.NoError(t, err)
		require.NoError(t, config.check(false))
		size, on, err := config.blocksSize()
		require.NoError(t, err)
		require.Equal(t, c.size, size, c.text)
		require.Equal(t, c.on, on, c.text)
	}
	config := Add(kingpin.New("prometheus", "").Flag)
	config.CacheSize, config.Blocks = 64<<20, "much"
	require.ErrorContains(t, config.check(false), "8GB")
}
