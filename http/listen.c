/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets: TCP addresses, and Unix sockets whose file says who may connect. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "http/internal.h"

/* ---- unix:PATH */

/* Whether a server that died left its socket behind: nobody answers there. 0: there is nothing.
 * Errors: -EEXIST something else has the name, -EADDRINUSE a server has it. */
static int is_stale(const struct sockaddr_un *addr)
{
	struct stat st;
	int fd;
	int r = 1;

	if (lstat(addr->sun_path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (!connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) || errno != ECONNREFUSED)
		r = -EADDRINUSE;
	close(fd);
	return r;
}

static int make_address(const char *path, struct sockaddr_un *ret_addr)
{
	size_t len = strlen(path);

	*ret_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (!len || len >= sizeof(ret_addr->sun_path))
		return -EINVAL;
	memcpy(ret_addr->sun_path, path, len);
	return 0;
}

/*
 * Before bind(2) the socket's own mode, which the kernel gives to the file, less the umask; and
 * nothing for a group that is not the right one yet. So the file is never more open than asked.
 */
static int restrict_mode(int fd, const struct maas_http_options *options)
{
	mode_t mode = options->socket_mode;

	if (options->socket_group)
		mode &= ~(mode_t)S_IRWXG;
	return fchmod(fd, mode) ? -errno : 0;
}

/* Behind bind(2) and before listen(2), while nobody can connect: what the umask took away is given
 * back. The directory may be others' too: no link is followed. */
static int give_away(const char *path, mode_t mode, const struct maas_http_options *options)
{
	if (options->socket_group && lchown(path, (uid_t)-1, *options->socket_group))
		return -errno;
	if ((mode & ALLPERMS) != options->socket_mode &&
	    fchmodat(AT_FDCWD, path, options->socket_mode, AT_SYMLINK_NOFOLLOW))
		return -errno;
	return 0;
}

static int bind_unix(int fd, const char *path, const struct maas_http_options *options,
		     struct maas_http_listener *ret)
{
	struct sockaddr_un addr;
	struct stat st;
	int r;

	r = make_address(path, &addr);
	if (!r)
		r = is_stale(&addr);
	if (r > 0)
		r = unlink(path) ? -errno : 0;
	if (!r)
		r = restrict_mode(fd, options);
	if (r)
		return r;
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)))
		return -errno;
	r = lstat(path, &st) ? -errno : give_away(path, st.st_mode, options);
	if (r) {
		unlink(path);
		return r;
	}
	ret->dev = st.st_dev;
	ret->ino = st.st_ino;
	return 0;
}

/* ---- HOST:PORT */

static int resolve(const char *address, struct addrinfo **ret_found)
{
	const struct addrinfo hints = {
		.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM,
	};
	const char *colon = strrchr(address, ':');
	char host[256];
	size_t len;
	uint64_t port;

	if (!colon || maas_http_u63_parse(colon + 1, &port) || port > UINT16_MAX)
		return -EINVAL;
	len = (size_t)(colon - address);
	if (len >= 2 && address[0] == '[' && colon[-1] == ']') {
		address++;
		len -= 2;
	} else if (memchr(address, ':', len)) {
		return -EINVAL; /* IPv6 without brackets */
	}
	if (!len || len >= sizeof(host))
		return -EINVAL;
	memcpy(host, address, len);
	host[len] = '\0';
	return getaddrinfo(host, colon + 1, &hints, ret_found) ? -EINVAL : 0;
}

/* "[::]" takes IPv6 alone, so that it can stand beside "0.0.0.0" with the same port. */
static int bind_ip(int fd, const struct addrinfo *at)
{
	int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)))
		return -errno;
	if (at->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)))
		return -errno;
	return bind(fd, at->ai_addr, at->ai_addrlen) ? -errno : 0;
}

static int describe(int fd, struct maas_http_listener *ret)
{
	struct sockaddr_storage addr = {0};
	socklen_t len = sizeof(addr);
	char host[64];
	char port[8];

	if (getsockname(fd, (struct sockaddr *)&addr, &len))
		return -errno;
	if (getnameinfo((struct sockaddr *)&addr, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		return -EINVAL;
	snprintf(ret->url, MAAS_HTTP_URL,
		 addr.ss_family == AF_INET6 ? "%s://[%s]:%s" : "%s://%s:%s",
		 ret->secure ? "https" : "http", host, port);
	return 0;
}

static int open_unix(const char *path, const struct maas_http_options *options,
		     struct maas_http_listener *ret)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (fd < 0)
		return -errno;
	r = bind_unix(fd, path, options, ret);
	if (r) {
		close(fd);
		return r;
	}
	ret->secure = false;
	snprintf(ret->url, MAAS_HTTP_URL, "unix:%s", path);
	return fd;
}

static int open_ip(const char *address, struct maas_http_listener *ret)
{
	struct addrinfo *found;
	int fd;
	int r;

	r = resolve(address, &found);
	if (r)
		return r;
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		r = -errno;
		goto out;
	}
	r = bind_ip(fd, found);
	if (!r)
		r = describe(fd, ret);
	if (r)
		close(fd);
out:
	freeaddrinfo(found);
	return r ? r : fd;
}

static int open_socket(const char *address, const struct maas_http_options *options,
		       struct maas_http_listener *ret)
{
	if (!strncmp(address, "unix:", 5))
		return open_unix(address + 5, options, ret);
	return open_ip(address, ret);
}

int maas_http_listen(const char *address, const struct maas_http_options *options,
		     struct maas_http_listener *ret)
{
	int fd = open_socket(address, options, ret);
	int r;

	if (fd >= 0 && listen(fd, SOMAXCONN)) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

void maas_http_unlisten(const struct maas_http_listener *listener)
{
	const char *path = listener->url + 5;
	struct stat st;

	if (!strncmp(listener->url, "unix:", 5) && !lstat(path, &st) &&
	    st.st_dev == listener->dev && st.st_ino == listener->ino)
		unlink(path);
}

int maas_http_listen_check(const char *address, const struct maas_http_options *options,
			   struct maas_http_listener *ret, int *ret_fd)
{
	struct sockaddr_un addr;

	*ret_fd = -1;
	if (!strncmp(address, "unix:", 5) && !make_address(address + 5, &addr) &&
	    is_stale(&addr) > 0)
		return maas_dir_check(address + 5); /* the socket of a dead server stays */
	*ret_fd = maas_http_listen(address, options, ret);
	return *ret_fd < 0 ? *ret_fd : 0;
}
