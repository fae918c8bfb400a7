/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to daemon/: how maasd is put together.
 *
 *     main ── options ── machine, memory (limits) ── serve ┬─ slab ◀─ lend ◀─ http
 *                                                        ├─ slab ◀─ lend ◀─ rdma
 *                                                        └─ housekeeping
 *
 * Its threads, and the order in which locks are taken: docs/internals.md. Threads are started after
 * signals are blocked, so that only the main thread sees them.
 */
#ifndef MAAS_DAEMON_INTERNAL_H
#define MAAS_DAEMON_INTERNAL_H

#include <sys/stat.h>

#include "auth/auth.h"
#include "daemon/options.h"
#include "http/http.h"
#include "rdma/rdma.h"

#define MAASD_EXIT_FAILURE 1 /* the server cannot run */
#define MAASD_EXIT_USAGE   2 /* bad options */

/* ---- machine: what it allows */

/*
 * Raises RLIMIT_NOFILE so that every connection finds a descriptor. Where that is not allowed,
 * lowers options->max_connections to what fits, and warns. Errors: -EMFILE when not even one fits.
 */
MAAS_MUST_CHECK int maasd_machine_raise_files(struct maasd_options *options,
					      char error[MAASD_OPTIONS_ERROR]);

/* The group that --socket-group names, if it is given. Errors: -ENOENT there is none. */
MAAS_MUST_CHECK int maasd_machine_find_group(const struct maasd_options *options,
					     char error[MAASD_OPTIONS_ERROR], gid_t *ret_group);

/* Binds this process's memory to a NUMA node (set_mempolicy(2)); threads started later inherit it.
 * Errors: -ENODEV no such node or none with memory, -EPERM; `error` names the nodes there are. */
MAAS_MUST_CHECK int maasd_machine_bind_node(unsigned int node, char error[MAASD_OPTIONS_ERROR]);

/* Appends `name = value` lines on the limits of this process: memlock, descriptors. */
void maasd_machine_print(struct maas_buf *out);

/* ---- memory: whether the pool fits */

/* What the pool and its table need, and have. Errors: as maas_slab_room(), with a sentence. */
MAAS_MUST_CHECK int maasd_memory_room(const struct maasd_options *options,
				      char error[MAASD_OPTIONS_ERROR],
				      struct maas_slab_room *ret_room);
/*
 * Warns, in the log, where a pool as `options` say is more than this machine, its cgroup or the
 * file system of --memory-file holds; with --prealloc that is an error. Returns how many warnings
 * there were. Errors: -ENOMEM, -ENOSPC, as maas_slab_room().
 */
MAAS_MUST_CHECK int maasd_memory_check(const struct maasd_options *options,
				       char error[MAASD_OPTIONS_ERROR]);

/* Whether there is memory kept at --memory-file that the options may not open, as the start finds.
 * Errors: as maas_slab_look(), -EACCES; with a sentence. */
MAAS_MUST_CHECK int maasd_memory_look(const struct maasd_options *options,
				      char error[MAASD_OPTIONS_ERROR]);
/* Says so of memory that had principals. Returns -EACCES. */
int maasd_memory_refuse_open(const struct maasd_options *options, char error[MAASD_OPTIONS_ERROR]);
/* Appends `name = value` lines: the machine's memory, cgroup limit and file system's room. */
void maasd_memory_print(const struct maasd_options *options, struct maas_buf *out);

/* ---- housekeeping */

struct maasd_housekeeping;

struct maasd_housekeeping_options {
	struct maas_slab *slab; /* borrowed, as the others */
	struct maas_lend *lend;
	struct maas_http *http;
	uint64_t watchdog_us; /* tell systemd this often that all is well; 0: never */
};

/* Starts the thread that ticks every 100 ms. Errors: -ENOMEM, -EAGAIN. */
MAAS_MUST_CHECK int maasd_housekeeping_start(const struct maasd_housekeeping_options *options,
					     struct maasd_housekeeping **ret_housekeeping);
/* Ends the thread and waits for it. NULL is allowed. */
void maasd_housekeeping_stop(struct maasd_housekeeping *housekeeping);

/* ---- reload: what is read again */

/* A part of the configuration. All zero: there is nothing to read. */
struct maasd_reload {
	const char *what; /* in the log: "principals" */
	/* Reads the files, and puts what they say in the place of what was there. */
	int (*read)(void *ctx, char error[MAASD_OPTIONS_ERROR]);
	void *ctx;
	const char *paths[4]; /* NULL: none */
	/* of maasd_reload() alone */
	struct stat seen[4]; /* of the files that were read last */
	bool failed;
};

/* Reads a part at the start. Errors: as its `read`. */
MAAS_MUST_CHECK int maasd_reload_first(struct maasd_reload *reload,
				       char error[MAASD_OPTIONS_ERROR]);
/* Reads again the parts whose files have changed, or `always` all; the log and /metrics say what
 * came of it. Returns in how many ms to look again. */
unsigned int maasd_reload(struct maasd_reload *const *reloads, size_t count, bool always,
			  struct maas_http *http);

/* ---- auth: the file of principals */

struct maasd_auth {
	const struct maasd_options *options; /* borrowed, as the others */
	struct maas_lend *lend;
	struct maasd_reload reload;
};

/* For --check: appends who pays for which owners. Errors: as maas_auth_load(). */
MAAS_MUST_CHECK int maasd_auth_check(const struct maasd_options *options,
				     char error[MAASD_OPTIONS_ERROR], struct maas_buf *out);
/* Reads the file, if there is to be one, for `lend`. Errors: as maasd_auth_check(). */
MAAS_MUST_CHECK int maasd_auth_start(struct maasd_auth *state, const struct maasd_options *options,
				     struct maas_lend *lend, char error[MAASD_OPTIONS_ERROR]);
/* Whether keys of the device are good enough where there are principals. Errors: -EPERM. */
MAAS_MUST_CHECK int maasd_auth_check_rdma(const struct maasd_options *options,
					  const struct maas_rdma *rdma,
					  char error[MAASD_OPTIONS_ERROR]);
/* ---- tls: the certificates */

struct maasd_tls {
	const struct maasd_options *options; /* borrowed, as http */
	struct maas_http *http;		     /* NULL until it has started */
	struct maas_tls *table;		     /* NULL: there is no TLS */
	bool expired;			     /* which the log has said */
	struct maasd_reload reload;
};

/* Reads the files, if there are to be some. Errors: as maas_tls_load(). */
MAAS_MUST_CHECK int maasd_tls_start(struct maasd_tls *state, const struct maasd_options *options,
				    char error[MAASD_OPTIONS_ERROR]);
/* Says so when the certificate has expired. */
void maasd_tls_look(struct maasd_tls *state);
void maasd_tls_stop(struct maasd_tls *state);

/* For --check: appends what the certificate says. Errors: as maas_tls_load(). */
MAAS_MUST_CHECK int maasd_tls_check(const struct maasd_options *options,
				    char error[MAASD_OPTIONS_ERROR], struct maas_buf *out);

/* ---- serve */

/* Serves until a signal ends it. Returns the program's exit code. */
int maasd_serve(struct maasd_options *options);

/* The pool that `options` ask for; unless it is for `serving`, without --prealloc and
 * --memory-file. Borrows: `options`. */
struct maas_slab_options maasd_serve_slab_options(const struct maasd_options *options,
						  bool serving);

/* Opens a pool; only the sentence in `error` is the daemon's. Errors: as maas_slab_open(). */
MAAS_MUST_CHECK int maasd_serve_open_pool(const struct maas_slab_options *options,
					  char error[MAASD_OPTIONS_ERROR],
					  struct maas_slab **ret_slab);

/* For --check: whether every --listen could be served, without serving it. Errors: as
 * maasd_machine_find_group() and maas_http_start(). */
MAAS_MUST_CHECK int maasd_serve_check_listen(const struct maasd_options *options,
					     char error[MAASD_OPTIONS_ERROR]);

/*
 * The RDMA side, by the options and by what the host has; `ret_rdma` is NULL where it is served
 * over HTTP only, and the log says why. Errors: as maas_rdma_open(), where RDMA was asked for by
 * name.
 */
MAAS_MUST_CHECK int maasd_serve_open_rdma(const struct maasd_options *options,
					  struct maas_slab *slab, char error[MAASD_OPTIONS_ERROR],
					  struct maas_rdma **ret_rdma);

/*
 * For --check: appends `name = value` lines on what was found of RDMA; nobody can connect, and
 * nothing of the pool is registered. Errors: as maasd_serve_open_rdma().
 */
MAAS_MUST_CHECK int maasd_serve_check_rdma(const struct maasd_options *options,
					   struct maas_slab *slab, char error[MAASD_OPTIONS_ERROR],
					   struct maas_buf *out);

/* What /health says of RDMA. Borrows: `rdma` (NULL: none) and `isolation`, into which it writes. */
void maasd_serve_describe_rdma(const struct maas_rdma *rdma, struct maas_buf *isolation,
			       struct maas_http_rdma *ret_rdma);

/* ---- announce: what is said at the start */

/* True when an address as --listen takes it, "127.0.0.1:3000", can be reached from other hosts. */
bool maasd_announce_is_public(const char *address);
/* The first such address that is served, or NULL. */
const char *maasd_announce_public(const struct maas_http *http);
/* Says what there is to say, to the log, stderr and systemd. `rdma` may be NULL. */
void maasd_announce(const struct maasd_options *options, const struct maas_http *http,
		    const struct maas_rdma *rdma);

#endif
