// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/rpc"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

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

// stdio is the connection between a child and its parent.
type stdio struct {
	io.ReadCloser
	io.Writer
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

func (c *child) Feed(upTo int, _ *none) error {
	return c.db.Feed(upTo)
}

func (c *child) Compact(none, *none) error {
	return c.db.Compact()
}

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
	if err := c.db.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}
