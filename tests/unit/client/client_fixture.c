/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/client/client_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void client_nap_ms(unsigned int ms)
{
	struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000L};

	nanosleep(&pause, NULL);
}

/* The URL behind "Listening on ", once it stands in the log. */
static bool find_url(struct client_server *server)
{
	static const char words[] = "Listening on ";
	char line[512];
	bool found = false;
	FILE *file = fopen(server->log, "re");

	assert_non_null(file);
	while (!found && fgets(line, sizeof(line), file)) {
		found = strncmp(line, words, strlen(words)) == 0 && strchr(line, '\n');
		if (found) {
			line[strcspn(line, "\n")] = '\0';
			snprintf(server->url, sizeof(server->url), "%.100s", line + strlen(words));
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

void client_server_start(struct client_server *server, const char *listen)
{
	int log;

	memset(server, 0, sizeof(*server));
	snprintf(server->log, sizeof(server->log), "client-maasd-XXXXXX");
	log = mkstemp(server->log);
	assert_true(log >= 0);
	server->pid = fork();
	assert_true(server->pid >= 0);
	if (!server->pid)
		run_maasd(listen, log);
	close(log);
	CLIENT_WAIT(find_url(server) || waitpid(server->pid, NULL, WNOHANG));
	assert_true(find_url(server));
}

void client_server_stop(struct client_server *server)
{
	int status;

	kill(server->pid, SIGCONT);
	kill(server->pid, SIGTERM);
	assert_int_equal(waitpid(server->pid, &status, 0), server->pid);
	unlink(server->log);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

struct maas *client_open(const char *url, const struct maas_options *options)
{
	struct maas_options copy = {.size = sizeof(copy)};
	struct maas *maas;

	if (options)
		copy = *options;
	copy.url = url;
	if (!copy.timeout_ms)
		copy.timeout_ms = 10000;
	if (maas_open(&copy, &maas))
		fail_msg("%s", maas_error());
	return maas;
}

long client_stat(struct maas *maas, const char *name)
{
	char pattern[64];
	const char *at;
	char *text;
	long value;

	assert_int_equal(maas_get(maas, "/stats", &text, NULL), 0);
	snprintf(pattern, sizeof(pattern), "\"%s\":", name);
	at = strstr(text, pattern);
	assert_non_null(at);
	value = strtol(at + strlen(pattern), NULL, 10);
	free(text);
	return value;
}
