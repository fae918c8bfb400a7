/* SPDX-License-Identifier: Apache-2.0 */
/* maasd as a child process, and the handles; all of it belongs to the thread of the case. */
#include "tests/unit/client/client_fixture.h"

#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CROWD_PAIRS 4

struct maas *maas;
struct maas *other;
struct server server;

/* ---- maasd */

/* Takes the URL from the log, once its whole line stands there. */
static bool find_url(void)
{
	char line[512], end;
	bool found = false;
	FILE *file = fopen(server.log, "re");

	assert_non_null(file);
	while (!found && fgets(line, sizeof(line), file))
		found = sscanf(line, "Listening on %100s%c", server.url, &end) == 2;
	fclose(file);
	return found;
}

void server_start_at(const char *listen)
{
	int log;

	server = (struct server){.log = "client-maasd-XXXXXX"};
	log = mkstemp(server.log);
	assert_true(log >= 0);
	server.pid = fork();
	assert_true(server.pid >= 0);
	if (!server.pid) {
		/* A test that is killed leaves no server behind. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		clearenv();
		dup2(log, STDERR_FILENO);
		execl(MAASD, "maasd", "--listen", listen, "--max-pool-size", "16MiB", (char *)NULL);
		_exit(127);
	}
	close(log);
	AWAIT(find_url() || waitpid(server.pid, NULL, WNOHANG));
	assert_true(find_url());
}

void server_start(void)
{
	server_start_at("127.0.0.1:0");
}

void server_open(void)
{
	server_start();
	maas = client_open(server.url, NULL);
}

void server_stop(void)
{
	int status;

	kill(server.pid, SIGCONT);
	kill(server.pid, SIGTERM);
	assert_int_equal(waitpid(server.pid, &status, 0), server.pid);
	server.pid = 0;
	unlink(server.log);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- handles */

struct maas *client_open(const char *url, const struct maas_options *options)
{
	struct maas_options copy = {.size = sizeof(copy)};
	struct maas *handle;

	if (options)
		copy = *options;
	copy.url = url;
	if (maas_open(&copy, &handle))
		fail_msg("%s", maas_error());
	return handle;
}

void client_close(struct maas **handle)
{
	maas_close(*handle);
	*handle = NULL;
}

void client_end(void)
{
	client_close(&maas);
	client_close(&other);
	listener_stop(&stub);
	listener_stop(&proxy);
	if (server.pid)
		server_stop();
}

struct maas_allocation client_alloc(struct maas *handle, uint64_t size_bytes)
{
	struct maas_allocation allocation;

	if (maas_alloc(handle, size_bytes, NULL, &allocation))
		fail_msg("%s", maas_error());
	return allocation;
}

void client_free(const struct maas_allocation *allocations, uint32_t count)
{
	static const char *ids[MAAS_MAX_BATCH];

	for (uint32_t i = 0; i < count; i++)
		ids[i] = allocations[i].id;
	assert_int_equal(maas_free_many(maas, ids, count, NULL), count);
}

struct maas_session client_session(void)
{
	struct maas_session session;

	assert_int_equal(maas_session_get(maas, &session), 0);
	return session;
}

int client_get(const char *path)
{
	char *text = NULL;
	int r = maas_get(maas, path, &text, NULL);

	free(text);
	return r;
}

void submit_read(const struct maas_range *range, uint32_t timeout_ms, void *user)
{
	if (maas_submit_read(maas, range, 1, timeout_ms, user))
		fail_msg("%s", maas_error());
}

void submit_write(const struct maas_range *range, uint32_t timeout_ms, void *user)
{
	if (maas_submit_write(maas, range, 1, timeout_ms, user))
		fail_msg("%s", maas_error());
}

struct maas_completion client_done(int status)
{
	struct maas_completion completion;

	assert_int_equal(maas_poll(maas, &completion, 1, 10000), 1);
	if (completion.status != status)
		fail_msg("%d, not %d: %s", completion.status, status, completion.error);
	return completion;
}

void client_take(uint32_t count, int status)
{
	struct maas_completion at[16];

	while (count) {
		int n = maas_poll(maas, at, count < 16 ? count : 16, 10000);

		assert_in_range(n, 1, count);
		count -= (uint32_t)n;
		for (int i = 0; i < n; i++) {
			if (at[i].status != status)
				fail_msg("%d, not %d: %s", at[i].status, status, at[i].error);
			assert_int_equal(*at[i].error != '\0', status != 0);
			if (at[i].user)
				++*(unsigned int *)at[i].user;
		}
	}
}

bool client_readable(int timeout_ms)
{
	struct pollfd wait = {.fd = maas_event_fd(maas), .events = POLLIN};

	return poll(&wait, 1, timeout_ms) == 1;
}

long client_stat(struct maas *handle, const char *name)
{
	json_t *stats;
	char *text;
	long value;

	assert_int_equal(maas_get(handle, "/stats", &text, NULL), 0);
	stats = json_loads(text, 0, NULL);
	assert_true(json_is_integer(json_object_get(stats, name)));
	value = json_integer_value(json_object_get(stats, name));
	json_decref(stats);
	free(text);
	return value;
}

void expect_error(int r, int error, const char *words)
{
	if (r != error || !strstr(maas_error(), words))
		fail_msg("%d %s, and not %d %s", r, maas_error(), error, words);
}

void client_end_empty(void)
{
	long left = server.pid ? client_stat(maas, "active_allocations") : 0;

	client_end();
	assert_int_equal(left, 0);
}

/* ---- threads that submit and threads that poll, all on `maas` */

static struct {
	struct maas_range range; /* what each operation writes, one behind the other */
	_Atomic uint32_t next;
	_Atomic int left; /* completions that did not come yet */
	_Atomic int good;
} crowd;

static void *crowd_submit(void *arg)
{
	for (int i = 0; i < CROWD_OPS / CROWD_PAIRS; i++) {
		struct maas_range range = crowd.range;

		range.offset += range.len * crowd.next++;
		while (maas_submit_write(maas, &range, 1, 0, NULL))
			nap_ms(1);
	}
	return arg;
}

/* Takes few at once, so that others find some, too. maas_poll() does not wait where nothing is
 * under way. */
static void *crowd_poll(void *arg)
{
	struct maas_completion completions[2];

	while (crowd.left > 0) {
		int n = maas_poll(maas, completions, 2, -1);

		for (int i = 0; i < n; i++)
			crowd.good += !completions[i].status;
		crowd.left -= n;
		if (!n)
			nap();
	}
	return arg;
}

void crowd_run(const struct maas_range *range)
{
	pthread_t submitters[CROWD_PAIRS], pollers[CROWD_PAIRS];

	crowd.range = *range;
	crowd.next = 0;
	crowd.good = 0;
	crowd.left = CROWD_OPS;
	threads_start(submitters, CROWD_PAIRS, crowd_submit, NULL, 0);
	threads_start(pollers, CROWD_PAIRS, crowd_poll, NULL, 0);
	threads_join(submitters, CROWD_PAIRS);
	threads_join(pollers, CROWD_PAIRS);
	assert_int_equal(crowd.good, CROWD_OPS);
}

void put_file(const char *path, const char *text, mode_t mode)
{
	char temporary[80];
	int fd;

	snprintf(temporary, sizeof(temporary), "%s.new", path);
	unlink(temporary);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
	assert_int_equal(rename(temporary, path), 0);
}
