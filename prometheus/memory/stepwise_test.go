// SPDX-License-Identifier: Apache-2.0

// Many extents over a slow link.

package memory

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

// slowLink is a server behind a link that carries this many bytes of an answer in a second.
func slowLink(t *testing.T, server string, rate int) string {
	return maastest.Proxy(t, server, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if r.URL.Path != "/data/read" {
			serve(w, r)
			return
		}
		answer := httptest.NewRecorder()
		serve(answer, r)
		select {
		case <-time.After(time.Duration(answer.Body.Len()) * time.Second / time.Duration(rate)):
		case <-r.Context().Done():
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = answer.Body.WriteTo(w)
	})
}

// All headers together take longer than one request may; each request is answered in time.
func TestOpen__many_extents_over_a_slow_link(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	const extents, header = 2000, 128
	_, err := shared.Client(t, server.URL).Allocate(t.Context(), maas.AllocateOptions{Size: 4096, Count: extents, Owner: "me", Lifetime: "delete"})
	require.NoError(t, err)

	m := opened(t, Options{URL: slowLink(t, server.URL, extents*header/6), Owner: "me", Required: true})
	require.Len(t, m.Arena().Listing.Orphans, extents)
}
