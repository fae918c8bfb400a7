// SPDX-License-Identifier: Apache-2.0

package sameanswers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"
)

// Subject is a database that is fed and asked. It is in this process, or in a child that can be
// killed.
type Subject interface {
	// Feed appends the load's steps up to the given one, which is not included.
	Feed(upTo int) error
	// Answers asks the queries as of the last step fed.
	Answers([]Query) ([]Answer, error)
	// Samples is a digest of every sample from a time on, of head and blocks together.
	Samples(from int64) (Digest, error)
	// Blocks is a digest of every sample in the persisted blocks.
	Blocks() (BlocksDigest, error)
	Close() error
}

// Config says how a DB is opened. Two DBs that are compared differ only in Dir and Edit.
type Config struct {
	Dir    string
	Seed   uint64
	Series int
	// Fed is how many steps are in Dir already.
	Fed int
	// SnapshotOnClose is memory-snapshot-on-shutdown.
	SnapshotOnClose bool
	// InOrder leaves no window for late samples: each is refused.
	InOrder bool
	// Retention is how long blocks are kept; 0: forever.
	Retention time.Duration
	// Edit changes what is not stock.
	Edit func(*tsdb.Options)
	log  *slog.Logger
}

// passesEvery is how many steps lie between two rounds of upstream's loop, which m-maps head
// chunks and compacts once a minute.
const passesEvery = 4

// DB is a Subject in this process.
type DB struct {
	db      *tsdb.DB
	engine  *promql.Engine
	load    *Load
	fed     int
	refs    []slotRef
	inOrder bool

	// compaction is the error of the last compaction, if it failed: like upstream's loop, Feed goes on, and
	// tries again a minute later.
	compaction error
}

// slotRef is the reference by which samples are appended to a slot.
type slotRef struct {
	ref        storage.SeriesRef
	generation int
}

func options(c Config) *tsdb.Options {
	o := tsdb.DefaultOptions()
	o.MinBlockDuration = (2 * time.Hour).Milliseconds()
	o.MaxBlockDuration = (6 * time.Hour).Milliseconds()
	o.OutOfOrderTimeWindow = time.Hour.Milliseconds()
	o.WALCompression = compression.Snappy // Prometheus's default; the package's own is none.
	o.EnableMemorySnapshotOnShutdown = c.SnapshotOnClose
	if c.InOrder {
		o.OutOfOrderTimeWindow = 0
	}
	if c.Retention > 0 {
		o.RetentionDuration = c.Retention.Milliseconds()
	}
	// Rounds come at simulated times, from Feed alone.
	o.BlockReloadInterval = 24 * time.Hour
	if c.Edit != nil {
		c.Edit(o)
	}
	return o
}

// Open opens the database and lets it replay what its directory holds.
func Open(c Config) (*DB, error) {
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	db, err := tsdb.Open(c.Dir, c.log, nil, options(c), nil)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", c.Dir, err)
	}
	db.DisableCompactions()
	load := NewLoad(c.Seed, c.Series)
	return &DB{
		db:      db,
		load:    load,
		fed:     c.Fed,
		refs:    make([]slotRef, load.Slots()),
		inOrder: c.InOrder,
		engine: promql.NewEngine(promql.EngineOpts{
			Logger:               c.log,
			MaxSamples:           500_000_000,
			Timeout:              10 * time.Minute,
			LookbackDelta:        5 * time.Minute,
			EnableAtModifier:     true,
			EnableNegativeOffset: true,
			NoStepSubqueryIntervalFn: func(int64) int64 {
				return time.Minute.Milliseconds()
			},
			Parser: parser.NewParser(parser.Options{EnableExperimentalFunctions: true}),
		}),
	}, nil
}

// Close ends the database as a shutdown does.
func (d *DB) Close() error {
	return d.db.Close()
}

// TSDB is the database itself, for tests that add blocks to it.
func (d *DB) TSDB() *tsdb.DB { return d.db }

// Feed implements Subject.
func (d *DB) Feed(upTo int) error {
	for ; d.fed < upTo; d.fed++ {
		if err := d.step(d.fed); err != nil {
			return fmt.Errorf("step %d: %w", d.fed, err)
		}
	}
	return nil
}

func (d *DB) step(step int) error {
	for target := range d.load.Targets() {
		if err := d.scrape(step, target); err != nil {
			return err
		}
	}
	if step%passesEvery != passesEvery-1 {
		return nil
	}
	d.db.ForceHeadMMap()
	_ = d.Compact()
	return nil
}

// Compact is what upstream's loop does once a minute.
func (d *DB) Compact() error {
	d.compaction = d.db.Compact(context.Background())
	return d.compaction
}

// Delete deletes all samples of a metric.
func (d *DB) Delete(name string) error {
	return d.db.Delete(context.Background(), math.MinInt64, math.MaxInt64, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, name))
}

// scrape appends one target's samples in one transaction.
func (d *DB) scrape(step, target int) error {
	app := d.db.Appender(context.Background())
	err := d.load.Scrape(step, target, func(s Sample) error {
		return d.append(app, s)
	})
	if err != nil {
		_ = app.Rollback()
		return err
	}
	return app.Commit()
}

func (d *DB) append(app storage.Appender, s Sample) (err error) {
	cached := &d.refs[s.Slot]
	if cached.generation != s.Generation {
		*cached = slotRef{generation: s.Generation}
	}
	if s.H != nil || s.FH != nil {
		cached.ref, err = app.AppendHistogram(cached.ref, s.Labels, s.T, s.H, s.FH)
	} else {
		cached.ref, err = app.Append(cached.ref, s.Labels, s.T, s.V)
	}
	if d.inOrder && (errors.Is(err, storage.ErrOutOfOrderSample) || errors.Is(err, storage.ErrOutOfBounds)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("append %s at %d: %w", s.Labels, s.T, err)
	}
	return nil
}
