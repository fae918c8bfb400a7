/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS 20000
#define STOP_MS	 10000
#define POLL_MS	 10
#define LOOPBACK {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}

static void pause_ms(long ms)
{
	const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	nanosleep(&time, NULL);
}

static _Noreturn void exec_server(const char *const *argv, const char *output)
{
	int fd = open(output, O_WRONLY | O_CREAT | O_APPEND, 0600);
	union {
		const char *const *in;
		char *const *out;
	} args = {argv};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fd >= 0 && dup2(fd, STDOUT_FILENO) >= 0 && dup2(fd, STDERR_FILENO) >= 0)
		execvp(argv[0], args.out);
	_exit(127);
}

int server_launch(struct server *server, const char *const *argv, const char *output)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0)
		exec_server(argv, output);
	server->pid = pid;
	return clock_getcpuclockid(pid, &server->cpu_clock) ? -ESRCH : 0;
}

static void show_file(const char *path)
{
	char text[4096];
	FILE *file = fopen(path, "re");
	size_t len;

	if (!file)
		return;
	len = fread(text, 1, sizeof(text), file);
	fwrite(text, 1, len, stderr);
	fclose(file);
}

static bool find_port(const char *path, uint16_t *ret_port)
{
	static const char words[] = "Listening on http://127.0.0.1:";
	FILE *file = path ? fopen(path, "re") : NULL;
	char line[1024];
	bool found = false;

	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file)) {
		const char *at = strstr(line, words);

		/* A line without its end is still being written. */
		if (!at || !strchr(at, '\n'))
			continue;
		*ret_port = (uint16_t)strtoul(at + sizeof(words) - 1, NULL, 10);
		found = true;
	}
	fclose(file);
	return found;
}

static bool takes_connections(uint16_t port)
{
	struct sockaddr_in address = LOOPBACK;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool connected;

	address.sin_port = htons(port);
	connected = fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
	if (fd >= 0)
		close(fd);
	return connected;
}

/* Not there any more, or there for too long without being ready. */
static int give_up(struct server *server, const char *output, unsigned int waited_ms)
{
	if (waitpid(server->pid, NULL, WNOHANG) == server->pid) {
		log_err("server ended at its start name=%s", server->name);
		server->pid = 0;
		show_file(output);
		return -ECHILD;
	}
	if (waited_ms < START_MS)
		return 0;
	log_err("server did not get ready name=%s", server->name);
	show_file(output);
	return -ETIMEDOUT;
}

int server_start(struct server *server, const char *const *argv, const char *output,
		 const char *log)
{
	int ret = server_launch(server, argv, output);

	for (unsigned int ms = 0; ret == 0; ms += POLL_MS) {
		if (find_port(output, &server->port) || find_port(log, &server->port))
			return 0;
		pause_ms(POLL_MS);
		ret = give_up(server, output, ms);
	}
	return ret;
}

int server_start_on(struct server *server, const char *const *argv, const char *output,
		    uint16_t port)
{
	int ret = server_launch(server, argv, output);

	server->port = port;
	for (unsigned int ms = 0; ret == 0; ms += POLL_MS) {
		if (takes_connections(port))
			return 0;
		pause_ms(POLL_MS);
		ret = give_up(server, output, ms);
	}
	return ret;
}

/* In one of the kernel's tables of sockets; 0A is a listener. */
static bool table_has(const char *path, uint16_t port)
{
	FILE *file = fopen(path, "re");
	char line[256];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		char want[32];
		char *at = strchr(line, ':');

		/* "  0: ADDRESS:PORT PEER:PORT STATE ...", state 0A listens */
		at = at ? strchr(at + 1, ':') : NULL;
		snprintf(want, sizeof(want), ":%04X ", port);
		found = at && !strncmp(at, want, strlen(want)) && strstr(at, " 0A ");
	}
	if (file)
		fclose(file);
	return found;
}

int server_await_listener(struct server *server, const char *output, uint16_t port)
{
	int ret = 0;

	for (unsigned int ms = 0; ret == 0; ms += POLL_MS) {
		if (table_has("/proc/net/tcp", port) || table_has("/proc/net/tcp6", port))
			return 0;
		pause_ms(POLL_MS);
		ret = give_up(server, output, ms);
	}
	return ret;
}

int server_wait(struct server *server, const char *output, unsigned int timeout_ms,
		uint64_t *ret_cpu_ns)
{
	struct rusage usage = {0};
	bool late = false;
	int status = 0;

	for (unsigned int ms = 0; wait4(server->pid, &status, WNOHANG, &usage) == 0;
	     ms += POLL_MS) {
		if (ms >= timeout_ms && !late) {
			late = true;
			kill(server->pid, SIGKILL);
		}
		pause_ms(POLL_MS);
	}
	server->pid = 0;
	*ret_cpu_ns = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000u +
		      (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000u;
	if (status == 0)
		return 0;
	log_err("%s %s status=%d", server->name, late ? "took too long" : "failed", status);
	show_file(output);
	return late ? -ETIMEDOUT : -EIO;
}

int server_free_port(uint16_t *ret_port)
{
	struct sockaddr_in address = LOOPBACK;
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &len) != 0)
		ret = -errno;
	close(fd);
	if (ret == 0)
		*ret_port = ntohs(address.sin_port);
	return ret;
}

uint64_t server_cpu_ns(const struct server *server)
{
	struct timespec time;

	if (clock_gettime(server->cpu_clock, &time) != 0)
		return 0;
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int resident_bytes(pid_t pid, uint64_t *ret_bytes)
{
	char path[64];
	char line[256];
	uint64_t kib = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, "RssAnon:", 8) == 0 || strncmp(line, "RssFile:", 8) == 0)
			kib += strtoull(line + 8, NULL, 10);
	}
	fclose(file);
	*ret_bytes = kib * 1024;
	return 0;
}

/* The pages of the memfds that are open; mapped or not, they are in memory. */
static int memfd_bytes(pid_t pid, uint64_t *ret_bytes)
{
	char path[64];
	const struct dirent *entry;
	uint64_t bytes = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)) != NULL) {
		char target[16];
		struct stat st;
		ssize_t len = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target));

		if (len >= 7 && memcmp(target, "/memfd:", 7) == 0 &&
		    fstatat(dirfd(dir), entry->d_name, &st, 0) == 0)
			bytes += (uint64_t)st.st_blocks * 512;
	}
	closedir(dir);
	*ret_bytes = bytes;
	return bytes > 0 ? 0 : -ENODATA;
}

int server_memory(const struct server *server, uint64_t *ret_bytes)
{
	uint64_t resident = 0;
	uint64_t shared = 0;
	int ret = resident_bytes(server->pid, &resident);

	if (ret == 0)
		ret = memfd_bytes(server->pid, &shared);
	*ret_bytes = resident + shared;
	return ret;
}

int server_stop(struct server *server)
{
	int status = 0;

	if (server->pid == 0)
		return 0;
	kill(server->pid, SIGTERM);
	for (unsigned int ms = 0; waitpid(server->pid, &status, WNOHANG) == 0; ms += POLL_MS) {
		if (ms >= STOP_MS)
			kill(server->pid, SIGKILL);
		pause_ms(POLL_MS);
	}
	server->pid = 0;
	if (status == 0)
		return 0;
	log_err("server did not end well name=%s status=%d", server->name, status);
	return -EIO;
}
