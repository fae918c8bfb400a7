// SPDX-License-Identifier: Apache-2.0

package maasflag

import (
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/alecthomas/units"
	"github.com/maas-memory/maas/prometheus/test/shared"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// parse is the configuration that arguments make.
func parse(t *testing.T, args ...string) *Config {
	app := kingpin.New("prometheus", "")
	config := Add(app.Flag)
	require.NoError(t, maastest.Err(app.Parse(NormaliseArgs(args))))
	return config
}

func TestFallback__every_form_parses(t *testing.T) {
	for args, want := range map[string]bool{
		"": true, "--storage.tsdb.maas.fallback": true, "--storage.tsdb.maas.fallback=true": true,
		"--storage.tsdb.maas.fallback=false": false, "--no-storage.tsdb.maas.fallback": false,
	} {
		config := parse(t, append(strings.Fields(args), "--storage.tsdb.maas.url=http://host:3000")...)
		require.Equal(t, want, config.Fallback, args)
		require.Equal(t, int64(64<<20), int64(config.CacheSize))
	}
}

func TestCheck__a_snapshot_needs_local_files(t *testing.T) {
	require.NoError(t, (&Config{Fallback: true, CacheSize: units.MiB}).check(true))
	require.ErrorContains(t, (&Config{Fallback: false, CacheSize: units.MiB}).check(true), "memory-snapshot-on-shutdown")
}

func TestCheck__there_is_a_cache(t *testing.T) {
	for _, size := range []string{"0", "0MB", "1KB", "63KB"} {
		require.ErrorContains(t, parse(t, "--storage.tsdb.maas.cache-size="+size).check(false), "cache-size", size)
	}
	require.NoError(t, (&Config{CacheSize: 64 * units.KiB}).check(false))
}

func TestCheck__nothing_waits_for_less_than_nothing(t *testing.T) {
	for flag, value := range map[string]string{"read-timeout": "-1s", "max-pending-age": "-1s", "max-pending-size": "-1MB"} {
		require.ErrorContains(t, parse(t, "--storage.tsdb.maas."+flag+"="+value).check(false), flag+" is negative")
	}
	require.NoError(t, parse(t).check(false))
}

func TestBlocks__a_share_of_the_pool_a_size_or_nothing(t *testing.T) {
	for _, c := range []struct {
		text string
		size int64
		on   bool
	}{{"auto", 0, true}, {"off", 0, false}, {"8GB", 8 << 30, true}, {"0B", -1, true}} {
		config := parse(t, "--storage.tsdb.maas.blocks="+c.text)
		require.NoError(t, config.check(false))
		size, on, err := config.blocksSize()
		require.NoError(t, err)
		require.Equal(t, c.size, size, c.text)
		require.Equal(t, c.on, on, c.text)
	}
	require.ErrorContains(t, parse(t, "--storage.tsdb.maas.blocks=much").check(false), "8GB")
}

// flagsNow is our flags, and whether each is a switch.
func flagsNow() map[string]bool {
	app := kingpin.New("prometheus", "")
	Add(app.Flag)
	now := map[string]bool{}
	for _, flag := range app.Model().Flags {
		if strings.HasPrefix(flag.Name, prefix) {
			now[flag.Name] = flag.IsBoolFlag()
		}
	}
	return now
}

func TestFlags__those_of_releases_are_there(t *testing.T) {
	shared.Released(t, "prometheus-flags.json", flagsNow())
}
