// SPDX-License-Identifier: Apache-2.0

package maastest

import (
	"path/filepath"
	"testing"
)

// A client has the URL, and finds the server there again, however the options say where to listen.
func TestRestart(t *testing.T) {
	for name, options := range map[string][]string{
		"nowhere":     nil,
		"any port":    {"--listen", "127.0.0.1:0"},
		"with =":      {"--listen=127.0.0.1:0"},
		"twice":       {"--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"},
		"on a socket": {"--listen", "unix:" + filepath.Join(t.TempDir(), "socket")},
	} {
		t.Run(name, func(t *testing.T) {
			s := Start(t, options...)
			url := s.URL
			for range 2 {
				s.Restart()
				if s.URL != url {
					Fatal(t, url, "became", s.URL)
				}
			}
		})
	}
}
