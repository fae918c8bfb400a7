// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// pair is two nodes of one owner, of which one leads and ingests, and the other one follows.
type pair struct {
	t        *testing.T
	server   *maastest.Server
	config   ChildConfig
	journal  string
	commits  timeline
	leader   *node
	follower *node
}

// node is one of them: its directory, its own network to the server, and its process by now.
type node struct {
	standby
	*network
}

func newPair(t *testing.T) *pair {
	server := maastest.Start(t, "--max-pool-size", "4GiB", "--slab-sizes", "64KiB,512KiB,1MiB,4MiB") // A quarter for blocks.
	p := &pair{t: t, server: server, journal: filepath.Join(t.TempDir(), "journal"), config: ChildConfig{
		Owner: "pair", Fallback: true, Follow: true, Transport: maastest.Transport(), CacheSize: 2 << 20,
		// A minute's worth of commits at the pace of a scrape every second; blocks every second.
		Settle: 100 * time.Millisecond, BlockDuration: 2 * time.Minute,
	}}
	p.leader, p.follower = p.newNode(), p.newNode()
	p.begin(p.leader)
	require.NoError(t, (<-p.leader.opened.Done).Error)
	p.leader.do(t, "CommitAll", Commits{0, 700})
	p.commits = timeline{700, Held{[]Commits{{0, 700}}, []Commits{{late, 700}}}}
	return p
}

func (p *pair) newNode() *node {
	return &node{standby{dir: p.t.TempDir()}, newNetwork(p.t, p.server.URL)}
}

// begin starts a node on its directory, whatever that has.
func (p *pair) begin(n *node) {
	config := p.config
	config.Dir, config.URL = n.dir, n.url()
	n.process, n.opened = beginProcess(p.t, config)
}

// follows starts the other one, and waits until it follows.
func (p *pair) follows() {
	p.begin(p.follower)
	p.follower.isFollowing(p.t)
}

func (p *pair) ingest() {
	p.leader.do(p.t, "Ingest", Ingestion{
		From: p.commits.next, Journal: p.journal, Every: 8 * time.Millisecond, Compact: 20,
	})
}

// ending is a way in which a leader ends. leave takes it away; back is what becomes of it once the other one leads.
type ending struct {
	name    string
	leave   func(p *pair)
	back    func(p *pair)
	lapses  bool // The other one has to wait for the end of the lease.
	saysWhy bool // The old leader ends with an error.
}

var endings = []ending{
	{name: "kill -9", leave: func(p *pair) { p.leader.kill() }, back: func(*pair) {}, lapses: true},
	{name: "hand-over", leave: (*pair).handOver, back: func(p *pair) { require.NoError(p.t, p.leader.Close()) }},
	{
		name: "SIGSTOP", lapses: true, saysWhy: true,
		leave: func(p *pair) { p.leader.pause(p.t) }, back: func(p *pair) { p.leader.resume(p.t) },
	},
	{
		name: "a pulled cable", lapses: true, saysWhy: true,
		leave: func(p *pair) { p.leader.pullOut() }, back: func(p *pair) { p.leader.plugIn() },
	},
	{
		name: "a silent network", lapses: true, saysWhy: true,
		leave: func(p *pair) { p.leader.fallSilent() }, back: func(p *pair) { p.leader.speak() },
	},
}

// handOver is the beginning of a shutdown: rules and scrapes have ended.
func (p *pair) handOver() {
	p.leader.do(p.t, "Pause", none{})
	begun := time.Now()
	p.leader.do(p.t, "HandOver", none{})
	require.Less(p.t, time.Since(begun), time.Second)
}

// saysWhy: a leader that has lost the name ends with an error, as soon as it hears of it.
func (p *pair) saysWhy() {
	maastest.Eventually(p.t, "the old leader ends", p.leader.hasEnded)
	require.Equal(p.t, 1, p.leader.cmd.ProcessState.ExitCode())
	require.Contains(p.t, p.leader.log.String(), "another Prometheus has taken over this owner's name")
}

// moments are when a leader ends: in the middle of something that its files, or metrics, show.
var moments = []struct {
	name string
	is   func(p *pair) bool
}{
	{"at any moment", func(*pair) bool { return true }},
	{"in a compaction", func(p *pair) bool { return p.has("*.tmp-for-creation") }},
	{"in a checkpoint", func(p *pair) bool { return p.has("wal/checkpoint.*.tmp") }},
	{"in an upload of a block", func(p *pair) bool { return p.leader.metrics(p.t)["blocks_pending_bytes"] > 0 }},
	{"after a compaction", func(p *pair) bool { return p.has("*.tmp-for-deletion") }},
}

func (p *pair) has(pattern string) bool {
	found := maastest.Must(filepath.Glob(filepath.Join(p.leader.dir, pattern)))(p.t)
	return len(found) > 0
}

// wait waits for a moment, or a few seconds where that does not come.
func (p *pair) wait(is func(*pair) bool) {
	time.Sleep(500*time.Millisecond + rand.N(2*time.Second))
	for deadline := time.Now().Add(3 * time.Second); !is(p) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
}

// dies ends the leader, and wants the other one to lead in time, with all that was acknowledged. They have changed
// their places then.
func (p *pair) dies(what string, how ending) {
	acknowledged := time.Now().Add(-time.Duration(p.leader.metrics(p.t)["wal_lag_seconds"] * float64(time.Second)))
	death := time.Now()
	how.leave(p)
	took := p.follower.leads(p.t, what)
	committed := readJournal(p.t, p.journal)
	how.back(p)
	if how.saysWhy {
		p.saysWhy()
	}

	p.leader, p.follower = p.follower, p.leader
	if rand.IntN(2) == 0 {
		time.Sleep(rand.N(300 * time.Millisecond)) // Meanwhile it brings its own late samples to remote memory.
		what += ", and another one right behind it"
		p.restart(what)
	}
	held, ready := p.held(what), lease+time.Second
	if !how.lapses { // Nothing is lost, not even of the last second.
		acknowledged, ready = time.Now(), time.Second
	}
	p.commits.goOn(p.t, held, committed, acknowledged, death, what)
	p.wants(held, what)
	require.Less(p.t, took, ready, what)
}

// wants is for what is there now. Late samples that were lost may be back: who led before, and is back, may have them
// in a block of its own.
func (p *pair) wants(held Held, what string) {
	want := &p.commits.want
	require.Equal(p.t, want.InOrder, held.InOrder, what)
	for _, c := range want.Late {
		require.GreaterOrEqual(p.t, endFrom(held.Late, c.From), c.To, "%s: %v are wanted, %v there", what, want.Late, held.Late)
	}
	want.Late = held.Late
}

// held is what the leader has, once its blocks are there, which must not overlap.
func (p *pair) held(what string) (held Held) {
	held = p.leader.held(p.t)
	require.NoError(p.t, maastest.Err(p.leader.Blocks()), what)
	return held
}

// restart ends the leader, which is alone, and starts it again on its directory.
func (p *pair) restart(what string) {
	p.leader.kill()
	p.begin(p.leader)
	require.NoError(p.t, (<-p.leader.opened.Done).Error, what)
}

// A leader ends in whatever way, at whatever moment: its standby has all that was acknowledged. Who led follows
// then, and takes over in its turn, soon.
func TestStandby__takes_over_at_any_moment(t *testing.T) {
	const scenes = 5
	tests := map[string]func(*testing.T){}
	for scene := range scenes {
		tests[fmt.Sprint("scene ", scene)] = func(t *testing.T) { runDeaths(newPair(t), scene, longer(2, 40)) }
	}
	together(t, tests)
}

func runDeaths(p *pair, scene, deaths int) {
	p.follows()
	for death := range deaths {
		how, when := endings[(scene+death+death/len(endings))%len(endings)], moments[(scene+2*death)%len(moments)]
		what := fmt.Sprintf("death %d: %s, %s", death, how.name, when.name)
		p.ingest()
		p.wait(when.is)
		p.dies(what, how)
		if rand.IntN(2) == 0 {
			p.restart(what)
			p.wants(p.held(what), what+", restarted")
		}
		p.follows()
	}
	p.ingest()
	p.wait(moments[0].is)
	p.dies("hand-over in the end", endings[1])
	require.NoError(p.t, p.leader.Close())
}
