/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario: scenarios on a real device, many in one boot of a machine. Each runs in a process group
 * of its own, which is killed at its end; it fails by fail(), by its time limit, or by a warning of
 * the kernel, and then the logs of its servers are shown.
 */
#ifndef MAAS_TESTS_SCENARIO_H
#define MAAS_TESTS_SCENARIO_H

#include <sys/types.h>

#include "tests/counts.h"
#include "tests/random.h"
#include "tests/rdma/raw.h"

/* ---- running them */

/* Runs once for each key mode; modes are parted by blanks. */
struct scenario {
	const char *name;
	void (*run)(const char *keys);
	unsigned int limit_s; /* ten times as long in the long tier */
	const char *keys;     /* in both tiers */
	const char *long_keys;
};

/*
 * What main() of a program with scenarios does: PROGRAM MAASD [FILTER]. Runs those scenarios of
 * this tier that the filter names: names and key modes, parted by commas (none: all); one line for
 * each. Returns an exit status: 0 when all passed, 77 when `variable` of scripts/softroce is not
 * there. Nothing runs after a warning of the kernel: later results would prove nothing.
 */
int scenario_main(int argc, char **argv, const char *variable, const struct scenario *scenarios,
		  size_t count);

/* ---- within one */

/* Says where and why, and ends the scenario. */
#define fail(...) scenario_fail(__FILE__, __LINE__, __VA_ARGS__)
void scenario_fail(const char *file, int line, const char *fmt, ...) MAAS_PRINTF(3, 4)
	__attribute__((noreturn));

#define require(condition, ...)                                                                    \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail(__VA_ARGS__);                                                         \
	} while (0)

/* The place, for the `what` of a check that many places make. */
#define HERE	     PLACE(__LINE__)
#define PLACE(line)  PLACED(line)
#define PLACED(line) __FILE__ ":" #line

/* For two integers of any type. */
#define require_equal(got, want, what)                                                             \
	scenario_equal(__FILE__, __LINE__, (long long)(got), (long long)(want), what)
void scenario_equal(const char *file, int line, long long got, long long want, const char *what);

/* A figure for the scenario's line in the report; how long it took since `started_ms`. */
void note(const char *fmt, ...) MAAS_PRINTF(1, 2);
void note_time(const char *what, uint64_t started_ms);

/* One more process of the scenario; it is killed with it. In it `run(arg)`, then exit(0). */
pid_t scenario_fork(void (*run)(void *arg), void *arg);
/* Waits. Returns its exit status, or minus the signal that ended it. */
int scenario_wait(pid_t pid);
/* The same with a limit: false when it still runs after `timeout_ms`. */
bool scenario_wait_for(pid_t pid, unsigned int timeout_ms, int *ret_status);

void sleep_ms(unsigned int ms);

/* Evaluates the condition every 20 ms until it holds; fails with the words behind the time. */
#define require_soon(condition, timeout_ms, ...)                                                   \
	do {                                                                                       \
		uint64_t soon_ms = maas_clock_ms() + (timeout_ms);                                 \
		while (!(condition)) {                                                             \
			require(maas_clock_ms() < soon_ms, __VA_ARGS__);                           \
			sleep_ms(20);                                                              \
		}                                                                                  \
	} while (0)

/* For its owner alone, and there all at once. */
void write_file(const char *path, const char *text);
/* Runs a shell command, which must succeed. Returns what it prints, until the next call. */
const char *shell(const char *fmt, ...) MAAS_PRINTF(1, 2);

/* ---- maasd */

/* The scenario's own, or on two hosts that of host a. If it still runs at the end, it is stopped.
 */
extern struct server {
	pid_t pid; /* 0: none on this host */
	char url[RAW_URL];
	char log[128];
} server;

/* The maasd under test, and a folder for the scenario's files. */
extern const char *scenario_maasd;
extern char scenario_dir[64];
/* Shows the servers' logs, where they are not in the folder. */
extern void (*scenario_on_failure)(void);
/* Makes the folder and goes there; scenario_main() does. */
void scenario_dir_make(void);

/* Starts it on SOFTROCE_ADDR with `--rdma required`, this key mode, and options parted by blanks.
 */
void server_start(const char *keys, const char *options);
/* Starts it by any command line that ends in maasd's. False: it ended; `ret_status` says how. */
bool server_try(const char *const *argv, int *ret_status);
/* SIGTERM; it must end with 0 within two seconds. Nothing in its log may be an error. */
void server_stop(void);
/* One metric without labels, or with them as they stand in the page; -1: not there. */
double server_metric(const char *name);
/* Waits until the metric has this value. */
void server_await(const char *name, double value, unsigned int timeout_ms);
bool server_log_has(const char *text);

/*
 * librdmacm keeps the device open that it has used once: what there was at first is to have that in
 * it already. But no process can use a device that its parent opened (-EACCES): scenarios that fork
 * clients leave it alone.
 */
void device_open(void);

/* What the kernel holds for programs that use the device, as "rdma resource show" counts it. */
struct resources {
	char text[1024];
};

void resources_get(struct resources *ret_resources);
/* Waits until there is as much as there was. */
void resources_await(const struct resources *before, unsigned int timeout_ms);

/* ---- a client with one session and its connection; everything must succeed */

struct borrower {
	struct raw_http *http;
	struct raw_session session;
	struct raw_link link;
};

#define FOREIGN 0xbd  /* bytes that no other is to find */
#define LEASE_S 36000 /* for scenarios that are not about leases: nothing renews it */

void borrower_open(struct borrower *borrower, size_t buffer_bytes);
void borrower_open_for(struct borrower *borrower, unsigned int ttl_s, size_t buffer_bytes);
/* With a token, which is borrowed, and a session of this name. */
void borrower_open_as(struct borrower *borrower, const char *token, const char *name,
		      size_t buffer_bytes);
/* A new ticket and a new connection in the place of the old. */
void borrower_reconnect(struct borrower *borrower);
/* Leaves the session to its lease. */
void borrower_close(struct borrower *borrower);
void borrower_end(struct borrower *borrower);
void borrower_alloc(struct borrower *borrower, size_t size_bytes, struct raw_key *ret_key);
/* It lives as long as the session. */
void borrower_alloc_owned(struct borrower *borrower, size_t size_bytes, struct raw_key *ret_key);
void borrower_free(struct borrower *borrower, const struct raw_key *key);
void borrower_grant(struct borrower *borrower, const char *id, const char *access,
		    struct raw_key *ret_key);

/* A connection with the session's ticket, which must be refused as unknown. */
void must_refuse_ticket(const struct raw_session *session, const char *what);

/* Between the link's buffer and the whole allocation, which must fit into it. */
#define must_read(link, key)  must_move(HERE, link, IBV_WR_RDMA_READ, key)
#define must_write(link, key) must_move(HERE, link, IBV_WR_RDMA_WRITE, key)
void must_move(const char *what, struct raw_link *link, enum ibv_wr_opcode opcode,
	       const struct raw_key *key);

/*
 * An attempt that must be refused, and bring nothing. It kills the link's queue pair, and what
 * comes behind it is flushed, which proves nothing: each attempt is the first request of its
 * connection.
 */
#define must_refuse(...) must_refuse_at(HERE, __VA_ARGS__)
void must_refuse_at(const char *what, struct raw_link *link, enum ibv_wr_opcode opcode, size_t len,
		    uint64_t addr, uint32_t rkey);

/* The whole allocation holds `value`, read through the key, in pieces of the link's buffer. */
void must_hold(struct raw_link *link, const struct raw_key *key, uint8_t value, const char *what);
#define must_fill(link, key, value) must_fill_at(HERE, link, key, value)
void must_fill_at(const char *what, struct raw_link *link, const struct raw_key *key,
		  uint8_t value);
/* The same, over HTTP. */
void must_hold_http(struct raw_http *http, const struct raw_key *key, uint8_t value,
		    const char *what);

#endif
