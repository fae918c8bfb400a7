/* SPDX-License-Identifier: Apache-2.0 */
/* maasd as a child process, and the handles; all of it belongs to the thread of the case. */
#include "tests/unit/client/client_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct maas *maas;
struct maas *other;
struct server server;

/* ---- maasd */

/* The URL behind "Listening on ", once it stands in the log. */
static bool find_url(void)
{
	static const char words[] = "Listening on ";
	char line[512];
	bool found = false;
	FILE *file = fopen(server.log, "re");

	assert_non_null(file);
	while (!found && fgets(line, sizeof(line), file)) {
		found = strncmp(line, words, strlen(words)) == 0 && strchr(line, '\n');
		if (found) {
			line[strcspn(line, "\n")] = '\0';
			snprintf(server.url, sizeof(server.url), "%.100s", line + strlen(words));
		}
	}
	fclose(file);
	return found;
}

static void run_maasd(const char *listen, int log)
{
	/* A test that is killed leaves no server behind. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	clearenv();
	dup2(log, STDERR_FILENO);
	execl(MAASD, "maasd", "--listen", listen, "--max-pool-size", "16MiB", (char *)NULL);
	_exit(127);
}

void server_start_at(const char *listen)
{
	int log;

	memset(&server, 0, sizeof(server));
	snprintf(server.log, sizeof(server.log), "client-maasd-XXXXXX");
	log = mkstemp(server.log);
	assert_true(log >= 0);
	server.pid = fork();
	assert_true(server.pid >= 0);
	if (!server.pid)
		run_maasd(listen, log);
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
	if (!copy.timeout_ms)
		copy.timeout_ms = 10000;
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
	stub_stop();
	proxy_stop();
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

struct maas_completion client_done(int status)
{
	struct maas_completion completion;

	assert_int_equal(maas_poll(maas, &completion, 1, 10000), 1);
	if (completion.status != status)
		fail_msg("%d, not %d: %s", completion.status, status, completion.error);
	return completion;
}

long client_stat(struct maas *handle, const char *name)
{
	char pattern[64];
	const char *at;
	char *text;
	long value;

	assert_int_equal(maas_get(handle, "/stats", &text, NULL), 0);
	snprintf(pattern, sizeof(pattern), "\"%s\":", name);
	at = strstr(text, pattern);
	assert_non_null(at);
	value = strtol(at + strlen(pattern), NULL, 10);
	free(text);
	return value;
}

void client_end_empty(void)
{
	long left = server.pid ? client_stat(maas, "active_allocations") : 0;

	client_end();
	assert_int_equal(left, 0);
}

/* ---- files of the client */

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
