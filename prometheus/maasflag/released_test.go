// SPDX-License-Identifier: Apache-2.0

package maasflag

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/stretchr/testify/require"
)

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

// Every flag of every release is there: tests/released. With MAAS_WRITE_RELEASED it writes them into that directory.
func TestFlags__those_of_releases_are_there(t *testing.T) {
	now := flagsNow()
	if dir := os.Getenv("MAAS_WRITE_RELEASED"); dir != "" {
		b, err := json.MarshalIndent(now, "", " ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus-flags.json"), append(b, '\n'), 0o666))
		return
	}
	files, err := filepath.Glob("../../tests/released/*/prometheus-flags.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		var then map[string]bool
		require.NoError(t, json.Unmarshal(b, &then))
		require.NotEmpty(t, then)
		for name, isSwitch := range then {
			require.Contains(t, now, name, file)
			require.Equal(t, isSwitch, now[name], "%s, of %s", name, file)
		}
	}
}
