/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server: a program that a benchmark starts, measures and stops. It dies with the benchmark.
 * Threading: one thread.
 */
#ifndef MAAS_BENCH_SERVER_H
#define MAAS_BENCH_SERVER_H

#include <sys/types.h>
#include <time.h>

#include "base/base.h"

struct server {
	const char *name;
	pid_t pid; /* 0: not started */
	uint16_t port;
	clockid_t cpu_clock;
};

/*
 * Starts `argv`, its output appended to the file `output`, and waits until a line there or in the
 * file `log` says `Listening on http://127.0.0.1:PORT`.
 * Errors: -errno of fork(2), -ETIMEDOUT, -ECHILD it ended; its output is then shown.
 */
MAAS_MUST_CHECK int server_start(struct server *server, const char *const *argv, const char *output,
				 const char *log);

/* The same for a program that was told its port: waits until that takes connections. */
MAAS_MUST_CHECK int server_start_on(struct server *server, const char *const *argv,
				    const char *output, uint16_t port);

/* Only starts it. Errors: -errno of fork(2). */
MAAS_MUST_CHECK int server_launch(struct server *server, const char *const *argv,
				  const char *output);

/* The program listens on `port` of any address, which is seen without connecting to it. */
MAAS_MUST_CHECK int server_await_listener(struct server *server, const char *output, uint16_t port);

/*
 * Waits until it ends by itself; later than `timeout_ms` it is killed. `ret_cpu_ns`: user and
 * system. Errors: -ETIMEDOUT, -EIO when it did not end with 0; its output is then shown.
 */
MAAS_MUST_CHECK int server_wait(struct server *server, const char *output, unsigned int timeout_ms,
				uint64_t *ret_cpu_ns);

/* A port of 127.0.0.1 that nobody listens on. Errors: errno of socket(2), bind(2). */
MAAS_MUST_CHECK int server_free_port(uint16_t *ret_port);

/* CPU time of all its threads, user and system. */
uint64_t server_cpu_ns(const struct server *server);

/*
 * What it keeps in memory: its resident private pages and files, and every page of its memfds,
 * mapped in or not. Errors: errno of open(2); -ENODATA when no memfd is to be seen.
 */
MAAS_MUST_CHECK int server_memory(const struct server *server, uint64_t *ret_bytes);

/* SIGTERM, after 10 s SIGKILL. Errors: -EIO when it did not end with 0. */
MAAS_MUST_CHECK int server_stop(struct server *server);

#endif
