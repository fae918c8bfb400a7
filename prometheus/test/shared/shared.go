// SPDX-License-Identifier: Apache-2.0

// Package shared has what the tests of several packages need beside maastest.
package shared

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
)

// Client is a client that has nothing to do with the memory under test. It is closed with the test.
func Client(t testing.TB, url string) *maas.Client {
	t.Helper()
	c := maastest.Must(maas.Open(context.Background(), maas.Options{URL: url, Transport: maas.TransportHTTP}))(t)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

var uptime = regexp.MustCompile(`"uptime_seconds": *\d+`)

// Old is the URL of a server that says that it runs for an hour: no leader of an earlier start comes back for its name.
func Old(t testing.TB, url string) string { return aged(t, url, "3600") }

// Young is the URL of a server that says that it was started a moment ago, however long a test takes.
func Young(t testing.TB, url string) string { return aged(t, url, "0") }

func aged(t testing.TB, url, seconds string) string {
	return maastest.Proxy(t, url, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if r.URL.Path != "/health" {
			serve(w, r)
			return
		}
		answer := httptest.NewRecorder()
		serve(answer, r)
		w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
		w.WriteHeader(answer.Code)
		_, _ = w.Write(uptime.ReplaceAll(answer.Body.Bytes(), []byte(`"uptime_seconds": `+seconds)))
	})
}

// SlowLink is the URL of a way to a server over which each request, and each answer, gets this many bytes a second.
func SlowLink(t testing.TB, server string, rate int) string {
	return maastest.Proxy(t, server, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		var body bytes.Buffer
		for {
			n, err := io.CopyN(&body, r.Body, 32<<10)
			time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return // The client has given up.
			}
		}
		r.Body = io.NopCloser(&body)
		serve(slowWriter{w, rate}, r)
	})
}

// BeforeStep is a time of the past that a host's clock showed before it was set back by an hour.
func BeforeStep(ago time.Duration) time.Time {
	t := time.Now().Add(-ago)
	*(*uint64)(unsafe.Pointer(&t)) += 3600 << 30 // Seconds of the wall clock, beside those of the monotonic one.
	return t
}

// slowWriter writes this many bytes a second.
type slowWriter struct {
	http.ResponseWriter
	rate int
}

// Write implements io.Writer.
func (w slowWriter) Write(p []byte) (int, error) {
	for part := range slices.Chunk(p, 32<<10) {
		time.Sleep(time.Duration(len(part)) * time.Second / time.Duration(w.rate))
		if n, err := w.ResponseWriter.Write(part); err != nil {
			return n, err
		}
	}
	return len(p), nil
}

// Exists says whether a file is there.
func Exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Contents maps the files below the entries of a directory that match one of the patterns to their bytes. Where files
// go away meanwhile, there is an error.
func Contents(dir string, patterns ...string) (files map[string]string, err error) {
	files = map[string]string{}
	for _, pattern := range patterns {
		roots, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, root := range roots {
			err = errors.Join(err, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				b, err := os.ReadFile(path)
				if name, _ := filepath.Rel(dir, path); err == nil {
					files[name] = string(b)
				}
				return err
			}))
		}
	}
	return files, err
}

// Released wants everything that the releases had, by its name, to be there and the same: tests/released has a file of
// each release. With MAAS_WRITE_RELEASED it writes what is there now into that directory.
func Released[T any](t *testing.T, name string, now map[string]T) {
	t.Helper()
	if dir := os.Getenv("MAAS_WRITE_RELEASED"); dir != "" {
		b := maastest.Must(json.MarshalIndent(now, "", " "))(t)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), append(b, '\n'), 0o666))
		return
	}
	files := maastest.Must(filepath.Glob("../../tests/released/*/" + name))(t)
	require.NotEmpty(t, files)
	for _, file := range files {
		b := maastest.Must(os.ReadFile(file))(t)
		var then map[string]T
		require.NoError(t, json.Unmarshal(b, &then))
		require.NotEmpty(t, then)
		for name, want := range then {
			require.Contains(t, now, name, file)
			require.Equal(t, want, now[name], "%s, of %s", name, file)
		}
	}
}
