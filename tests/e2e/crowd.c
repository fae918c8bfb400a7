/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/e2e/crowd.h"
#include "tests/e2e/http_client.h"

#define PAUSE_MS     100
#define SMALL_BUFFER 4096 /* of a slow reader, so that the kernel does not read for it */

enum slow_kind {
	SLOW_HEADERS,
	SLOW_BODY,
	SLOW_WRITER,
	SLOW_READER,
	SLOW_KINDS,
};

struct crowd {
	int idle[CROWD_IDLE];
	int slow[CROWD_SLOW];
	atomic_bool stop;
	pthread_t thread;
};

static void open_idle(struct crowd *crowd, uint16_t port)
{
	for (size_t i = 0; i < CROWD_IDLE; i++) {
		crowd->idle[i] = http_connect(port, 0);
		/* Every other one has been served once, and stays. */
		if (i % 2 &&
		    (!http_text(crowd->idle[i], "GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n") ||
		     http_answer(crowd->idle[i], 20000, NULL) != 200))
			die("idle connection %zu is not served", i);
	}
}

static void open_slow(struct crowd *crowd, uint16_t port, const char *id)
{
	for (size_t i = 0; i < CROWD_SLOW; i++) {
		enum slow_kind kind = (enum slow_kind)(i % SLOW_KINDS);
		int fd = http_connect(port, kind == SLOW_READER ? SMALL_BUFFER : 0);
		char head[256];

		if (kind == SLOW_HEADERS)
			snprintf(head, sizeof(head),
				 "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
		else if (kind == SLOW_BODY)
			snprintf(head, sizeof(head),
				 "POST /allocate HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
				 "application/json\r\nContent-Length: "
				 "4000\r\n\r\n");
		else if (kind == SLOW_WRITER)
			snprintf(head, sizeof(head),
				 "PUT /allocate/%s/data HTTP/1.1\r\nHost: localhost\r\n"
				 "Transfer-Encoding: chunked\r\n\r\nfffff\r\n",
				 id);
		else
			snprintf(head, sizeof(head),
				 "GET /allocate/%s/data HTTP/1.1\r\nHost: localhost\r\n\r\n", id);
		if (!http_text(fd, head))
			die("slow connection %zu is refused", i);
		crowd->slow[i] = fd;
	}
}

/* One byte on each; connections that the server has closed stay closed. */
static void *go_slow(void *arg)
{
	const struct timespec pause = {0, PAUSE_MS * 1000000L};
	struct crowd *crowd = arg;

	while (!atomic_load(&crowd->stop)) {
		for (size_t i = 0; i < CROWD_SLOW; i++) {
			char byte = 'x';

			if (i % SLOW_KINDS == SLOW_READER)
				recv(crowd->slow[i], &byte, 1, MSG_DONTWAIT);
			else
				send(crowd->slow[i], &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		}
		nanosleep(&pause, NULL);
	}
	return NULL;
}

struct crowd *crowd_start(uint16_t port, const char *id)
{
	struct crowd *crowd = calloc(1, sizeof(*crowd));

	if (!crowd)
		die("out of memory");
	open_slow(crowd, port, id);
	if (pthread_create(&crowd->thread, NULL, go_slow, crowd))
		die("no thread");
	open_idle(crowd, port);
	return crowd;
}

void crowd_stop(struct crowd *crowd)
{
	atomic_store(&crowd->stop, true);
	pthread_join(crowd->thread, NULL);
	for (size_t i = 0; i < CROWD_IDLE; i++)
		close(crowd->idle[i]);
	for (size_t i = 0; i < CROWD_SLOW; i++)
		close(crowd->slow[i]);
	free(crowd);
}
