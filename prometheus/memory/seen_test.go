// SPDX-License-Identifier: Apache-2.0

// A standby's session, by which others see it.

package memory

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
)

func get(t *testing.T, url string) []byte {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer http.DefaultClient.CloseIdleConnections()
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return body
}

// named is how many sessions of a name the server has, and whether one of them is exclusive.
func named(t *testing.T, url, name string) (count int, exclusive bool) {
	t.Helper()
	var answer struct {
		Sessions []struct {
			Exclusive bool `json:"exclusive"`
		} `json:"sessions"`
	}
	require.NoError(t, json.Unmarshal(get(t, url+"/sessions?name="+name), &answer))
	for _, s := range answer.Sessions {
		exclusive = exclusive || s.Exclusive
	}
	return len(answer.Sessions), exclusive
}

// standby is a standby of a leader whose name the server still holds.
func standby(t *testing.T, url, owner string) *Manager {
	t.Helper()
	m := opened(t, Options{URL: url, Owner: owner, Follow: true})
	require.True(t, m.Following())
	return m
}

func look(t *testing.T, m *Manager) {
	t.Helper()
	mem, err := m.Look(context.Background())
	require.NoError(t, err)
	_, err = mem.List(context.Background(), m.Owner())
	require.NoError(t, err)
}

func leader(t *testing.T, url, owner string) *maas.Client {
	t.Helper()
	o := Options{URL: url, Owner: owner, Transport: maastest.Transport()}
	c, err := maas.Open(context.Background(), o.client())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestFollow__a_standby_is_seen_until_it_leads(t *testing.T) {
	server := maastest.Start(t)
	first := leader(t, server.URL, "me")
	one, two := standby(t, server.URL, "me"), standby(t, server.URL, "me")
	look(t, one)
	look(t, one) // The same session.
	look(t, two)
	count, exclusive := named(t, server.URL, "me@follow")
	require.Equal(t, 2, count)
	require.False(t, exclusive)

	require.NoError(t, two.Close())
	count, _ = named(t, server.URL, "me@follow")
	require.Equal(t, 1, count)

	require.Error(t, one.Lead(context.Background()))
	require.NoError(t, first.Close())
	require.NoError(t, one.Lead(context.Background()))
	count, _ = named(t, server.URL, "me@follow")
	require.Zero(t, count)
	count, exclusive = named(t, server.URL, "me")
	require.Equal(t, 1, count)
	require.True(t, exclusive)
}

func TestFollow__a_standby_whose_session_was_lost_is_seen_again(t *testing.T) {
	server := maastest.Start(t)
	leader(t, server.URL, "me")
	m := standby(t, server.URL, "me")
	look(t, m)
	lost := m.reader.Lost()
	server.Kill()
	server.Restart()
	maastest.Receive(t, "the session is lost", lost)
	look(t, m)
	count, _ := named(t, server.URL, "me@follow")
	require.Equal(t, 1, count)
}

// The server logs each session that it refuses; four lines a second would fill its log.
func TestFollow__who_waits_for_the_name_tries_to_take_it_when_it_is_free(t *testing.T) {
	server := maastest.Start(t)
	first, m := nodes(t, server.URL)
	look(t, m)
	before := refused(t, server.URL)
	for range 3 {
		require.True(t, IsFollowed(m.Lead(context.Background())))
	}
	require.Equal(t, before, refused(t, server.URL))
	require.NoError(t, first.Close())
	require.NoError(t, m.Lead(context.Background()))
}

// The session that has the name is this process's own.
func TestFollow__who_has_the_name_already_leads(t *testing.T) {
	server := maastest.Start(t)
	first := leader(t, server.URL, "me")
	m := standby(t, server.URL, "me")
	require.True(t, IsFollowed(m.Lead(context.Background())))
	require.NoError(t, first.Close())
	m.client.Store(leader(t, server.URL, "me")) // As Lead leaves it when a later step fails.
	m.LookAnew()
	require.NoError(t, m.Lead(context.Background()))
}

// refused is how many sessions the server has refused because of their name.
func refused(t *testing.T, url string) string {
	t.Helper()
	_, count, _ := strings.Cut(string(get(t, url+"/metrics")), `maas_http_requests_total{method="POST",route="/sessions",code="409"} `)
	count, _, _ = strings.Cut(count, "\n")
	return count
}

func TestFollow__without_a_session(t *testing.T) {
	server := maastest.Start(t)
	long := strings.Repeat("x", 63)
	leader(t, server.URL, long)
	look(t, standby(t, server.URL, long))

	leader(t, server.URL, "me")
	leader(t, server.URL, "me@follow") // Another owner's.
	look(t, standby(t, server.URL, "me"))
	count, exclusive := named(t, server.URL, "me@follow")
	require.Equal(t, 1, count)
	require.True(t, exclusive)
}
