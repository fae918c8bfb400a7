// SPDX-License-Identifier: Apache-2.0

// The edits: every place in Prometheus's source that this project changes.

package main

// edit replaces every occurrence of an anchor in a file. Anchors are all that this project relies on in
// Prometheus's source. Each has an expected count; any other count stops the build before anything is changed.
type edit struct {
	file   string
	anchor string
	count  int
	with   string
}

const (
	headGo       = "tsdb/head.go"
	headAppendGo = "tsdb/head_append.go"
	headReadGo   = "tsdb/head_read.go"
	headWALGo    = "tsdb/head_wal.go"
	dbGo         = "tsdb/db.go"
	mainGo       = "cmd/prometheus/main.go"
	webGo        = "web/web.go"
	apiGo        = "web/api/v1/api.go"
)

var edits = []edit{
	// The head uses its store through an interface.
	{headGo, "\tchunkDiskMapper *chunks.ChunkDiskMapper\n", 1, "\tchunkDiskMapper HeadChunkStore\n\tpasses          sortedPasses\n\tfollow          following\n"},
	{headAppendGo, "chunkDiskMapper *chunks.ChunkDiskMapper", 2, "chunkDiskMapper HeadChunkStore"},
	{headReadGo, "chunkDiskMapper *chunks.ChunkDiskMapper", 2, "chunkDiskMapper HeadChunkStore"},
	// A compaction's reads are patient.
	{headReadGo, "h.chunkDiskMapper, &h.memChunkPool", 2, "h.storeFor(s, isoState), &h.memChunkPool"},
	{headReadGo, "\tchk, err := chunkDiskMapper.Chunk(s.ooo.oooMmappedChunks[ix].ref)\n\treturn chk, s.ooo.oooMmappedChunks[ix].maxTime, err\n", 1,
		"\tmmapped := s.ooo.oooMmappedChunks[ix]\n\tchk, err := chunkDiskMapper.Chunk(mmapped.ref)\n\treturn chk, mmapped.maxTime, err\n"},
	{headGo, "type HeadOptions struct {\n", 1, `type HeadOptions struct {
	// NewChunkStore opens the store of the head's chunks; nil: upstream's.
	NewChunkStore HeadChunkStoreOpener
	// ChunkPassInterval is the time between two sorted passes; 0: 15 s, negative: only upstream's.
	ChunkPassInterval time.Duration
	// FollowedLog makes the replay go on with what another database writes; nil: it ends as upstream's does.
	FollowedLog FollowedLog

`},
	{headGo, "h.chunkDiskMapper, err = chunks.NewChunkDiskMapper(", 1, "h.chunkDiskMapper, err = h.openHeadChunkStore("},
	{headGo, "func (h *Head) mmapHeadChunks() {\n", 1, "func (h *Head) mmapHeadChunks() {\n\tif h.sortedMmapPass() {\n\t\treturn\n\t}\n"},
	{headGo, "func (h *Head) truncateSeriesAndChunkDiskMapper(caller string) error {\n", 1,
		"func (h *Head) truncateSeriesAndChunkDiskMapper(caller string) error {\n\tdefer h.lockPasses()()\n"},
	// A segment's samples are in remote memory before the segment goes.
	{headGo, "h.wal.Truncate(last + 1)", 1, "h.truncateLog(h.wal, last+1)"},
	{headGo, "h.wbl.Truncate(lastWBLFile)", 1, "h.truncateLog(h.wbl, lastWBLFile)"},
	// Stale series are collected on their own. A collection takes a series' lock and then its stripe's, a
	// pass the other way round.
	{headGo, "\th.WaitForPendingReadersInTimeRange(h.MinTime(), maxt)\n", 1,
		"\th.WaitForPendingReadersInTimeRange(h.MinTime(), maxt)\n\tdefer h.lockPasses()()\n"},
	// A take-over without blocks begins where the first head did.
	{headGo, "\th.minValidTime.Store(minValidTime)\n\tdefer h.resetWLReplayResources()\n", 1,
		"\tminValidTime = h.minValidTimeOfStore(minValidTime)\n\th.follow = following{active: h.opts.FollowedLog != nil}\n\th.minValidTime.Store(minValidTime)\n\tdefer h.resetWLReplayResources()\n"},
	// A standby's replay goes on, for as long as its leader lives.
	{headGo, "\twalReplayDuration := time.Since(walReplayStart)\n", 1,
		"\tif err := h.followLog(syms, multiRef); err != nil {\n\t\treturn err\n\t}\n\twalReplayDuration := time.Since(walReplayStart)\n"},
	{headWALGo, "\t\t_ = ms.mmapChunks(h.chunkDiskMapper)\n", 1, "\t\t_ = h.mmapReplayed(ms)\n"},
	// A note in the WBL that a chunk has late samples counts only if that chunk is here. If it is not, the samples get
	// a chunk of their own: otherwise none of the later notes would fit.
	{headWALGo, "processors[idx].input <- wblSubsetProcessorInputItem{mmappedSeries: ms}", 1,
		"processors[idx].input <- wblSubsetProcessorInputItem{mmappedSeries: ms, mmapRef: rm.MmapRef}"},
	{headWALGo, "type wblSubsetProcessorInputItem struct {\n", 1, "type wblSubsetProcessorInputItem struct {\n\tmmapRef          chunks.ChunkDiskMapperRef\n"},
	{headWALGo, "\t\tif in.mmappedSeries != nil && in.mmappedSeries.ooo != nil {\n", 1,
		"\t\tif in.mmappedSeries != nil && !in.mmappedSeries.hasLate(in.mmapRef) {\n\t\t\tin.mmappedSeries.mmapCurrentOOOHeadChunk(appendChunkOpts, h.logger)\n\t\t\tcontinue\n\t\t}\n\t\tif in.mmappedSeries != nil && in.mmappedSeries.ooo != nil {\n"},
	// A standby has no chunks from an earlier start; such chunks would replace what it replayed.
	{headWALGo, "\t\t\t\t\tmultiRef[walSeries.Ref] = mSeries.ref\n", 1,
		"\t\t\t\t\tmultiRef[walSeries.Ref] = mSeries.ref\n\t\t\t\t\tif h.follow.active {\n\t\t\t\t\t\tcontinue\n\t\t\t\t\t}\n"},

	// The database passes the options on.
	{dbGo, "type Options struct {\n", 1, `type Options struct {
	// NewHeadChunkStore opens the store of the head's chunks; nil: upstream's.
	NewHeadChunkStore HeadChunkStoreOpener
	// HeadChunkPassInterval is the time between two sorted passes; 0: 15 s, negative: only upstream's.
	HeadChunkPassInterval time.Duration
	// FollowedLog makes the replay go on with what another database writes; nil: it ends as upstream's does.
	FollowedLog FollowedLog

`},
	{dbGo, "\theadOpts.ChunkWriteQueueSize = opts.HeadChunksWriteQueueSize\n", 1, `	headOpts.ChunkWriteQueueSize = opts.HeadChunksWriteQueueSize
	headOpts.NewChunkStore = opts.NewHeadChunkStore
	headOpts.ChunkPassInterval = opts.HeadChunkPassInterval
	headOpts.FollowedLog = opts.FollowedLog
`},
	// A standby may have late samples from its leader.
	{dbGo, "\t\tif opts.OutOfOrderTimeWindow > 0 || wblSize > 0 {\n", 1, "\t\tif opts.OutOfOrderTimeWindow > 0 || wblSize > 0 || opts.FollowedLog != nil {\n"},
	{dbGo, "\tif initErr := db.head.Init(minValidTime); initErr != nil {\n", 1,
		"\tif initErr := db.initHead(minValidTime); initErr != nil {\n\t\tif isFollowError(initErr) {\n\t\t\treturn nil, initErr\n\t\t}\n"},

	// The command has the flags, and connects before it opens the database, in the actor that opens it:
	// meanwhile probes are answered, and SIGTERM ends the actor. Deferred calls run after the database is
	// closed.
	{mainGo, "\t\"github.com/prometheus/prometheus/web\"\n", 1, "\t\"github.com/prometheus/prometheus/web\"\n\tapi_v1 \"github.com/prometheus/prometheus/web/api/v1\"\n\n\tmaasflag \"github.com/maas-memory/maas/prometheus/maasflag\"\n"},
	{mainGo, "\tserverOnlyFlag(a, \"storage.tsdb.path\",", 1, `	maasConfig := maasflag.Add(func(name, help string) *kingpin.FlagClause { return serverOnlyFlag(a, name, help) })

	serverOnlyFlag(a, "storage.tsdb.path",`},
	// A standby scrapes as soon as it leads.
	{mainGo, "\tscrapeManager, err := scrape.NewManager(\n", 1, `	maas := maasflag.New(maasConfig, localStoragePath, logger, prometheus.DefaultRegisterer)
	web.NotReadyReason = maas.NotReady
	api_v1.Receiver = maas.Receiver
	cfg.scrape.DiscoveryReloadOnStartup = maasConfig.Follows()

	scrapeManager, err := scrape.NewManager(
`},
	// A process that was stopped and continues sends no alert before it knows that it leads.
	{mainGo, "rules.SendAlerts(notifierManager, cfg.web.ExternalURL.String()),\n", 1, `func(ctx context.Context, expr string, alerts ...*rules.Alert) {
				if maas.Leads(ctx) {
					rules.SendAlerts(notifierManager, cfg.web.ExternalURL.String())(ctx, expr, alerts...)
				}
			},
`},
	{mainGo, "\t\t\t\tdb, err := openDBWithMetrics(localStoragePath, logger, prometheus.DefaultRegisterer, &opts, localStorage.getStats())\n", 1, `				var db *tsdb.DB
				err := maas.Open(cancel, opts.EnableMemorySnapshotOnShutdown, func(reg prometheus.Registerer, memory *maasflag.Attachment) (err error) {
					opts := opts
					if memory != nil {
						opts.NewHeadChunkStore = func(reg prometheus.Registerer, dir string, pool chunkenc.Pool, writeBufferSize, writeQueueSize int) (tsdb.HeadChunkStore, error) {
							return memory.Open(reg, dir, pool, writeBufferSize, writeQueueSize)
						}
						if log := memory.FollowedLog(); log != nil {
							opts.FollowedLog = log
						}
						exclude := opts.BlockCompactionExcludeFunc
						opts.BlockCompactionExcludeFunc = func(meta *tsdb.BlockMeta) bool {
							return memory.Returning() || exclude != nil && exclude(meta)
						}
					}
					db, err = openDBWithMetrics(localStoragePath, logger, reg, &opts, localStorage.getStats())
					return err
				})
				defer maas.Close()
`},
	// The database is open now, and blocks may come back.
	{mainGo, "\t\t\t\tlogger.Info(\"TSDB started\")\n", 1, "\t\t\t\tlogger.Info(\"TSDB started\")\n\t\t\t\tmaas.Return(db)\n"},
	// Rules and scrapes have ended. Closing the database can take long, and the standby need not wait for it.
	{mainGo, "\t\t\t\tlogger.Info(\"Stopping storage...\")\n", 1, "\t\t\t\tmaas.HandOver()\n\t\t\t\tlogger.Info(\"Stopping storage...\")\n"},
	{mainGo, "a.Parse(os.Args[1:])", 1, "a.Parse(maasflag.NormaliseArgs(os.Args[1:]))"},

	// A leader acknowledges only samples that its successor will have.
	{apiGo, "api.ready(api.remoteWrite)", 1, "api.ready(Receiver(api.remoteWrite))"},
	{apiGo, "api.ready(api.otlpWrite)", 1, "api.ready(Receiver(api.otlpWrite))"},

	// A standby says what it waits for.
	{webGo, "\t\tcase NotReady:\n\t\t\tw.Header().Set(\"X-Prometheus-Stopping\", \"false\")\n\t\t\tw.WriteHeader(http.StatusServiceUnavailable)\n", 1,
		"\t\tcase NotReady:\n\t\t\tw.Header().Set(\"X-Prometheus-Stopping\", \"false\")\n\t\t\tw.WriteHeader(http.StatusServiceUnavailable)\n\t\t\tif notReadyReason(w) {\n\t\t\t\treturn\n\t\t\t}\n"},
	// Nobody takes the request for as long as the leader lives, and each that waits has a connection.
	{webGo, "func (h *Handler) reload(w http.ResponseWriter, _ *http.Request) {\n\trc := make(chan error)\n\th.reloadCh <- rc\n", 1,
		"func (h *Handler) reload(w http.ResponseWriter, r *http.Request) {\n\trc := make(chan error)\n\tif !askReload(w, r, h.reloadCh, rc) {\n\t\treturn\n\t}\n"},
}
