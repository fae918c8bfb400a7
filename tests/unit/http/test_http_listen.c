/* SPDX-License-Identifier: Apache-2.0 */
/* The addresses that are served. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/http/http_fixture.h"

static struct http_fixture f;
static char dir[] = "/tmp/maas-http-XXXXXX";

static void serve_on(const char *address)
{
	const struct maas_http_options options = {.listen = &address, .num_listen = 1};

	http_fixture_start(&f, &options);
	json_decref(http_json(&f, "GET", "/health", NULL, 200));
}

static int fail_on(const char *address, char error[MAAS_HTTP_ERROR])
{
	struct maas_http_options options = {
		.slab = f.slab, .lend = f.lend, .listen = &address, .num_listen = 1};
	struct maas_http *http;

	http_fixture_limits(&options);
	return maas_http_start(&options, error, &http);
}

static void listen__unix_socket(void **state)
{
	char error[MAAS_HTTP_ERROR];
	char address[80];
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(address, sizeof(address), "unix:%s/sock", dir);
	serve_on(address);
	assert_string_equal(maas_http_url(f.http, 0), address);
	assert_int_equal(stat(address + 5, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(fail_on(address, error), -EADDRINUSE);
	assert_non_null(strstr(error, address));
	assert_int_equal(stat(address + 5, &st), 0);
	http_fixture_stop(&f);
	assert_int_equal(stat(address + 5, &st), -1);
}

static void listen__stale_unix_socket(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char error[MAAS_HTTP_ERROR];
	char address[sizeof(addr.sun_path) + 8];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	FILE *file;

	(void)state;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/stale", dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	snprintf(address, sizeof(address), "unix:%s", addr.sun_path);
	serve_on(address);
	snprintf(address, sizeof(address), "unix:%s/file", dir);
	file = fopen(address + 5, "w");
	assert_non_null(file);
	fclose(file);
	assert_int_equal(fail_on(address, error), -EEXIST);
	assert_non_null(strstr(error, "no socket"));
	assert_int_equal(unlink(address + 5), 0);
	http_fixture_stop(&f);
	assert_int_equal(rmdir(dir), 0);
}

/* Somebody has put another file in its place: that one stays. */
static void listen__leaves_what_is_not_its_own(void **state)
{
	char name[] = "/tmp/maas-http-XXXXXX";
	char address[80];
	struct stat st;
	FILE *file;

	(void)state;
	assert_non_null(mkdtemp(name));
	snprintf(address, sizeof(address), "unix:%s/sock", name);
	serve_on(address);
	assert_int_equal(unlink(address + 5), 0);
	file = fopen(address + 5, "w");
	assert_non_null(file);
	fclose(file);
	http_fixture_stop(&f);
	assert_int_equal(stat(address + 5, &st), 0);
	assert_int_equal(unlink(address + 5), 0);
	assert_int_equal(rmdir(name), 0);
}

static mode_t mode_at_bind;
static gid_t group_at_bind;

/* The linker's names of --wrap. NOLINTBEGIN */
int __real_bind(int fd, const struct sockaddr *addr, socklen_t len);
int __wrap_bind(int fd, const struct sockaddr *addr, socklen_t len);

/* Looks at a socket file in the moment in which it appears. */
int __wrap_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	int r = __real_bind(fd, addr, len);
	struct stat st;

	if (!r && addr->sa_family == AF_UNIX &&
	    !lstat(((const struct sockaddr_un *)addr)->sun_path, &st)) {
		mode_at_bind = st.st_mode & 07777;
		group_at_bind = st.st_gid;
	}
	return r;
}
/* NOLINTEND */

static void serves_with_mode(const char *address, mode_t umask_bits, mode_t asked,
			     const gid_t *group)
{
	const struct maas_http_options options = {
		.listen = &address, .num_listen = 1, .socket_mode = asked, .socket_group = group};
	mode_t wanted = asked ? asked : 0660;
	mode_t before = umask(umask_bits);
	struct stat st;

	mode_at_bind = 07777;
	http_fixture_start(&f, &options);
	assert_int_equal(umask(before), umask_bits);
	assert_int_equal(mode_at_bind & ~wanted, 0);
	assert_int_equal(stat(address + 5, &st), 0);
	assert_int_equal(st.st_mode & 07777, wanted);
	if (group) {
		assert_int_equal(st.st_gid, *group);
		assert_int_equal(mode_at_bind & 0070, 0);
	}
	json_decref(http_json(&f, "GET", "/health", NULL, 200));
	http_fixture_stop(&f);
}

/* Never more than asked, not even in the moment of its making; and no less, whatever the umask. */
static void listen__socket_mode(void **state)
{
	static const mode_t umasks[] = {0, 0022, 0027, 0077, 0777};
	static const mode_t modes[] = {0, 0600, 0660, 0666, 0622, 0777};
	char name[] = "/tmp/maas-http-XXXXXX";
	char address[80];

	(void)state;
	assert_non_null(mkdtemp(name));
	snprintf(address, sizeof(address), "unix:%s/sock", name);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(umasks); i++)
		for (size_t j = 0; j < MAAS_ARRAY_SIZE(modes); j++)
			serves_with_mode(address, umasks[i], modes[j], NULL);
	assert_int_equal(rmdir(name), 0);
}

static void listen__socket_group(void **state)
{
	char name[] = "/tmp/maas-http-XXXXXX";
	gid_t group = getgid();
	char address[80];

	(void)state;
	assert_non_null(mkdtemp(name));
	snprintf(address, sizeof(address), "unix:%s/sock", name);
	serves_with_mode(address, 0022, 0660, &group);
	if (geteuid() == 0) {
		group = 54321;
		serves_with_mode(address, 0077, 0, &group);
		assert_int_not_equal(group_at_bind, group);
	}
	assert_int_equal(rmdir(name), 0);
}

/* Root gives a socket to any group; another user to his own only, and no file stays behind. */
static void listen__socket_group_of_others(void **state)
{
	char name[] = "/tmp/maas-http-XXXXXX";
	const gid_t group = 54321;
	char error[MAAS_HTTP_ERROR];
	char address[80];
	const char *listen = address;
	struct maas_http_options options = {
		.listen = &listen, .num_listen = 1, .socket_group = &group};
	struct maas_http *http;

	(void)state;
	assert_non_null(mkdtemp(name));
	snprintf(address, sizeof(address), "unix:%s/sock", name);
	if (geteuid() == 0) {
		assert_int_equal(chown(name, 65534, (gid_t)-1), 0);
		assert_int_equal(seteuid(65534), 0);
	}
	serve_on("127.0.0.1:0");
	http_fixture_limits(&options);
	options.slab = f.slab;
	options.lend = f.lend;
	assert_int_equal(maas_http_start(&options, error, &http), -EPERM);
	assert_non_null(strstr(error, "group of its own"));
	assert_int_equal(access(address + 5, F_OK), -1);
	http_fixture_stop(&f);
	assert_int_equal(seteuid(getuid()), 0);
	assert_int_equal(rmdir(name), 0);
}

static void listen__ipv6(void **state)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	(void)state;
	if (fd < 0)
		return; /* this host has no IPv6 at all */
	close(fd);
	serve_on("[::1]:0");
	assert_memory_equal(maas_http_url(f.http, 0), "http://[::1]:", 13);
	http_fixture_stop(&f);
}

static void listen__several_or_none(void **state)
{
	const char *addresses[] = {"127.0.0.1:0", "localhost:0", NULL};
	struct maas_http_options options = {.listen = addresses, .num_listen = 2};
	char error[MAAS_HTTP_ERROR];
	struct maas_http *http;

	(void)state;
	http_fixture_start(&f, &options);
	assert_non_null(maas_http_url(f.http, 1));
	assert_null(maas_http_url(f.http, 2));
	json_decref(http_json(&f, "GET", "/health", NULL, 200));
	http_fixture_limits(&options);
	options.slab = f.slab;
	options.lend = f.lend;
	addresses[2] = maas_http_url(f.http, 0) + 7;
	options.num_listen = 3;
	assert_int_equal(maas_http_start(&options, error, &http), -EADDRINUSE);
	http_fixture_stop(&f);
}

static void listen__bad_addresses(void **state)
{
	static const char *const bad[] = {"",	    "3000",	   ":3000",	      "127.0.0.1",
					  "::1:80", "127.0.0.1:x", "127.0.0.1:65536", "[::1]",
					  "[]:80",  "unix:",	   "127.0.0.1:-1"};
	char error[MAAS_HTTP_ERROR];

	(void)state;
	serve_on("127.0.0.1:0");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++) {
		assert_int_equal(fail_on(bad[i], error), -EINVAL);
		assert_non_null(strstr(error, "[IPV6]:PORT"));
	}
	http_fixture_stop(&f);
}

static _Atomic bool in_between;

/* The library's. With `in_between` a connection comes just before a listening socket is taken out.
 */
__attribute__((visibility("default"))) int epoll_ctl(int epfd, int op, int fd,
						     struct epoll_event *event)
{
	int listens = 0;
	socklen_t len = sizeof(listens);

	if (atomic_load(&in_between) && op == EPOLL_CTL_DEL &&
	    !getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) && listens) {
		close(http_connect(&f));
		usleep(50000);
	}
	return (int)syscall(SYS_epoll_ctl, epfd, op, fd, event);
}

/* MHD_quiesce_daemon() of a pool of threads then aborts the process. */
static void stop__while_a_connection_comes(void **state)
{
	const struct maas_http_options options = {.threads = 2};

	(void)state;
	http_fixture_start(&f, &options);
	json_decref(http_json(&f, "GET", "/health", NULL, 200));
	atomic_store(&in_between, true);
	http_fixture_stop(&f);
	atomic_store(&in_between, false);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(stop__while_a_connection_comes),
		cmocka_unit_test(listen__unix_socket),
		cmocka_unit_test(listen__stale_unix_socket),
		cmocka_unit_test(listen__leaves_what_is_not_its_own),
		cmocka_unit_test(listen__socket_mode),
		cmocka_unit_test(listen__socket_group),
		cmocka_unit_test(listen__socket_group_of_others),
		cmocka_unit_test(listen__ipv6),
		cmocka_unit_test(listen__several_or_none),
		cmocka_unit_test(listen__bad_addresses),
	};

	curl_global_init(CURL_GLOBAL_ALL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
