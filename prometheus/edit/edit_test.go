// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// versions are the pinned version, the two minor versions before it and the one after it.
var versions = []string{"v0.313.5", "v0.314.0", "v0.315.1", "v0.316.0"}

// source copies, from a version of Prometheus, the files that are edited.
func source(t *testing.T, version string) string {
	out, err := exec.Command("go", "mod", "download", "-json", "github.com/prometheus/prometheus@"+version).Output()
	require.NoError(t, err)
	var module struct{ Dir string }
	require.NoError(t, json.Unmarshal(out, &module))
	dir := t.TempDir()
	for _, e := range edits {
		b := maastest.Must(os.ReadFile(filepath.Join(module.Dir, e.file)))(t)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, e.file)), 0o777))
		require.NoError(t, os.WriteFile(filepath.Join(dir, e.file), b, 0o444))
	}
	for _, folder := range []string{"tsdb/chunks", "tsdb/wlog"} { // Files are added there.
		require.NoError(t, os.MkdirAll(filepath.Join(dir, folder), 0o777))
	}
	return dir
}

func read(t *testing.T, dir, file string) string {
	b := maastest.Must(os.ReadFile(filepath.Join(dir, file)))(t)
	return string(b)
}

func TestApply__every_named_version(t *testing.T) {
	for _, version := range versions {
		dir := source(t, version)
		report, err := apply(dir, "", edits)
		require.NoError(t, err, version)
		require.Contains(t, report, "8 files changed, 7 added")
		for _, e := range edits {
			require.Contains(t, read(t, dir, e.file), e.with)
			require.True(t, strings.HasPrefix(read(t, dir, e.file), mark))
		}
		head := read(t, dir, headGo)
		require.Contains(t, maastest.Must(apply(dir, "", edits))(t), "already edited")
		require.Equal(t, head, read(t, dir, headGo))
	}
}

func TestApply__only_a_folder(t *testing.T) {
	dir := source(t, versions[0])
	before := read(t, dir, mainGo)
	require.NoError(t, maastest.Err(apply(dir, "tsdb", edits)))
	require.Equal(t, before, read(t, dir, mainGo))

	// The rest can follow.
	require.Contains(t, maastest.Must(apply(dir, "", edits))(t), "3 files changed")
	require.Contains(t, read(t, dir, mainGo), "maasflag.New(")
	require.Equal(t, 1, strings.Count(read(t, dir, headGo), mark))
}

func TestApply__a_tree_with_other_edits_is_refused(t *testing.T) {
	dir := source(t, versions[0])
	_, err := apply(dir, "tsdb", edits[1:]) // As an older list of edits would leave it.
	require.NoError(t, err)
	before := read(t, dir, headGo)
	_, err = apply(dir, "", edits)
	require.ErrorContains(t, err, "tsdb/head.go: edited before, but not so; begin with a fresh tree")
	require.Equal(t, before, read(t, dir, headGo))
	require.False(t, strings.HasPrefix(read(t, dir, mainGo), mark))
}

func TestApply__a_moved_anchor_changes_nothing_and_is_named(t *testing.T) {
	dir := source(t, versions[0])
	text := strings.ReplaceAll(read(t, dir, headGo), "func (h *Head) mmapHeadChunks() {", "func (h *Head) mmapAll() {")
	require.NoError(t, replace(filepath.Join(dir, headGo), text))
	_, err := apply(dir, "", edits)
	require.ErrorContains(t, err, "tsdb/head.go: expected 1 times, found 0 times")
	require.ErrorContains(t, err, "func (h *Head) mmapHeadChunks() {")
	for _, e := range edits {
		require.NotContains(t, read(t, dir, e.file), mark)
	}
	require.ErrorContains(t, maastest.Err(apply(t.TempDir(), "", edits)), "the root of a Prometheus tree")
}

// What a file that is added to web does needs nothing of Prometheus.
func TestAdd__the_tests_of_web_pass(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "web"), 0o777))
	for _, folder := range []string{"files", "testfiles"} {
		require.NotZero(t, maastest.Must(add(folder, dir, "web/maas"))(t))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "web", "go.mod"), []byte("module web\n\ngo 1.26\n"), 0o666))
	test := exec.Command("go", "test", "-count=1", "-timeout=1m", ".")
	test.Dir = filepath.Join(dir, "web")
	out, err := test.CombinedOutput()
	require.NoError(t, err, string(out))
}
