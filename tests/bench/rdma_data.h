/* SPDX-License-Identifier: Apache-2.0 */
/* rdma_data: a maasd with keys of one mode, and what libmaas does with its memory. One thread. */
#ifndef MAAS_BENCH_RDMA_DATA_H
#define MAAS_BENCH_RDMA_DATA_H

#include "base/base.h"

struct rdma_data;

struct rdma_data_options {
	const char *maasd;
	const char *dir;   /* for its output */
	const char *mode;  /* "window" or "mr" */
	unsigned int live; /* allocations beside those that are used */
};

/* What to do: messages of `bytes`, `depth` of them under way. */
struct rdma_data_job {
	bool write;
	uint64_t bytes;
	unsigned int depth; /* 0: one by one, each of them timed */
	unsigned int messages;
};

struct rdma_data_sample {
	double mib_s;
	double p50_us; /* of those that are timed */
	double p99_us;
	double p999_us;
	double cpu_ns; /* of a message: this process and the server */
};

/*
 * Starts the server, connects, and checks every byte of each size once: what was written to some
 * allocations is what is read. Errors: -EBADMSG a wrong byte, -EPROTO the server has no such keys.
 */
MAAS_MUST_CHECK int rdma_data_open(const struct rdma_data_options *options,
				   struct rdma_data **ret_data);
/* NULL is allowed. Errors: -EIO the server did not end well. */
MAAS_MUST_CHECK int rdma_data_close(struct rdma_data *data);

/* The name of the device that carries it. */
const char *rdma_data_device(const struct rdma_data *data);

/* Errors: of libmaas; -EBADMSG a wrong byte afterwards; -ERANGE an impossible speed. */
MAAS_MUST_CHECK int rdma_data_run(struct rdma_data *data, const struct rdma_data_job *job,
				  struct rdma_data_sample *ret_sample);

/* Allocates `count` times 1 KiB with keys in one request, and frees them: nanoseconds for one. */
MAAS_MUST_CHECK int rdma_data_allocate(struct rdma_data *data, unsigned int count,
				       double *ret_wall_ns, double *ret_cpu_ns);

#endif
