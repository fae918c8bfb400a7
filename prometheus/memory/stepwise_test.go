// SPDX-License-Identifier: Apache-2.0

// Many extents over a slow link.

package memory

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
)

// slowLink is a server behind a link that carries this many bytes of an answer in a second.
func slowLink(t *testing.T, server string, rate int) string {
	t.Helper()
	target, err := url.Parse(server)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(r *http.Response) error {
			if r.Request.URL.Path != "/data/read" {
				return nil
			}
			n, err := strconv.Atoi(r.Header.Get("Content-Length"))
			select {
			case <-time.After(time.Duration(n) * time.Second / time.Duration(rate)):
			case <-r.Request.Context().Done():
			}
			return err
		},
		// A client that gives up is not an error.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	link := httptest.NewServer(proxy)
	t.Cleanup(link.Close)
	return link.URL
}

// All headers together take longer than one request may; each request is answered in time.
func TestOpen__many_extents_over_a_slow_link(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	const extents, header = 2000, 128
	c, err := maas.Open(t.Context(), maas.Options{URL: server.URL, Transport: "http"})
	require.NoError(t, err)
	_, err = c.Allocate(t.Context(), maas.AllocateOptions{Size: 4096, Count: extents, Owner: "me", Lifetime: "delete"})
	require.NoError(t, err)
	require.NoError(t, c.Close())

	m := opened(t, Options{URL: slowLink(t, server.URL, extents*header/6), Owner: "me", Required: true})
	require.Len(t, m.Arena().Listing.Orphans, extents)
}
