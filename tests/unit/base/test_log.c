/* SPDX-License-Identifier: Apache-2.0 */
/* The log: what it writes, and that a log which is stuck stops nobody. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "tests/unit/unit.h"

#define MANY	   6000 /* lines that neither a pipe nor the buffer holds */
#define PATIENT_MS 8000 /* for a wait of one second at most */

static char dir[32];
static char path[64];
static char other[64];
static uint64_t dropped_before;

/* What was read of a log, in this case or of the last file. */
static struct {
	uint64_t lines; /* "line N" */
	uint64_t told;	/* the sum of "log lines dropped count=" */
	uint64_t last;	/* N of the last line */
	bool opened_anew;
} reading;

/* In this case. */
static uint64_t dropped(void)
{
	return maas_log_dropped() - dropped_before;
}

static void set_up(void)
{
	dropped_before = maas_log_dropped();
	memset(&reading, 0, sizeof(reading));
	strcpy(dir, "/tmp/maas-log-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/log", dir);
	snprintf(other, sizeof(other), "%s/other", dir);
}

static void tear_down(void)
{
	maas_log_stop();
	maas_log_set_level(MAAS_LOG_INFO);
	assert_int_equal(maas_log_open(NULL), 0);
	unlink(path);
	unlink(other);
	assert_int_equal(rmdir(dir), 0);
}

/* Every line is whole, and they come in their order. */
static void take_line(const char *line)
{
	const char *text;

	if (!*line)
		return; /* ends one that a failed write tore */
	assert_memory_equal(line + 10, "T", 1);
	assert_memory_equal(line + 19, "Z ", 2);
	if ((text = strstr(line, " info line "))) {
		uint64_t number = strtoull(text + 11, NULL, 10);

		assert_true(!reading.lines || number > reading.last);
		assert_non_null(strstr(text, " and its end"));
		reading.last = number;
		reading.lines++;
	} else if ((text = strstr(line, " warn log lines dropped count="))) {
		reading.told += strtoull(text + 30, NULL, 10);
	} else if (strstr(line, " info log file opened anew")) {
		reading.opened_anew = true;
	} else {
		fail_msg("a strange line: \"%s\"", line);
	}
}

/* Reads from `fd` for as long as something comes within `wait_ms`, or until `wanted` lines came. */
static void read_up_to(int fd, uint64_t wanted, int wait_ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	static char text[65536];
	size_t len = 0;
	ssize_t n;

	while (reading.lines < wanted && poll(&poll_fd, 1, wait_ms) == 1 &&
	       (n = read(fd, text + len, sizeof(text) - len)) > 0) {
		char *line = text;
		char *end;

		len += (size_t)n;
		while ((end = memchr(line, '\n', len - (size_t)(line - text)))) {
			*end = '\0';
			take_line(line);
			line = end + 1;
		}
		len -= (size_t)(line - text);
		memmove(text, line, len);
	}
	assert_int_equal(len, 0);
}

static void read_lines(int fd, int wait_ms)
{
	read_up_to(fd, UINT64_MAX, wait_ms);
}

/* All of it; returns the number of lines. */
static uint64_t read_file(const char *name)
{
	int fd = open(name, O_RDONLY);

	memset(&reading, 0, sizeof(reading));
	if (fd >= 0) {
		read_lines(fd, 0);
		close(fd);
	}
	return reading.lines;
}

/* With a writer. */
static void log_to(const char *name)
{
	assert_int_equal(maas_log_open(name), 0);
	assert_int_equal(maas_log_start(), 0);
}

static void log_lines(unsigned int from, unsigned int count)
{
	for (unsigned int i = from; i < from + count; i++)
		log_info("line %u of some length, such as an address and a path have: %s", i,
			 "and its end");
}

/* A pipe that nobody reads from; returns the end that could be read. */
static int open_fifo(void)
{
	int fd;

	assert_int_equal(mkfifo(path, 0600), 0);
	fd = open(path, O_RDONLY | O_NONBLOCK);
	assert_true(fd >= 0);
	log_to(path);
	return fd;
}

TEST(log__without_a_writer)
{
	struct stat st;

	assert_int_equal(maas_log_open(path), 0);
	log_lines(0, 1);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 0);
	maas_log_flush();
	assert_int_equal(read_file(path), 1);
	log_lines(1, MANY);
	log_warn("log lines dropped count=3");
	assert_int_equal(read_file(path), MANY + 1);
}

TEST(log__writer_needs_no_flush)
{
	log_to(path);
	for (unsigned int i = 0; i < 10; i++) {
		log_lines(100 * i, 100);
		maas_log_flush();
	}
	log_lines(1000, 1);
	AWAIT(read_file(path) >= 1001);
	assert_int_equal(read_file(path), 1001);
	assert_int_equal(dropped(), 0);
}

TEST(log__nobody_reads)
{
	uint64_t lost, start_ms;
	int fd = open_fifo();

	log_lines(0, MANY);
	lost = dropped();
	assert_in_range(lost, 100, MANY - 1000);
	start_ms = maas_clock_ms();
	maas_log_flush();
	assert_in_range(maas_clock_ms() - start_ms, 500, PATIENT_MS);

	read_up_to(fd, MANY - lost, PATIENT_MS);
	log_lines(MANY, 1);
	read_up_to(fd, MANY - lost + 1, PATIENT_MS);
	assert_int_equal(reading.told, lost);
	assert_int_equal(reading.lines + lost, MANY + 1);
	assert_int_equal(reading.last, MANY);
	close(fd);
}

/* Neither the end nor a line behind it waits long for the log. */
TEST(stop__nobody_reads)
{
	uint64_t start_ms = maas_clock_ms();
	int fd = open_fifo();

	log_lines(0, MANY);
	maas_log_stop();
	log_warn("nobody hears of this");
	assert_in_range(maas_clock_ms() - start_ms, 500, PATIENT_MS);
	close(fd);
	maas_log_flush(); /* it fails now, with EPIPE */
	assert_true(dropped() > MANY / 2);
}

TEST(open__fifo_without_a_reader)
{
	int fd;

	assert_int_equal(mkfifo(path, 0600), 0);
	log_to(path);
	log_lines(0, 10);
	maas_log_flush();
	fd = open(path, O_RDONLY | O_NONBLOCK);
	read_lines(fd, 0);
	assert_int_equal(reading.lines, 10);
	close(fd);
}

/* The old one takes nothing, in the middle of a line: the new one begins with a whole line. */
TEST(reopen__nobody_reads_the_old_one)
{
	uint64_t start_ms;
	int fd = open_fifo();

	log_lines(0, MANY);
	assert_int_equal(rename(path, other), 0);
	start_ms = maas_clock_ms();
	maas_log_reopen();
	assert_true(maas_clock_ms() - start_ms < 500);
	AWAIT((maas_log_flush(), read_file(path), reading.opened_anew));
	log_lines(MANY, 1);
	maas_log_flush();
	read_file(path);
	assert_int_equal(reading.last, MANY);
	assert_int_equal(reading.told, dropped());
	close(fd);
}

TEST(reopen__new_file)
{
	log_to(path);
	log_lines(0, 5);
	assert_int_equal(rename(path, other), 0);
	maas_log_reopen();
	AWAIT(!access(path, F_OK));
	log_lines(5, 2);
	maas_log_stop();
	assert_int_equal(read_file(other), 5);
	assert_int_equal(read_file(path), 2);
	assert_true(reading.opened_anew);
}

TEST(reopen__fails)
{
	char no_dir[80];
	char text[200] = "";
	int fd;

	snprintf(no_dir, sizeof(no_dir), "%s/gone", dir);
	assert_int_equal(mkdir(no_dir, 0700), 0);
	snprintf(path, sizeof(path), "%s/gone/log", dir);
	assert_int_equal(maas_log_open(path), 0);
	fd = open(path, O_RDONLY);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(no_dir), 0);
	maas_log_reopen();
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	assert_non_null(strstr(text, "the old one stays error=No such file"));
	close(fd);
}

TEST(log__device_is_full)
{
	log_to("/dev/full");
	log_lines(0, 300);
	maas_log_flush();
	assert_int_equal(dropped(), 300);
	maas_log_stop();
	assert_int_equal(maas_log_open(path), 0);
	log_lines(300, 1);
	maas_log_flush();
}

static void set_file_limit(rlim_t bytes)
{
	const struct rlimit limit = {bytes, RLIM_INFINITY};

	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A disk that is full in the middle of a line, and then is not: the line is ended, and the next one
 * stands alone. */
TEST(log__tells_what_it_dropped)
{
	char told[64];
	char text[2048] = "";
	int fd;

	log_to(path);
	set_file_limit(1000);
	log_lines(0, 100);
	maas_log_flush();
	set_file_limit(RLIM_INFINITY);
	assert_true(dropped() > 50);
	log_lines(100, 1);
	maas_log_flush();
	maas_log_stop();
	fd = open(path, O_RDONLY);
	assert_true(read(fd, text, sizeof(text) - 1) > 1000);
	close(fd);
	assert_int_equal(text[1000], '\n');
	assert_memory_equal(text + 1001 + 20, " info line 100 ", 15);
	snprintf(told, sizeof(told), " warn log lines dropped count=%u\n",
		 (unsigned int)(dropped()));
	assert_non_null(strstr(text + 1001, told));
}

static void *log_some(void *arg)
{
	(void)arg;
	for (int i = 0; i < 5000; i++)
		log_debug("a line of many threads");
	return NULL;
}

TEST(log__many_threads)
{
	uint64_t lines = 0, told = 0;
	pthread_t threads[4];
	char line[128];
	FILE *file;

	maas_log_set_level(MAAS_LOG_DEBUG);
	log_to(path);
	threads_start(threads, MAAS_ARRAY_SIZE(threads), log_some, NULL, 0);
	for (int i = 0; i < 20; i++)
		maas_log_reopen();
	threads_join(threads, MAAS_ARRAY_SIZE(threads));
	maas_log_flush();
	maas_log_stop();
	file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		const char *count = strstr(line, "dropped count=");

		lines += !strcmp(line + 20, " debug a line of many threads\n");
		told += count ? strtoull(count + 14, NULL, 10) : 0;
	}
	fclose(file);
	assert_int_equal(lines + dropped(), 20000);
	assert_int_equal(told, dropped());
}

/* ---- stderr */

/* Puts a pipe in the place of stderr; returns its other end. */
static int pipe_stderr(int *ret_saved)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	*ret_saved = dup(STDERR_FILENO);
	assert_int_equal(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
	close(fds[1]);
	return fds[0];
}

static void restore_stderr(int saved)
{
	assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
	close(saved);
}

TEST(say__is_on_stderr)
{
	char text[512] = "";
	int saved;
	int fd = pipe_stderr(&saved);

	log_to(NULL);
	maas_log_set_program("maas");
	log_info("first");
	maas_log_set_program(NULL);
	maas_log_say("Listening on %s", "http://127.0.0.1:1");
	maas_log_flush();
	maas_log_stop();
	assert_int_equal(maas_log_open(path), 0);
	log_warn("this is in the file");
	maas_log_say("and this is not");
	restore_stderr(saved);
	assert_in_range(read(fd, text, sizeof(text) - 1), 20, sizeof(text) - 1);
	assert_string_equal(text,
			    "maas: first\nListening on http://127.0.0.1:1\nand this is not\n");
	close(fd);
}

/* Whatever length it has, a text is one line of printable bytes. */
TEST(text__is_one_line)
{
	char text[2000], line[2100];
	FILE *file;

	assert_int_equal(maas_log_open(path), 0);
	for (size_t len = 0; len < sizeof(text); len += len < 100 ? 1 : 317) {
		memset(text, '\n', sizeof(text));
		maas_log_text(MAAS_LOG_INFO, text, len);
	}
	maas_log_text(MAAS_LOG_DEBUG, "not logged", 10);
	maas_log_text(MAAS_LOG_INFO,
		      "a\x01"
		      "b\x7f"
		      "c\xc3\xa9",
		      7);
	maas_log_flush();
	file = fopen(path, "r");
	assert_non_null(file);
	for (size_t len = 0; len < sizeof(text); len += len < 100 ? 1 : 317) {
		size_t want = len < 1023 ? len : 1023;

		assert_non_null(fgets(line, sizeof(line), file));
		assert_int_equal(strlen(line), 26 + want + 1);
		assert_int_equal(strspn(line + 26, "?"), want);
	}
	assert_non_null(fgets(line, sizeof(line), file));
	assert_string_equal(line + 20, " info a?b?c\xc3\xa9\n");
	assert_null(fgets(line, sizeof(line), file));
	fclose(file);
}

/* stderr blocks, because its open file description is not ours to change: the writer hangs in it,
 * and nobody else does. */
TEST(log__nobody_reads_stderr)
{
	uint64_t start_ms = maas_clock_ms();
	int saved;
	int fd = pipe_stderr(&saved);

	log_to(NULL);
	log_lines(0, MANY);
	assert_true(dropped() > 0);
	maas_log_stop();
	assert_in_range(maas_clock_ms() - start_ms, 500, PATIENT_MS);
	assert_int_equal(fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK, 0);
	read_lines(fd, 1000);
	maas_log_stop();
	restore_stderr(saved);
	read_lines(fd, 0);
	assert_int_equal(reading.lines + dropped(), MANY);
	close(fd);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	return test_run(set_up, tear_down);
}
