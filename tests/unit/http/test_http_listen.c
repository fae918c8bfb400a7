/* SPDX-License-Identifier: Apache-2.0 */
/* The addresses that are served. */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

static char dir[32];
static const char *file;    /* of a socket in it … */
static const char *address; /* … and its address */

static void setup(void)
{
	strcpy(dir, "/tmp/maas-http-XXXXXX");
	assert_non_null(mkdtemp(dir));
	file = http_text("%s/sock", dir);
	address = http_text("unix:%s", file);
}

static void teardown(void)
{
	http_teardown();
	assert_int_equal(seteuid(getuid()), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void serve_on(const char *where)
{
	HTTP_START(.listen = &where);
	http_json("GET /health", NULL, 200);
}

/* A second server with these options, beside the first, must not start. */
static void expect_no_start(struct maas_http_options options, int status, const char *says)
{
	char error[MAAS_HTTP_ERROR];
	struct maas_http *http;

	http_fill_options(&options);
	assert_int_equal(maas_http_start(&options, error, &http), status);
	http_expect_parts(error, says);
}

#define EXPECT_NO_START(status, says, ...)                                                         \
	expect_no_start((struct maas_http_options){__VA_ARGS__}, status, says)

static void make_file(void)
{
	int fd = open(file, O_CREAT | O_EXCL | O_WRONLY, 0600);

	assert_true(fd >= 0);
	close(fd);
}

TEST(listen__unix_socket)
{
	struct stat st;

	serve_on(address);
	assert_string_equal(maas_http_url(server.http, 0), address);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	EXPECT_NO_START(-EADDRINUSE, address, .listen = &address);
	assert_int_equal(access(file, F_OK), 0);
	http_stop();
	assert_int_equal(access(file, F_OK), -1);
}

/* Such as a server leaves that was killed. */
TEST(listen__stale_unix_socket)
{
	const char *stale = http_text("unix:%s/stale", dir);

	serve_on(address);
	assert_int_equal(link(file, stale + 5), 0);
	serve_on(stale);
	make_file();
	EXPECT_NO_START(-EEXIST, "no socket", .listen = &address);
	assert_int_equal(unlink(file), 0);
}

/* Somebody has put another file in its place: that one stays. */
TEST(listen__leaves_what_is_not_its_own)
{
	serve_on(address);
	assert_int_equal(unlink(file), 0);
	make_file();
	http_stop();
	assert_int_equal(unlink(file), 0);
}

static mode_t mode_at_bind;
static gid_t group_at_bind;

/* The linker's names of --wrap. NOLINTBEGIN */
typeof(bind) __real_bind, __wrap_bind;

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

static void serves_with_mode(mode_t umask_bits, mode_t asked, const gid_t *group)
{
	mode_t wanted = asked ? asked : 0660;
	mode_t before = umask(umask_bits);
	struct stat st;

	mode_at_bind = 07777;
	HTTP_START(.listen = &address, .socket_mode = asked, .socket_group = group);
	assert_int_equal(umask(before), umask_bits);
	assert_int_equal(mode_at_bind & ~wanted, 0);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 07777, wanted);
	if (group) {
		assert_int_equal(st.st_gid, *group);
		assert_int_equal(mode_at_bind & 0070, 0);
	}
	http_json("GET /health", NULL, 200);
}

/* Never more than asked, not even in the moment of its making; and no less, whatever the umask. */
TEST(listen__socket_mode)
{
	static const mode_t umasks[] = {0, 0022, 0027, 0077, 0777};
	static const mode_t modes[] = {0, 0600, 0660, 0666, 0622, 0777};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(umasks); i++)
		for (size_t j = 0; j < MAAS_ARRAY_SIZE(modes); j++)
			serves_with_mode(umasks[i], modes[j], NULL);
}

TEST(listen__socket_group)
{
	gid_t group = getgid();

	serves_with_mode(0022, 0660, &group);
	if (geteuid() == 0) {
		group = 54321;
		serves_with_mode(0077, 0, &group);
		assert_int_not_equal(group_at_bind, group);
	}
}

/* Root gives a socket to any group; another user to his own only, and no file stays behind. */
TEST(listen__socket_group_of_others)
{
	const gid_t group = 54321;

	if (geteuid() == 0) {
		assert_int_equal(chown(dir, 65534, (gid_t)-1), 0);
		assert_int_equal(seteuid(65534), 0);
	}
	serve_on("127.0.0.1:0");
	EXPECT_NO_START(-EPERM, "group of its own", .listen = &address, .socket_group = &group);
	assert_int_equal(access(file, F_OK), -1);
}

TEST(listen__ipv6)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	if (fd < 0)
		return; /* this host has no IPv6 at all */
	close(fd);
	serve_on("[::1]:0");
	assert_memory_equal(maas_http_url(server.http, 0), "http://[::1]:", 13);
}

TEST(listen__several_or_none)
{
	const char *addresses[] = {"127.0.0.1:0", "localhost:0", NULL};

	HTTP_START(.listen = addresses, .num_listen = 2);
	assert_non_null(maas_http_url(server.http, 1));
	assert_null(maas_http_url(server.http, 2));
	http_json("GET /health", NULL, 200);
	addresses[2] = maas_http_url(server.http, 0) + 7;
	EXPECT_NO_START(-EADDRINUSE, "", .listen = addresses, .num_listen = 3);
}

TEST(listen__bad_addresses)
{
	static const char *const bad[] = {"",	    "3000",	   ":3000",	      "127.0.0.1",
					  "::1:80", "127.0.0.1:x", "127.0.0.1:65536", "[::1]",
					  "[]:80",  "unix:",	   "127.0.0.1:-1"};

	serve_on("127.0.0.1:0");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		EXPECT_NO_START(-EINVAL, "[IPV6]:PORT", .listen = &bad[i]);
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
		close(http_connect());
		usleep(50000);
	}
	return (int)syscall(SYS_epoll_ctl, epfd, op, fd, event);
}

/* MHD_quiesce_daemon() of a pool of threads then aborts the process. */
TEST(stop__while_a_connection_comes)
{
	http_setup();
	http_json("GET /health", NULL, 200);
	atomic_store(&in_between, true);
	http_stop();
	atomic_store(&in_between, false);
}

TEST_MAIN(setup, teardown)
