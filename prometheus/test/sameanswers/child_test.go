// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"errors"
	"io"
	"log/slog"
	"net/rpc"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/maasflag"
)

// childVariable makes this test program the child of another one: a database that can be killed.
const childVariable = "MAAS_SAME_ANSWERS_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		rpc.RegisterName("child", &child{registry: prometheus.NewRegistry(), stop: make(chan struct{})})
		rpc.ServeConn(stdio{os.Stdin, os.Stdout})
		return
	}
	os.Exit(m.Run())
}

// stdio is either end of the connection between a child and its parent.
type stdio struct {
	io.Reader
	io.WriteCloser
}

// ChildConfig says what a child opens.
type ChildConfig struct {
	Config
	Blocks        string
	URL, Owner    string
	Transport     string
	Fallback      bool
	Follow        bool
	Settle        time.Duration
	BlockDuration time.Duration // 0: two hours.
	CacheSize     int64
}

// child serves a DB on remote memory, wired as in the prometheus command. It has the methods of Subject, and handles
// one call at a time.
type child struct {
	config     ChildConfig
	db         *DB
	node       *maasflag.Node
	attachment *maasflag.Attachment
	registry   *prometheus.Registry // Asked while Open runs, too.

	stop          chan struct{} // Closed by Stop.
	pause, paused chan struct{} // Of Ingest: closed by Pause, and then by the goroutine that ingests.
}

type none = struct{}

func (c *child) Open(config ChildConfig, _ *none) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	c.config = config
	c.node = maasflag.New(&maasflag.Config{
		URL: config.URL, Owner: config.Owner, Fallback: config.Fallback, Transport: config.Transport, Restore: "auto",
		CacheSize: units.Base2Bytes(config.CacheSize), Blocks: config.Blocks, Follow: config.Follow, FollowSettle: config.Settle,
	}, config.Dir, log, c.registry)
	err = c.node.Open(c.stop, config.SnapshotOnClose, func(_ prometheus.Registerer, a *maasflag.Attachment) (err error) {
		c.attachment = a
		config.Config.log, config.Edit = log, c.edit
		c.db, err = Open(config.Config)
		return err
	})
	if err != nil {
		return err
	}
	c.node.Return(c.db.TSDB())
	return nil
}

// opener is how a database opens the store of an attachment.
func opener(a *maasflag.Attachment) tsdb.HeadChunkStoreOpener {
	return func(reg prometheus.Registerer, dir string, pool chunkenc.Pool, buffer, queue int) (tsdb.HeadChunkStore, error) {
		return a.Open(reg, dir, pool, buffer, queue)
	}
}

func (c *child) edit(o *tsdb.Options) {
	o.NewHeadChunkStore = opener(c.attachment)
	if log := c.attachment.FollowedLog(); log != nil {
		o.FollowedLog = log
	}
	if d := c.config.BlockDuration; d > 0 {
		o.MinBlockDuration, o.MaxBlockDuration = d.Milliseconds(), 9*d.Milliseconds()
	}
	o.BlockCompactionExcludeFunc = func(*tsdb.BlockMeta) bool { return c.attachment.Returning() }
}

// NotReady says what a standby waits for.
func (c *child) NotReady(_ none, reason *string) error {
	if c.node == nil {
		return errors.New("not opened yet")
	}
	*reason = c.node.NotReady()
	return nil
}

// Stop does the first thing that SIGTERM does: it ends an Open that still waits.
func (c *child) Stop(none, *none) error {
	close(c.stop)
	return nil
}

// Fed sets how many steps the database holds; others fed them.
func (c *child) Fed(steps int, _ *none) error {
	c.db.fed = steps
	return nil
}

// HandOver does the first thing of a shutdown.
func (c *child) HandOver(none, *none) error {
	c.node.HandOver()
	return nil
}

// Returning says whether some blocks have yet to come back.
func (c *child) Returning(_ none, returning *bool) error {
	*returning = c.attachment.Returning()
	return nil
}

// Delete does what the admin API's delete does.
func (c *child) Delete(series string, _ *none) error { return c.db.Delete(series) }

func (c *child) Feed(upTo int, _ *none) error { return c.db.Feed(upTo) }

func (c *child) Compact(none, *none) error { return c.db.Compact() }

func (c *child) Answers(queries []Query, answers *[]Answer) (err error) {
	*answers, err = c.db.Answers(queries)
	return err
}

func (c *child) Samples(from int64, samples *Digest) (err error) {
	*samples, err = c.db.Samples(from)
	return err
}

func (c *child) Blocks(_ none, blocks *BlocksDigest) (err error) {
	*blocks, err = c.db.Blocks()
	return err
}

// Metrics are ours, summed over their labels, without their common prefix.
func (c *child) Metrics(_ none, sums *map[string]float64) error {
	families, err := c.registry.Gather()
	if err != nil {
		return err
	}
	*sums = map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			(*sums)[strings.TrimPrefix(f.GetName(), "prometheus_tsdb_maas_")] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return nil
}

func (c *child) Close(none, *none) error {
	defer c.node.Close()
	return c.db.Close()
}

// process is a Subject in a child of its own, which can be killed.
type process struct {
	*rpc.Client
	cmd   *exec.Cmd
	log   *maastest.Log
	ended chan struct{} // Closed once the process has ended.
}

// startProcess starts a child and opens the database in it. The process always ends with the test, and its log is shown
// if the test fails.
func startProcess(t *testing.T, config ChildConfig) (*process, error) {
	p, opened := beginProcess(t, config)
	if err := (<-opened.Done).Error; err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// beginProcess is startProcess without waiting until the database is open: a standby's is not open as long as its leader
// lives.
func beginProcess(t *testing.T, config ChildConfig) (p *process, opened *rpc.Call) {
	p = &process{cmd: exec.Command(os.Args[0]), log: new(maastest.Log), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), childVariable+"=1")
	p.cmd.Stderr = p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin := maastest.Must(p.cmd.StdinPipe())(t)
	// Not StdoutPipe: Wait would close it before the last answer is read.
	stdout, theirs, err := os.Pipe()
	require.NoError(t, err)
	p.cmd.Stdout = theirs
	require.NoError(t, p.cmd.Start())
	require.NoError(t, theirs.Close())
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	p.Client = rpc.NewClient(stdio{stdout, stdin})
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of a child:\n%s", p.log)
		}
	})
	return p, p.Go("child.Open", config, new(none), make(chan *rpc.Call, 1))
}

// kill is SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
	_ = p.Client.Close()
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func call[T any](p *process, method string, arg any) (answer T, err error) {
	err = p.Call("child."+method, arg, &answer)
	return answer, err
}

func (p *process) Feed(upTo int) error { return p.Call("child.Feed", upTo, new(none)) }

func (p *process) Answers(queries []Query) ([]Answer, error) {
	return call[[]Answer](p, "Answers", queries)
}

func (p *process) Samples(from int64) (Digest, error) { return call[Digest](p, "Samples", from) }

func (p *process) Blocks() (BlocksDigest, error) { return call[BlocksDigest](p, "Blocks", none{}) }

func (p *process) metrics(t *testing.T) map[string]float64 {
	return maastest.Must(call[map[string]float64](p, "Metrics", none{}))(t)
}

// do is a call that has to succeed.
func (p *process) do(t *testing.T, method string, arg any) {
	require.NoError(t, p.Call("child."+method, arg, new(none)))
}

// blocksAreBack waits until no block has yet to come back.
func (p *process) blocksAreBack(t *testing.T) {
	maastest.Eventually(t, "blocks are back", func() bool { return !maastest.Must(call[bool](p, "Returning", none{}))(t) })
}

// held is what a database has, once its blocks are there.
func (p *process) held(t *testing.T) Held {
	p.blocksAreBack(t)
	return maastest.Must(call[Held](p, "Held", none{}))(t)
}

// Close ends the database as a shutdown does, and then the process.
func (p *process) Close() error {
	err := p.Call("child.Close", none{}, new(none))
	p.kill()
	return err
}
