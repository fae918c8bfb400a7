/* SPDX-License-Identifier: Apache-2.0 */
/*
 * contest: one sample of one allocator: ours, or whatever malloc(3) is in this process. Each sample
 * is a process of its own, so that jemalloc and mimalloc are preloaded as their users do it and
 * nobody's heap is anybody's neighbour.
 */
#ifndef MAAS_BENCH_CONTEST_H
#define MAAS_BENCH_CONTEST_H

#include "base/base.h"

#define CONTEST_LIVE	   1000000u
#define CONTEST_FEW	   10u
#define CONTEST_SLAB_BYTES 1024u

enum contest_figure {
	CONTEST_PAIR,	  /* ns for allocate + free in one thread, zeroing not counted */
	CONTEST_THREADED, /* the same beside a thread that does nothing; so are all others, too */
	CONTEST_ZEROED,	  /* ns for allocate + zero + free */
	CONTEST_FEW_NS,	  /* ns for free of a random victim + allocate, CONTEST_FEW live */
	CONTEST_LIVE_NS,
	CONTEST_GROWTH,	  /* the latter / the former */
	CONTEST_RESIDENT, /* MiB resident beside the lent bytes at CONTEST_LIVE live */
	CONTEST_FIGURES,
};

struct contest_sample {
	double figures[CONTEST_FIGURES];
};

/*
 * Takes a sample in this process. `proof`: a symbol that must be there, so that a preload that did
 * not happen is noticed; NULL for our slabs. Errors: -ENOENT no such symbol; -EIO a failed
 * operation or a wrong byte, which is logged.
 */
MAAS_MUST_CHECK int contest_run(const char *proof, bool quick, struct contest_sample *ret_sample);

#endif
