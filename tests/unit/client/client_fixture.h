/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the client share: a maasd of their own, servers that misbehave, and the handles
 * under test. A program ends its cases with client_end(), which closes what is open.
 */
#ifndef MAAS_TESTS_CLIENT_FIXTURE_H
#define MAAS_TESTS_CLIENT_FIXTURE_H

#include <sys/types.h>

#include "base/base.h"
#include "client/maas.h"
#include "tests/unit/unit.h"

#define SOME_ID "00000000-0000-8000-8741-8d35090dc78e"

/* Arguments in one line, which live as long as their block: OPTIONS(.timeout_ms = 300). */
#define OPTIONS(...)                                                                               \
	(&(const struct maas_options){.size = sizeof(struct maas_options), __VA_ARGS__})
#define ALLOC_OPTIONS(...)                                                                         \
	(&(const struct maas_alloc_options){.size = sizeof(struct maas_alloc_options), __VA_ARGS__})
#define RANGE(id, offset, buf, len) (&(const struct maas_range){id, offset, buf, len})

/* The handle under test, and another one where a case needs it; NULL: not open. */
extern struct maas *maas;
extern struct maas *other;

/* A handle with a timeout of 10 s; `options` may be NULL. */
struct maas *client_open(const char *url, const struct maas_options *options);
void client_close(struct maas **handle);
/* Closes the handles, the stub and the proxy, and stops maasd, where they are open. */
void client_end(void);
/* The same, and what `maas` speaks to must have no allocation left, if it is maasd. */
void client_end_empty(void);

/* Memory, which has to come. */
struct maas_allocation client_alloc(struct maas *handle, uint64_t size_bytes);
/* Gives it back in one call of `maas`, which has to free all. */
void client_free(const struct maas_allocation *allocations, uint32_t count);
struct maas_session client_session(void);
/* The status of a GET by `maas`. */
int client_get(const char *path);
/* Submit it, which has to be taken; the arguments are those of maas_submit_read(). */
void submit_read(const struct maas_range *range, uint32_t timeout_ms, void *user);
void submit_write(const struct maas_range *range, uint32_t timeout_ms, void *user);
/* Waits for the next completion of `maas`, which must have this status. */
struct maas_completion client_done(int status);
/* Waits for as many; each `user` is NULL or a number that counts its completions. */
void client_take(uint32_t count, int status);
/* Whether the event descriptor of `maas` becomes so. */
bool client_readable(int timeout_ms);

#define CROWD_OPS 800

/* Threads write the range and what follows it, CROWD_OPS times, while others take the completions,
 * which all come. */
void crowd_run(const struct maas_range *range);

/* A number in /stats, such as "active_allocations". */
long client_stat(struct maas *handle, const char *name);

/* A call returned `error`, and maas_error() has these words. */
void expect_error(int r, int error, const char *words);

/* Puts another file in the place of `path`, in one step. */
void put_file(const char *path, const char *text, mode_t mode);

/* ---- a real maasd */

extern struct server {
	pid_t pid; /* 0: none */
	char url[128];
	char log[64]; /* its stderr */
} server;

/* Starts it, with a pool of 16 MiB, at `listen` or, by itself, anywhere. */
void server_start_at(const char *listen);
void server_start(void);
/* The same, and opens `maas`. */
void server_open(void);
void server_stop(void);

/* ---- a server that says the same to everybody, and a network that breaks */

#define OK(body)	  "HTTP/1.1 200 OK\r\n\r\n" body
#define NO(status, error) "HTTP/1.1 " status " No\r\n\r\n{\"error\":" error "}"
#define SESSION(ttl)	  OK("{\"id\":\"" SOME_ID "\",\"ttl_seconds\":" ttl "}")

/* Of the stub and of the proxy. */
struct listener {
	char url[64];
	_Atomic unsigned int connections; /* those of the stub had one request each */
	int fd;
	pthread_t thread;
};

extern struct listener stub, proxy;
/* Does nothing where it was not started. What goes by the proxy has to be closed before. */
void listener_stop(struct listener *listener);

/* The last request, head and body; while none is under way. */
extern char stub_seen[];
/* Only requests with this token get the answer, others 401; NULL: all do. At any time. */
extern _Atomic(const char *) stub_token;

/* Reads each request, answers `answer` and closes; NULL: closes at once; "": never answers. Opens
 * `maas`. */
void stub_open(const char *answer, const struct maas_options *options);
/* Other answers from now on: to the next request, and to all behind it. */
void stub_say(const char *next, const char *then);
/* An answer that redirects; it stands until the next call. */
MAAS_PRINTF(2, 3) const char *stub_redirect(const char *status, const char *location, ...);

/* Passes connections on to the server at `url`, 64 in all; of the first `losses` the first answer
 * is lost. */
void proxy_start(const char *url, unsigned int losses);
/* The next answer is lost, and its connection, which may have had others before. */
extern _Atomic bool proxy_loses_next;
/* Nothing gets through, until this is false again. */
extern _Atomic bool proxy_stalled;
/* Nor on the connections before that number, until this is 0. */
extern _Atomic unsigned int proxy_stuck;

/*
 * Starts maasd, and the proxy before it. Opens `maas` at the proxy, and `other` at maasd.
 */
void proxy_open(unsigned int losses, const struct maas_options *options);

#endif
