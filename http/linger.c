/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last moments of a connection that was answered before its body came. A close with bytes
 * unread makes TCP reset the connection, and a client that is still sending then fails before it
 * reads the answer (RFC 9112, 9.6). So for a short while what it sends is read and thrown away.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/internal.h"

#define LINGER_MS   2000
#define WASTE_BYTES (64u << 10) /* read at once */

/* Adds what came since, up to the array's end, and says whether to go on. */
static bool take_new(struct maas_http_linger *linger, struct pollfd *fds, uint64_t *deadlines,
		     unsigned int *count)
{
	uint64_t ticks;
	bool stop;

	(void)!read(linger->event_fd, &ticks, sizeof(ticks));
	pthread_mutex_lock(&linger->lock);
	for (unsigned int i = 0; i < linger->num_new; i++) {
		fds[*count] = (struct pollfd){.fd = linger->new_fds[i], .events = POLLIN};
		deadlines[(*count)++] = maas_clock_ms() + LINGER_MS;
	}
	linger->num_new = 0;
	stop = linger->stop;
	pthread_mutex_unlock(&linger->lock);
	return !stop;
}

/* False when the client has closed, too. */
static bool waste(int fd)
{
	char bytes[WASTE_BYTES]; /* never looked at */
	ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static unsigned int sweep(struct maas_http_linger *linger, struct pollfd *fds, uint64_t *deadlines,
			  unsigned int count)
{
	uint64_t now_ms = maas_clock_ms();
	unsigned int kept = 1;

	for (unsigned int i = 1; i < count; i++) {
		if (now_ms < deadlines[i] && (!fds[i].revents || waste(fds[i].fd))) {
			fds[kept] = fds[i];
			deadlines[kept++] = deadlines[i];
			continue;
		}
		close(fds[i].fd);
		pthread_mutex_lock(&linger->lock);
		linger->count--;
		pthread_mutex_unlock(&linger->lock);
	}
	return kept;
}

static void *run(void *arg)
{
	struct maas_http_linger *linger = arg;
	struct pollfd fds[MAAS_HTTP_MAX_LINGER + 1] = {
		{.fd = linger->event_fd, .events = POLLIN},
	};
	uint64_t deadlines[MAAS_HTTP_MAX_LINGER + 1] = {0};
	unsigned int count = 1;

	while (take_new(linger, fds, deadlines, &count)) {
		poll(fds, count, count > 1 ? LINGER_MS / 20 : -1);
		count = sweep(linger, fds, deadlines, count);
	}
	for (unsigned int i = 1; i < count; i++)
		close(fds[i].fd);
	return NULL;
}

static void wake(struct maas_http_linger *linger)
{
	const uint64_t one = 1;

	(void)!write(linger->event_fd, &one, sizeof(one));
}

int maas_http_linger_start(struct maas_http_linger *linger)
{
	int r;

	linger->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (linger->event_fd < 0)
		return -errno;
	pthread_mutex_init(&linger->lock, NULL);
	r = pthread_create(&linger->thread, NULL, run, linger);
	if (!r) {
		linger->running = true;
		return 0;
	}
	pthread_mutex_destroy(&linger->lock);
	close(linger->event_fd);
	return -r;
}

void maas_http_linger_stop(struct maas_http_linger *linger)
{
	if (!linger->running)
		return;
	pthread_mutex_lock(&linger->lock);
	linger->stop = true;
	pthread_mutex_unlock(&linger->lock);
	wake(linger);
	pthread_join(linger->thread, NULL);
	pthread_mutex_destroy(&linger->lock);
	close(linger->event_fd);
}

void maas_http_linger_add(struct maas_http_linger *linger, int fd)
{
	int copy = -1;

	pthread_mutex_lock(&linger->lock);
	if (!linger->stop && linger->count < MAAS_HTTP_MAX_LINGER)
		copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy >= 0) {
		linger->new_fds[linger->num_new++] = copy;
		linger->count++;
	}
	pthread_mutex_unlock(&linger->lock);
	if (copy >= 0)
		wake(linger);
}
