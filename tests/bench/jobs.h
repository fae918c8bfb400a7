/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs: the requests that a benchmark sends and what it takes for a right answer.
 * Threading: one thread.
 */
#ifndef MAAS_BENCH_JOBS_H
#define MAAS_BENCH_JOBS_H

#include "tests/bench/load.h"

#define JOB_CONNECTIONS	     16
#define JOB_DATA_CONNECTIONS 2
#define JOB_DATA_BYTES	     ((size_t)4 << 20)
#define JOB_ID_BYTES	     40

enum job_kind {
	JOB_HEALTH,
	JOB_STATS,
	JOB_METRICS,
	JOB_PAIR,     /* POST /allocate, then DELETE: one operation */
	JOB_ALLOCATE, /* POST /allocate of 1 KiB, keeps the ids */
	JOB_BATCH,    /* the same with a count, on one connection */
	JOB_DATA_GET,
	JOB_DATA_PUT,
	JOB_REDIS_GET,
	JOB_REDIS_SET,
};

/* Ids of allocations that a job made. */
struct id_list {
	char (*ids)[JOB_ID_BYTES];
	size_t num;
	size_t cap;
};

/* One connection's slab or key of JOB_DATA_BYTES, and what it holds. */
struct data_set {
	char ids[JOB_DATA_CONNECTIONS][JOB_ID_BYTES]; /* slabs; Redis has keys of its own */
	uint8_t *bytes[JOB_DATA_CONNECTIONS];
};

struct job_options {
	enum job_kind kind;
	unsigned int batch;	     /* JOB_BATCH: slabs in one request */
	struct id_list *ids;	     /* JOB_ALLOCATE, JOB_BATCH */
	const struct data_set *data; /* JOB_DATA_*, JOB_REDIS_* */
	bool verify;		     /* JOB_*_GET: compare every byte, not only one word a page */
};

struct job;

MAAS_MUST_CHECK int job_open(uint16_t port, const struct job_options *options,
			     struct job **ret_job);
/* As load_run(). */
MAAS_MUST_CHECK int job_run(struct job *job, uint64_t operations, uint64_t *ret_wall_ns);
unsigned int job_connections(const struct job *job);
void job_close(struct job *job);

/*
 * One request, such as "GET /stats", on a connection of its own. `ret_body`, NUL-terminated, is the
 * caller's to free. Errors: as load_run(), -EBADMSG for a status other than 200; logged.
 */
MAAS_MUST_CHECK int job_call(uint16_t port, const char *what, const char *body, char **ret_body);

/* Appends the value of every "id" in a JSON text. Errors: -ENOMEM, -EBADMSG. */
MAAS_MUST_CHECK int id_list_add(struct id_list *list, const char *json, size_t json_len);

/* Fills `bytes` with words that tell where in which data they stand. */
void data_set_fill(struct data_set *data, uint64_t seed);

#endif
