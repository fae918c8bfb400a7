// SPDX-License-Identifier: Apache-2.0

// The metrics of remote memory.

package memory

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/maas-memory/maas/prometheus/remotefile"
)

// Metrics are all metrics of remote memory (prometheus_tsdb_maas_…).
type Metrics struct {
	Up              prometheus.Gauge
	Degraded        prometheus.Gauge
	Info            *prometheus.GaugeVec // owner, mode, epoch
	Transport       *prometheus.GaugeVec // transport
	Allocations     *prometheus.GaugeVec // content
	AllocatedBytes  *prometheus.GaugeVec // content
	StoredBytes     *prometheus.GaugeVec // content
	DirtyBytes      prometheus.Gauge
	CacheBytes      prometheus.Gauge
	CacheHits       prometheus.Counter
	CacheMisses     prometheus.Counter
	ChunksWritten   prometheus.Counter
	BytesRead       *prometheus.CounterVec   // content
	BytesWritten    *prometheus.CounterVec   // content
	Durations       *prometheus.HistogramVec // op
	Errors          *prometheus.CounterVec   // op
	FallbackReads   prometheus.Counter
	Resynced        prometheus.Counter
	LostChunks      prometheus.Counter
	WALAcked        prometheus.Counter
	BlocksPending   prometheus.Gauge
	BlocksReturning prometheus.Gauge
	TakeoverOldest  prometheus.Gauge
	Following       prometheus.Gauge
	BehindBytes     prometheus.Gauge
	Promotions      prometheus.Counter
	Restarts        *prometheus.CounterVec // reason

	caughtUp atomic.Pointer[time.Time] // Nil: not yet.
	replayed atomic.Pointer[time.Time] // In a standby; nil in a leader.
}

// never stands for the time in a standby that has not caught up yet.
var never = new(time.Time)

// CaughtUp says that the memory server has all that the log held at this time.
func (m *Metrics) CaughtUp(at time.Time) { m.caughtUp.Store(&at) }

// lag grows while nothing arrives: no code that waits for the server could report it.
func (m *Metrics) lag() float64 {
	at := m.caughtUp.Load()
	if at == nil {
		return 0
	}
	return since(*at).Seconds()
}

// Replayed says that a standby has replayed all of the log that the memory server had at this time.
func (m *Metrics) Replayed(at time.Time) { m.replayed.Store(&at) }

// Follows says whether this Prometheus is a standby from now on, which has replayed nothing yet.
func (m *Metrics) Follows(is bool) {
	m.replayed.Store(nil)
	if is {
		m.Following.Set(1)
		m.replayed.Store(never)
		return
	}
	m.Following.Set(0)
	m.BehindBytes.Set(0)
}

// Behind is how many seconds ago a standby had replayed all; infinite if it never had; 0 in a leader.
func (m *Metrics) Behind() float64 {
	switch at := m.replayed.Load(); at {
	case nil:
		return 0
	case never:
		return math.Inf(1)
	default:
		return since(*at).Seconds()
	}
}

const namespace = "prometheus_tsdb_maas_"

// NewMetrics makes the metrics and registers them; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: namespace + name, Help: help})
	}
	gaugeVec := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: namespace + name, Help: help}, labels)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: namespace + name, Help: help})
	}
	counterVec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: namespace + name, Help: help}, labels)
	}
	m := &Metrics{
		Up:             gauge("up", "Whether the memory server is in use (1) or not (0)."),
		Degraded:       gauge("degraded", "Whether new data does not reach the memory server (1), because it is not in use (up is 0) or has no room (up is 1)."),
		Info:           gaugeVec("info", "Whose memory is used, in which mode (mirror or remote), and how many starts have written to it; always 1.", "owner", "mode", "epoch"),
		Transport:      gaugeVec("transport_info", "How bytes travel to the memory server; always 1.", "transport"),
		Allocations:    gaugeVec("allocations", "Allocations held at the memory server.", "content"),
		AllocatedBytes: gaugeVec("allocated_bytes", "Bytes that the memory server lends for these allocations: each takes a slab.", "content"),
		StoredBytes:    gaugeVec("stored_bytes", "Bytes that the memory server has acknowledged and still holds.", "content"),
		DirtyBytes:     gauge("dirty_bytes", "Bytes of chunks that no file and no memory server has yet (remote mode)."),
		CacheBytes:     gauge("cache_bytes", "Bytes in the cache of remote blocks."),
		CacheHits:      counter("cache_hits_total", "Blocks that reads of chunks found in the cache."),
		CacheMisses:    counter("cache_misses_total", "Blocks that reads of chunks did not find in the cache."),
		ChunksWritten:  counter("chunks_written_total", "Chunks acknowledged by the memory server."),
		BytesRead:      counterVec("read_bytes_total", "Bytes read from the memory server.", "content"),
		BytesWritten:   counterVec("written_bytes_total", "Bytes written to the memory server.", "content"),
		Durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            namespace + "operation_duration_seconds",
			Help:                            "How long operations at the memory server take.",
			Buckets:                         prometheus.ExponentialBuckets(0.0001, 4, 9),
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"op"}),
		Errors:          counterVec("operation_errors_total", "Operations at the memory server that failed.", "op"),
		FallbackReads:   counter("fallback_reads_total", "Chunks read from local files because the memory server failed."),
		Resynced:        counter("resynced_bytes_total", "Bytes uploaded again because the memory server had lost them."),
		LostChunks:      counter("lost_chunks_total", "Chunks dropped at a start because of damage in remote memory; the log (WAL) has their samples."),
		WALAcked:        counter("wal_acknowledged_bytes_total", "Bytes of WAL, WBL and checkpoints that the memory server has acknowledged."),
		BlocksPending:   gauge("blocks_pending_bytes", "Bytes of blocks that are still to be copied to remote memory."),
		BlocksReturning: gauge("blocks_returning_bytes", "Bytes of blocks that are still to be brought back from remote memory."),
		TakeoverOldest:  gauge("takeover_oldest_timestamp_seconds", "Where the blocks of a take-over would begin; the end of the newest block if it would have none. 0: there are no blocks."),
		Following:       gauge("following", "Whether this Prometheus is a standby, which follows the leader (1)."),
		BehindBytes:     gauge("behind_bytes", "Bytes of the leader's log that a standby has not replayed yet, as far as it knows."),
		Promotions:      counter("promotions_total", "How often a standby took the lead."),
		Restarts:        counterVec("following_restarts_total", "How often a standby began to follow anew, from the beginning of the log.", "reason"),
	}
	// At 0: rate() does not see what a series begins with.
	for _, reason := range []string{"blocks", "cut", "damaged", "records", "series", "truncated"} {
		m.Restarts.WithLabelValues(reason)
	}
	for kind := remotefile.Chunks; kind <= remotefile.Snapshot; kind++ {
		m.BytesRead.WithLabelValues(kind.String())
		m.BytesWritten.WithLabelValues(kind.String())
	}
	if reg != nil {
		reg.MustRegister(m.Up, m.Degraded, m.Info, m.Transport, m.Allocations, m.AllocatedBytes, m.StoredBytes, m.DirtyBytes,
			m.CacheBytes, m.CacheHits, m.CacheMisses, m.ChunksWritten, m.BytesRead, m.BytesWritten, m.Durations,
			m.Errors, m.FallbackReads, m.Resynced, m.LostChunks, m.WALAcked, m.BlocksPending, m.BlocksReturning, m.TakeoverOldest,
			m.Following, m.BehindBytes, m.Promotions, m.Restarts,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: namespace + "behind_seconds",
				Help: "How long ago a standby had replayed all of the log that the memory server has: +Inf if it has not caught up yet, 0 if this Prometheus leads.",
			}, m.Behind),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: namespace + "wal_lag_seconds",
				Help: "Age of the oldest byte of the log that the memory server may not have.",
			}, m.lag))
	}
	return m
}
