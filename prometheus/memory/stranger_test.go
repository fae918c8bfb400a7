// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

func tokenOf(name string) func() (string, error) {
	return func() (string, error) { return "mt_" + name, nil }
}

// startWith starts a server of these principals, each of which owns its own name.
func startWith(t *testing.T, names ...string) *maastest.Server {
	t.Helper()
	var lines []byte
	for _, name := range names {
		lines = fmt.Appendf(lines, "%s token=sha256:%x owner=%s\n", name, sha256.Sum256([]byte("mt_"+name)), name)
	}
	file := filepath.Join(t.TempDir(), "principals")
	require.NoError(t, os.WriteFile(file, lines, 0o600))
	return maastest.Start(t, "--auth-file", file)
}

// fence does what takes an owner's memory from its Prometheus: a file of the owner's with a later epoch, and the
// session of the owner's name. It returns what the server says to either.
func fence(t *testing.T, url string, token func() (string, error)) (file, session error) {
	t.Helper()
	stranger, err := maas.Open(context.Background(), maas.Options{URL: url, Transport: "http", Token: token})
	require.NoError(t, err)
	defer stranger.Close()
	f := remotefile.New("me", 1<<40, remotefile.Name{Kind: remotefile.WAL, Number: 7}, false)
	file = f.Append(context.Background(), stranger, []byte("forged"))
	squatter, session := maas.Open(context.Background(),
		maas.Options{URL: url, Transport: "http", Token: token, Name: "me", Exclusive: true})
	if session == nil {
		squatter.Close()
	}
	return file, session
}

// breakShortly breaks the connection to the server for as long as it takes to be noticed.
func breakShortly(m *Manager, server *maastest.Server) {
	server.Pause()
	_ = m.Read("any", 50*time.Millisecond, func(ctx context.Context, c *Conn) error { _, err := c.Health(ctx); return err })
	server.Resume()
}

func TestStranger__fences_an_owner_where_everybody_may(t *testing.T) {
	server := maastest.Start(t)
	m := open(t, server.URL)
	require.NoError(t, health(m))
	file, session := fence(t, server.URL, nil)
	require.NoError(t, file)
	require.ErrorIs(t, session, maas.ErrNameTaken)
	breakShortly(m, server)
	maastest.Eventually(t, "it is fenced", m.Fenced)
}

func TestStranger__is_refused_where_there_are_principals(t *testing.T) {
	server := startWith(t, "me", "stranger")
	m := opened(t, Options{URL: server.URL, Owner: "me", Proof: maas.Options{Token: tokenOf("me")}})
	require.NoError(t, health(m))
	file, session := fence(t, server.URL, tokenOf("stranger"))
	require.ErrorContains(t, file, "may not allocate for the owner me")
	require.ErrorContains(t, session, "forbidden")
	breakShortly(m, server)
	maastest.Eventually(t, "the server is in use", func() bool { return health(m) == nil })
	require.False(t, m.Fenced())

	// Nor may it while the name is free.
	require.NoError(t, m.Close())
	_, session = fence(t, server.URL, tokenOf("stranger"))
	require.ErrorContains(t, session, "forbidden")
}
