/* SPDX-License-Identifier: Apache-2.0 */
/* rdma_rows: the rows of bench_rdma, which come to be as they are first noted. One thread. */
#ifndef MAAS_BENCH_RDMA_ROWS_H
#define MAAS_BENCH_RDMA_ROWS_H

#include "tests/bench/report.h"

/* A bar that follows from the noise: no lower than the baseline against itself. */
#define RDMA_ROWS_BAND 0.0

struct rdma_note {
	const char *what; /* "write", … */
	uint64_t bytes;	  /* of a message; 0: says nothing */
	const char *mode; /* of the keys */
	const char *more; /* behind it; "" */
	const char *unit; /* constant, as the next */
	const char *baseline_name;
	double bar; /* or RDMA_ROWS_BAND, BENCH_NO_BAR */
	enum bench_bar_is bar_is;
	double ours;
	double baseline;
	double again;
};

/* Notes one pair. Errors: -ERANGE an impossible figure, -ENOSPC. */
MAAS_MUST_CHECK int rdma_rows_note(const struct rdma_note *note);
/* Errors: -ENOMEM, -EIO. */
MAAS_MUST_CHECK int rdma_rows_write(const char *path);

#endif
