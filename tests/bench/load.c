/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connections of a load and their epoll: each sends a request, waits for its reply, has that
 * checked, and begins again until so many operations are done. One thread, no lock.
 */
#include "tests/bench/load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/reply.h"

#define IDLE_MS	   30000
#define MAX_EVENTS 64

struct connection {
	int fd;
	unsigned int index;
	struct iovec parts[LOAD_PARTS]; /* what is still to be sent */
	unsigned int group_left;	/* requests until its operation is done */
	bool busy;
	bool wants_out;
	uint8_t *in;
	size_t in_len;
	size_t in_need; /* the whole reply's bytes; 0: not known yet */
};

struct load {
	struct load_job job;
	int epoll_fd;
	uint64_t to_begin;   /* operations */
	uint64_t to_receive; /* replies */
	size_t in_cap;
	struct connection connections[];
};

static int watch(struct load *load, struct connection *c, int op)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

	if (c->wants_out)
		event.events |= EPOLLOUT;
	return epoll_ctl(load->epoll_fd, op, c->fd, &event) ? -errno : 0;
}

static int connect_one(struct load *load, struct connection *c, uint16_t port)
{
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	const int on = 1;

	c->in = malloc(load->in_cap);
	if (!c->in)
		return -ENOMEM;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	if (connect(c->fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
		return -errno;
	if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0)
		return -errno;
	return watch(load, c, EPOLL_CTL_ADD);
}

int load_open(uint16_t port, const struct load_job *job, struct load **ret_load)
{
	struct load *load =
		calloc(1, sizeof(*load) + job->connections * sizeof(load->connections[0]));
	int r = 0;

	if (!load)
		return -ENOMEM;
	load->job = *job;
	load->in_cap = job->max_reply_bytes + REPLY_HEAD_BYTES;
	for (unsigned int i = 0; i < job->connections; i++)
		load->connections[i] = (struct connection){.fd = -1, .index = i};
	load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (load->epoll_fd < 0)
		r = -errno;
	for (unsigned int i = 0; i < job->connections && r == 0; i++)
		r = connect_one(load, &load->connections[i], port);
	if (r) {
		load_close(load);
		return r;
	}
	*ret_load = load;
	return 0;
}

void load_close(struct load *load)
{
	if (!load)
		return;
	for (unsigned int i = 0; i < load->job.connections; i++) {
		if (load->connections[i].fd >= 0)
			close(load->connections[i].fd);
		free(load->connections[i].in);
	}
	if (load->epoll_fd >= 0)
		close(load->epoll_fd);
	free(load);
}

/* Takes `len` sent bytes off the parts; true when all are sent. */
static bool advance(struct connection *c, size_t len)
{
	for (unsigned int i = 0; i < LOAD_PARTS; i++) {
		size_t step = len < c->parts[i].iov_len ? len : c->parts[i].iov_len;

		c->parts[i].iov_base = (uint8_t *)c->parts[i].iov_base + step;
		c->parts[i].iov_len -= step;
		len -= step;
		if (c->parts[i].iov_len > 0)
			return false;
	}
	return true;
}

static int send_some(struct load *load, struct connection *c)
{
	const struct msghdr message = {.msg_iov = c->parts, .msg_iovlen = LOAD_PARTS};
	bool blocked = false;
	ssize_t n;

	do {
		n = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			return -errno;
		blocked = n < 0;
	} while (!blocked && !advance(c, (size_t)n));
	if (blocked == c->wants_out)
		return 0;
	c->wants_out = blocked;
	return watch(load, c, EPOLL_CTL_MOD);
}

static int begin(struct load *load, struct connection *c)
{
	if (c->group_left == 0) {
		if (load->to_begin == 0)
			return 0;
		load->to_begin--;
		c->group_left = load->job.group;
	}
	c->group_left--;
	memset(c->parts, 0, sizeof(c->parts));
	c->busy = true;
	c->in_len = 0;
	c->in_need = 0;
	load->job.request(load->job.arg, c->index, c->parts);
	return send_some(load, c);
}

/* Once the reply's length is known nothing beyond it is read: no pipelining, so none is there. */
static int receive_some(struct load *load, struct connection *c, struct load_reply *ret_reply)
{
	size_t room = (c->in_need ? c->in_need : load->in_cap) - c->in_len;
	ssize_t n = recv(c->fd, c->in + c->in_len, room, MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN ? -EAGAIN : -errno;
	if (n == 0)
		return -ECONNRESET;
	c->in_len += (size_t)n;
	if (c->in_need == 0) {
		int r = reply_need(load->job.protocol, c->in, c->in_len, &c->in_need);

		if (r)
			return r;
		if (c->in_need > load->in_cap)
			return -EMSGSIZE;
	}
	if (c->in_len < c->in_need)
		return -EAGAIN;
	if (c->in_len > c->in_need)
		return -EPROTO;
	reply_read(load->job.protocol, c->in, c->in_len, ret_reply);
	return 0;
}

static int serve(struct load *load, struct connection *c, uint32_t events)
{
	struct load_reply reply;
	int r = 0;

	if (events & EPOLLOUT)
		r = send_some(load, c);
	if (r || !(events & ~(uint32_t)EPOLLOUT))
		return r;
	if (!c->busy)
		return -ECONNRESET;
	r = receive_some(load, c, &reply);
	if (r)
		return r == -EAGAIN ? 0 : r;
	c->busy = false;
	load->to_receive--;
	r = load->job.reply(load->job.arg, c->index, &reply);
	if (r)
		return r;
	return begin(load, c);
}

int load_run(struct load *load, uint64_t operations, uint64_t *ret_wall_ns)
{
	struct epoll_event events[MAX_EVENTS];
	uint64_t start = maas_clock_ns();
	int r = 0;

	load->to_begin = operations;
	load->to_receive = operations * load->job.group;
	for (unsigned int i = 0; i < load->job.connections && r == 0; i++)
		r = begin(load, &load->connections[i]);
	while (load->to_receive > 0 && r == 0) {
		int n = epoll_wait(load->epoll_fd, events, MAX_EVENTS, IDLE_MS);

		if (n < 0 && errno != EINTR)
			r = -errno;
		else if (n == 0)
			r = -ETIMEDOUT;
		for (int i = 0; i < n && r == 0; i++)
			r = serve(load, events[i].data.ptr, events[i].events);
	}
	if (r)
		log_err("load failed error=\"%s\" replies_missing=%llu", strerror(-r),
			(unsigned long long)load->to_receive);
	*ret_wall_ns = maas_clock_ns() - start;
	return r;
}
