// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"context"

	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
)

// hog is the owner of the other tenant's memory.
const hog = "hog"

// fill takes all the memory that the server has left, as another tenant would, down to the smallest slabs.
func (s *scene) fill() {
	s.t.Helper()
	client := s.tenant()
	defer client.Close()
	for size := int64(4 << 20); size >= 1<<10; size /= 2 {
		for {
			_, err := client.Allocate(context.Background(), maas.AllocateOptions{Size: size, Owner: hog})
			if maas.IsExhausted(err) {
				break
			}
			require.NoError(s.t, err)
		}
	}
}

// empty frees it.
func (s *scene) empty() {
	s.t.Helper()
	client := s.tenant()
	defer client.Close()
	list, err := client.List(context.Background(), hog)
	require.NoError(s.t, err)
	require.NotEmpty(s.t, list)
	for _, a := range list {
		freed, _, err := client.Free(context.Background(), a.ID)
		require.NoError(s.t, err)
		require.Equal(s.t, 1, freed)
	}
}

func (s *scene) tenant() *maas.Client {
	s.t.Helper()
	client, err := maas.Open(context.Background(), maas.Options{URL: s.server.URL, Transport: maas.TransportHTTP})
	require.NoError(s.t, err)
	return client
}
