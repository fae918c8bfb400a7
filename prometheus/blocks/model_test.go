// SPDX-License-Identifier: Apache-2.0

// Random operations beside a model: no block that was whole, and never deleted, is lost.

package blocks

import (
	"fmt"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// model knows what a data directory and remote memory should hold, whatever happens to them.
type model struct {
	t    *testing.T
	rnd  *rand.Rand
	d    *dataDir
	n    *node
	size int64

	now     int64
	files   map[string]string // Of all blocks that ever were, but their pairs.
	pairs   map[[32]byte]bool // That there ever were.
	dropped map[ulid.ULID]bool
	known   lineages
}

func TestModel__what_was_whole_and_never_deleted_comes_back(t *testing.T) {
	seed := time.Now().UnixNano()
	if text := os.Getenv("MAAS_SEED"); text != "" {
		seed = maastest.Must(strconv.ParseInt(text, 10, 64))(t)
	}
	steps := 60
	if os.Getenv("MAAS_LONG") != "" {
		steps = 600
	}
	for i := range int64(4) {
		t.Run(fmt.Sprintf("MAAS_SEED=%d", seed+i), func(t *testing.T) {
			t.Parallel()
			runModel(t, seed+i, steps)
		})
	}
}

func runModel(t *testing.T, seed int64, steps int) {
	m := &model{
		t: t, rnd: rand.New(rand.NewSource(seed)), d: newDataDir(t),
		files: map[string]string{}, pairs: map[[32]byte]bool{}, dropped: map[ulid.ULID]bool{}, known: lineages{},
	}
	m.d.rnd, m.d.size = m.rnd, 100<<10
	m.begin()
	actions := []struct {
		weight int
		name   string
		do     func()
	}{
		{8, "birth", m.alone(m.birth)}, {4, "compact", m.compact}, {2, "retain", m.retain}, {3, "delete", m.alone(m.delete)},
		{6, "settle", m.settle}, {3, "kill", m.kill}, {3, "takeover", m.takeOver}, {1, "lose", m.lose}, {1, "shed", m.shed},
		{1, "resize", m.resize}, {2, "harm", m.harm},
	}
	var chances []int // Of actions, by their weights.
	for i, a := range actions {
		chances = append(chances, slices.Repeat([]int{i}, a.weight)...)
	}
	for range steps {
		a := actions[chances[m.rnd.Intn(len(chances))]]
		t.Log(a.name)
		a.do()
	}
	m.takeOver()
	m.settle()
	m.n.close()
}

func (m *model) begin() {
	m.n = m.d.start(withSize(m.size), func(o *Options) { o.Verify = 5 * interval })
	m.n.Return(m.d)
}

// local are the blocks that are here, oldest first.
func (m *model) local() (list []meta) {
	for _, id := range m.d.here() {
		list = append(list, m.d.meta(id))
	}
	slices.SortFunc(list, func(a, b meta) int { return int(a.MinTime-b.MinTime) + a.ULID.Compare(b.ULID)/2 })
	return list
}

// remember records what is here.
func (m *model) remember() {
	maps.Copy(m.files, m.d.unchanging())
	for _, b := range m.local() {
		p, _, err := readPair(m.d.block(b.ULID))
		require.NoError(m.t, err)
		m.pairs[p.sum()] = true
		m.known.add(&b)
	}
}

// alone does something while no blocks are added.
func (m *model) alone(do func()) func() {
	return func() {
		m.d.adding.Lock()
		defer m.d.adding.Unlock()
		do()
	}
}

func (m *model) birth() {
	m.d.birth(m.now, m.now+10)
	if m.rnd.Intn(3) == 0 {
		m.d.birth(m.now, m.now+10) // Late samples have a block of their own.
	}
	m.now += 10
	m.remember()
}

func (m *model) compact() {
	if m.n.Returning() { // Else blocks go meanwhile, which others replace.
		return
	}
	local := m.local()
	if len(local) < 3 {
		return
	}
	from := m.rnd.Intn(len(local) - 1)
	var parents []ulid.ULID
	for _, b := range local[from:min(from+2+m.rnd.Intn(2), len(local))] {
		parents = append(parents, b.ULID)
	}
	m.d.compact(parents...)
	m.remember()
	switch m.rnd.Intn(3) {
	case 0:
		m.settle()
	case 1:
		m.restart() // Upstream goes on with the deletion at its next start.
	}
	m.d.remove(parents...)
}

func (m *model) retain() {
	if m.n.Returning() {
		return
	}
	local := m.local()
	for _, b := range local {
		if b.MinTime < local[0].MaxTime {
			m.drop(b.ULID)
			m.d.remove(b.ULID)
		}
	}
}

// drop says that a block and all its ancestors need not come back.
func (m *model) drop(id ulid.ULID) {
	m.dropped[id] = true
	for a := range m.known {
		if m.known.ancestor(a, id) {
			m.dropped[a] = true
		}
	}
}

func (m *model) delete() {
	if local := m.local(); len(local) > 0 {
		b := local[m.rnd.Intn(len(local))]
		m.d.delete(b.ULID, int(b.Stats.NumTombstones)+1)
		m.remember()
	}
}

// settle waits until nothing is left to do, and checks the result.
func (m *model) settle() {
	m.t.Helper()
	m.n.isBack()
	m.n.quiet()
	m.n.mu.Lock()
	defer m.n.mu.Unlock()
	require.LessOrEqual(m.t, m.n.allocatedLocked(), m.n.budgetLocked())
	require.Empty(m.t, m.n.partial)
	for i, g := range m.n.plan.groups {
		for _, b := range g.blocks {
			require.True(m.t, b.here, "%s has come back", b.ULID)
			if i < m.n.plan.wanted {
				require.True(m.t, m.n.coveredLocked(b), "%s belongs into remote memory", b.ULID)
			}
			if b.remote != nil {
				require.Equal(m.t, b.pair, b.remote.pair)
			}
		}
	}
}

func (m *model) restart() {
	m.n.close()
	m.begin()
}

// kill ends the process at any moment.
func (m *model) kill() {
	time.Sleep(time.Duration(m.rnd.Intn(30)) * time.Millisecond)
	m.restart()
}

func (m *model) lose() {
	m.n.loses()
	m.settle()
}

func (m *model) shed() { m.n.Shed() }

// resize gives blocks another share of the pool: an eighth, or a quarter.
func (m *model) resize() {
	m.size = []int64{0, 8 << 20}[m.rnd.Intn(2)]
	m.restart()
}

// harm makes a block that is whole in remote memory one that a start cannot read.
func (m *model) harm() {
	m.n.close()
	for _, i := range m.rnd.Perm(len(m.local())) {
		id := m.local()[i].ULID
		p, _, err := readPair(m.d.block(id))
		require.NoError(m.t, err)
		if b := m.n.blocks[id]; b != nil && b.remote != nil && b.remote.pair == p.sum() {
			require.NoError(m.t, os.Remove(filepath.Join(m.d.block(id), metaName)))
			break
		}
	}
	m.begin()
	m.n.isBack()
}

// takeOver starts on another node, and kills that node in the middle, too.
func (m *model) takeOver() {
	m.t.Helper()
	time.Sleep(time.Duration(m.rnd.Intn(100)) * time.Millisecond)
	m.n.close()
	whole := map[ulid.ULID][32]byte{}
	for id, b := range m.n.blocks {
		if b.remote != nil {
			whole[id] = b.remote.pair
		}
	}
	m.d = m.d.elsewhere()
	m.begin()
	for range m.rnd.Intn(4) {
		time.Sleep(time.Duration(m.rnd.Intn(40)) * time.Millisecond)
		m.restart()
	}
	m.n.isBack()
	m.check(whole)
}

// check compares what is here with what was whole in remote memory.
func (m *model) check(whole map[ulid.ULID][32]byte) {
	m.t.Helper()
	local := m.local()
	for id := range whole {
		if m.dropped[id] {
			continue
		}
		require.True(m.t, slices.ContainsFunc(local, func(b meta) bool {
			return b.ULID == id || m.known.ancestor(id, b.ULID)
		}), "%s was whole, and never deleted", id)
	}
	for name, b := range m.d.unchanging() {
		require.True(m.t, m.files[name] == b, "%s is bit for bit what it was", name)
	}
	for _, b := range local {
		p, _, err := readPair(m.d.block(b.ULID))
		require.NoError(m.t, err)
		if pair, ok := whole[b.ULID]; ok { // Else it had been given up, but not yet been freed.
			require.Equal(m.t, pair, p.sum(), "%s has the pair that remote memory had", b.ULID)
		}
		require.Contains(m.t, slices.Collect(maps.Keys(m.pairs)), p.sum())
		for _, other := range local {
			require.False(m.t, m.known.ancestor(b.ULID, other.ULID), "%s is in %s, and came back", b.ULID, other.ULID)
		}
	}
}
