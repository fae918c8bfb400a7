// SPDX-License-Identifier: Apache-2.0

package blocks

import (
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
)

func TestLineages__who_has_all_of_whom(t *testing.T) {
	id := func(n byte) (u ulid.ULID) { u[15] = n; return u }
	ids := func(list ...byte) (out []ulid.ULID) {
		for _, n := range list {
			out = append(out, id(n))
		}
		return out
	}
	k := lineages{
		id(1): {sources: ids(1)}, id(2): {sources: ids(2)}, id(3): {sources: ids(3)},
		id(12): {sources: ids(1, 2), parents: ids(1, 2)},
		id(20): {sources: ids(20), parents: ids(12)},               // Of 12, without what was deleted.
		id(23): {sources: ids(20, 3), parents: ids(20, 3)},         // Goes back to 12 by its parent alone.
		id(30): {sources: ids(1, 2, 3), parents: ids(98, 99)},      // Whose parents nobody knows.
		id(40): {sources: ids(5, 6)}, id(41): {sources: ids(5, 6)}, // Two halves, of another program.
		id(50): {sources: ids(50), parents: ids(51)}, id(51): {parents: ids(50)}, // Damaged.
	}
	for _, c := range []struct {
		a, d byte
		want bool
	}{
		{1, 12, true}, {12, 1, false}, {3, 12, false}, {12, 20, true}, {1, 23, true}, {12, 23, true},
		{12, 30, true}, {2, 30, true}, {20, 30, false}, {40, 41, false}, {41, 40, false}, {1, 1, false}, {1, 50, false},
		{1, 77, false},
	} {
		require.Equal(t, c.want, k.ancestor(id(c.a), id(c.d)), "%d of %d", c.a, c.d)
	}
}
