/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/e2e/abuse.h"
#include "tests/e2e/http_client.h"

#define SILENCE_MS 15000 /* a server that says nothing for so long hangs */
#define BATCH	   250
#define HOST	   "Host: localhost\r\nContent-Type: application/json\r\n"
#define END	   "Connection: close\r\n\r\n"

/* Each `%s` stands for the id of an allocation; CLOSE_OK: no answer but a closed connection will
 * do, too. */
#define CLOSE_OK 1000

struct fault {
	const char *name;
	const char *request;
	int status;
};

static const struct fault faults[] = {
	{"path", "GET /../../etc/passwd HTTP/1.1\r\n" HOST END, 404},
	{"path with a NUL in it", "GET /health%%00 HTTP/1.1\r\n" HOST END, 404},
	{"path with a line in it", "DELETE /x%%0d%%0aforged HTTP/1.1\r\n" HOST END, 404},
	{"no host", "GET /health HTTP/1.1\r\n" END, 400},
	{"two hosts", "GET /health HTTP/1.1\r\n" HOST HOST END, 400},
	{"id of other bytes", "GET /allocate/%%ff%%fe HTTP/1.1\r\n" HOST END, 404},
	{"id with more behind it", "DELETE /allocate/%s0 HTTP/1.1\r\n" HOST END, 404},
	{"id cut off", "DELETE /allocate/0 HTTP/1.1\r\n" HOST END, 404},
	{"id in braces", "GET /allocate/{%s} HTTP/1.1\r\n" HOST END, 404},
	{"data of no id", "GET /allocate//data HTTP/1.1\r\n" HOST END, 404},
	{"method", "BREW /health HTTP/1.1\r\n" HOST END, 405},
	{"method in small letters", "get /health HTTP/1.1\r\n" HOST END, 405},
	{"version", "GET /health HTTP/9.9\r\n" HOST END, 505 + CLOSE_OK},
	{"no version", "GET /health\r\n\r\n", 400 + CLOSE_OK},
	{"length of letters", "POST /allocate HTTP/1.1\r\n" HOST "Content-Length: ten\r\n" END,
	 400},
	{"negative length", "POST /allocate HTTP/1.1\r\n" HOST "Content-Length: -1\r\n" END, 400},
	{"length of 2^63",
	 "POST /allocate HTTP/1.1\r\n" HOST "Content-Length: 9223372036854775808\r\n" END, 400},
	{"length of 2^70",
	 "POST /allocate HTTP/1.1\r\n" HOST "Content-Length: 1180591620717411303424\r\n" END,
	 413 + CLOSE_OK},
	{"long JSON", "POST /allocate HTTP/1.1\r\n" HOST "Content-Length: 999999999\r\n" END, 413},
	{"long data", "PUT /allocate/%s/data HTTP/1.1\r\n" HOST "Content-Length: 1048577\r\n" END,
	 413},
	{"chunk of letters",
	 "POST /allocate HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n" END "zz\r\n{}\r\n",
	 400 + CLOSE_OK},
	{"chunk of 2^80",
	 "POST /allocate HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n" END
	 "100000000000000000000\r\n{}\r\n",
	 413 + CLOSE_OK},
	{"other encoding", "POST /allocate HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n" END,
	 400},
	{"data behind a range",
	 "PUT /allocate/%s/data HTTP/1.1\r\n" HOST
	 "Content-Range: bytes 0-0/*\r\nContent-Length: 2\r\n" END "ab",
	 400},
	{"range that turns around",
	 "PUT /allocate/%s/data HTTP/1.1\r\n" HOST
	 "Content-Range: bytes 9-0/*\r\nContent-Length: 1\r\n" END "a",
	 400},
	{"range beyond 2^64",
	 "GET /allocate/%s/data HTTP/1.1\r\n" HOST "Range: bytes=99999999999999999999-\r\n" END,
	 416},
	{"body of another type",
	 "POST /allocate HTTP/1.1\r\n" HOST "Content-Type: text/xml\r\nContent-Length: 2\r\n" END
	 "{}",
	 415},
	{"JSON cut off", "POST /allocate HTTP/1.1\r\n" HOST "Content-Length: 8\r\n" END "{\"size_b",
	 400},
	{"length of a frame beyond the frame",
	 "POST /data/write HTTP/1.1\r\n" HOST "Content-Length: 6\r\n" END "\xff\xff\xff\xff{}",
	 413},
	{"a colon too few", "GET /health HTTP/1.1\r\n" HOST "Nonsense\r\n" END, 400 + CLOSE_OK},
	{"TLS", "\x16\x03\x01\x02\r\n\r\n\x01\x01\xfc\x03\x03", 400 + CLOSE_OK},
};

/* The status of an answer, 0 when the connection closed without one. Dies when the server hangs. */
static int outcome(int fd, const char *name)
{
	struct maas_buf text = {0};
	enum http_end end = http_read_all(fd, SILENCE_MS, &text);
	int status;

	if (end == HTTP_SILENT)
		die("%s: neither answered nor closed after %zu bytes", name, text.len);
	maas_buf_add(&text, "", 1);
	status = http_status(text.data);
	if (text.len > 1 && !status)
		die("%s: this is no answer: %.100s", name, text.data);
	maas_buf_fini(&text);
	close(fd);
	return status;
}

static void expect(int fd, const char *name, int wanted)
{
	int status = outcome(fd, name);

	if (status == wanted % CLOSE_OK || (wanted >= CLOSE_OK && !status))
		return;
	/* With such a request, what is wrong with it is a matter of taste; that it is, is not. */
	if (wanted >= CLOSE_OK && status >= 400 && status != 500)
		return;
	die("%s: wanted %d, got %d", name, wanted % CLOSE_OK, status);
}

void abuse_known(uint16_t port, const char *id)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(faults); i++) {
		const char *from = faults[i].request;
		const char *mark = strstr(from, "%s");
		struct maas_buf text = {0};
		int fd = http_connect(port, 0);

		if (mark) {
			maas_buf_add(&text, from, (size_t)(mark - from));
			maas_buf_str(&text, id);
			from = mark + 2;
		}
		maas_buf_str(&text, from);
		http_send(fd, text.data, text.len);
		maas_buf_fini(&text);
		expect(fd, faults[i].name, faults[i].status);
	}
}

/* A request whose part `piece` comes `count` times. */
static void repeated(uint16_t port, const char *name, const char *before, const char *piece,
		     unsigned int count, const char *after, int wanted)
{
	int fd = http_connect(port, 0);
	bool alive = http_text(fd, before);

	while (alive && count--)
		alive = http_text(fd, piece);
	if (alive)
		http_text(fd, after);
	expect(fd, name, wanted);
}

static void pipelined(uint16_t port)
{
	static const char one[] = "GET /health HTTP/1.1\r\n" HOST "\r\n";
	static const char last[] = "GET /nowhere HTTP/1.1\r\n" HOST END;
	struct maas_buf text = {0};
	struct maas_buf answers = {0};
	int fd = http_connect(port, 0);
	const char *at;
	int good = 0;

	for (int i = 0; i < 100; i++)
		maas_buf_str(&text, one);
	maas_buf_str(&text, last);
	http_send(fd, text.data, text.len);
	if (http_read_all(fd, SILENCE_MS, &answers) == HTTP_SILENT)
		die("pipelined requests: the server hangs");
	maas_buf_add(&answers, "", 1);
	for (at = answers.data; (at = strstr(at, "HTTP/1.1 200 ")); at++)
		good++;
	if (good != 100 || !strstr(answers.data, "HTTP/1.1 404 "))
		die("pipelined requests: %d of 100 answers", good);
	maas_buf_fini(&text);
	maas_buf_fini(&answers);
	close(fd);
}

/* The text, then the end of what this side sends. */
static void half_closed(uint16_t port, const char *name, const char *text)
{
	int fd = http_connect(port, 0);
	int status;

	http_text(fd, text);
	shutdown(fd, SHUT_WR);
	status = outcome(fd, name);
	if (status && status != 200 && (status < 400 || status == 500))
		die("half closed after %s: %d", name, status);
}

static void cut_off(uint16_t port, const char *text)
{
	int fd = http_connect(port, 0);

	http_text(fd, text);
	http_reset(fd);
}

void abuse_connections(uint16_t port, const char *id)
{
	char put[256];
	char get[256];

	snprintf(put, sizeof(put),
		 "PUT /allocate/%s/data HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\nabc", id);
	snprintf(get, sizeof(get), "GET /allocate/%s/data HTTP/1.1\r\n" HOST "\r\n", id);
	repeated(port, "headers of 20 KiB", "GET /health HTTP/1.1\r\n" HOST "X: ", "xxxxxxxxxx",
		 2000, "\r\n" END, 431);
	repeated(port, "headers of 1 MiB", "GET /health HTTP/1.1\r\n" HOST "X: ", "xxxxxxxxxx",
		 100000, "\r\n" END, 431 + CLOSE_OK);
	repeated(port, "10,000 headers", "GET /health HTTP/1.1\r\n" HOST, "X: y\r\n", 10000, END,
		 431 + CLOSE_OK);
	repeated(port, "a path of 1 MiB", "GET /", "xxxxxxxxxx", 100000, " HTTP/1.1\r\n" HOST END,
		 414 + CLOSE_OK);
	repeated(port, "an id of 10 KiB", "GET /allocate/", "0123456789", 1000,
		 " HTTP/1.1\r\n" HOST END, 404);
	repeated(port, "JSON of many brackets",
		 "POST /free HTTP/1.1\r\n" HOST "Content-Length: 500000\r\n" END, "[[[[[[[[[[",
		 50000, "", 400);
	repeated(port, "chunks without an end",
		 "POST /allocate HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n" END,
		 "a\r\n          \r\n", 1000000, "0\r\n\r\n", 413 + CLOSE_OK);
	pipelined(port);
	half_closed(port, "nothing", "");
	half_closed(port, "a request", "GET /health HTTP/1.1\r\n" HOST END);
	half_closed(port, "half a request", "GET /health HT");
	half_closed(port, "half of the headers", "GET /health HTTP/1.1\r\nHost");
	half_closed(port, "half of a body", put);
	half_closed(port, "half of a chunk",
		    "POST /allocate HTTP/1.1\r\n" HOST
		    "Transfer-Encoding: chunked\r\n\r\n64\r\n{\"size");
	for (int i = 0; i < 50; i++) {
		cut_off(port, "");
		cut_off(port, put);
		cut_off(port, get);
		cut_off(port, "POST /allocate HTTP/1.1\r\n" HOST "Content-Length: 100\r\n\r\n{");
	}
}

static int send_random(uint16_t port, const char *request, const char *id, unsigned short *state)
{
	struct maas_buf text = {0};
	const char *mark = strstr(request, "%s");
	int fd = http_connect(port, 0);

	maas_buf_add(&text, request, (size_t)(mark - request));
	maas_buf_str(&text, id);
	maas_buf_str(&text, mark + 2);
	if (text.error)
		die("out of memory");
	for (long changes = 1 + nrand48(state) % 4; changes; changes--)
		text.data[(size_t)nrand48(state) % text.len] = (char)nrand48(state);
	http_send(fd, text.data, text.len);
	shutdown(fd, SHUT_WR);
	maas_buf_fini(&text);
	return fd;
}

void abuse_random(uint16_t port, const char *id, uint64_t seed, unsigned int count)
{
	static const char *const requests[] = {
		"GET /allocate/%s HTTP/1.1\r\n" HOST "Accept: */*\r\n\r\n",
		"PUT /allocate/%s/data HTTP/1.1\r\n" HOST
		"Content-Range: bytes 3-5/*\r\nContent-Length: 3\r\n\r\nabc",
		"GET /allocate/%s/data HTTP/1.1\r\n" HOST "Range: bytes=0-99\r\n\r\n",
		"POST /data/read HTTP/1.1\r\n" HOST "Content-Type: application/json\r\nTransfer-"
		"Encoding: chunked\r\n\r\n55\r\n{\"ranges\":[{\"id\":\"%s\",\"offset\":1,"
		"\"length\":20}]}\r\n0\r\n\r\n",
		"POST /allocate/%s/renew HTTP/1.1\r\n" HOST
		"Content-Length: 18\r\n\r\n{\"ttl_seconds\":60}",
	};
	unsigned short state[3] = {(unsigned short)seed, (unsigned short)(seed >> 16),
				   (unsigned short)(seed >> 32)};

	/* Many at a time: where the end comes in one piece with the request, the library often sees
	 * it only when the connection's time is up. */
	for (unsigned int done = 0; done < count; done += BATCH) {
		int fds[BATCH];

		for (size_t i = 0; i < BATCH; i++)
			fds[i] = send_random(port, requests[i % MAAS_ARRAY_SIZE(requests)], id,
					     state);
		for (size_t i = 0; i < BATCH; i++)
			if (outcome(fds[i], "changed at random") == 500)
				die("seed %llu: 500", (unsigned long long)seed);
	}
}
