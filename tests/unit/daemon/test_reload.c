/* SPDX-License-Identifier: Apache-2.0 */
/* When files of the configuration are read again. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/internal.h"
#include "http/internal.h"
#include "tests/unit/unit.h"

#define PATH "/tmp/test_reload.XXXXXX"

static char path[] = PATH;
static struct maas_http http;
static struct maasd_reload reload;
static unsigned int reads;

static int read_it(void *ctx, char error[MAASD_OPTIONS_ERROR])
{
	(void)ctx;
	(void)error;
	reads++;
	return 0;
}

static void set_up(void)
{
	char error[MAASD_OPTIONS_ERROR];

	close(mkstemp(path));
	reload = (struct maasd_reload){.what = "files", .read = read_it, .paths = {path}};
	assert_int_equal(maasd_reload_first(&reload, error), 0);
	reads = 0;
}

static void tear_down(void)
{
	unlink(path);
	memcpy(path, PATH, sizeof(path));
}

/* The file has another content, last written `seconds` from now. */
static void change(long seconds)
{
	static unsigned int number;
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
					  {.tv_sec = time(NULL) + seconds}};
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(dprintf(fd, "%u", number++) > 0);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
}

static unsigned int look(unsigned int want)
{
	struct maasd_reload *const all[] = {&reload};
	unsigned int next_ms = maasd_reload(all, 1, false, &http);

	assert_int_equal(reads, want);
	return next_ms;
}

TEST(look__reads_what_has_changed_once)
{
	look(0);
	change(-60);
	look(1);
	look(1);
	assert_int_equal(unlink(path), 0);
	look(2);
	look(2);
}

TEST(look__waits_for_what_is_being_written)
{
	change(0);
	assert_int_equal(look(0), 2000);
	change(-2);
	assert_int_equal(look(1), 10000);
}

/* As a copy has that keeps its times, of a machine whose clock is ahead. */
TEST(look__reads_what_has_a_time_of_the_future)
{
	change(3600);
	look(1);
	look(1);
}

TEST_MAIN(set_up, tear_down)
