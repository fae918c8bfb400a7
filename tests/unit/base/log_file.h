/* SPDX-License-Identifier: Apache-2.0 */
/* A test that reads what was logged: the log goes to a file for as long as it takes. */
#ifndef MAAS_TESTS_UNIT_LOG_FILE_H
#define MAAS_TESTS_UNIT_LOG_FILE_H

#include <unistd.h>

#include "base/base.h"
#include "tests/unit/unit.h"

struct log_file {
	char path[40];
};

static inline void log_file_begin(struct log_file *log)
{
	int fd;

	snprintf(log->path, sizeof(log->path), "/tmp/maas_log_XXXXXX");
	fd = mkstemp(log->path);
	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(maas_log_open(log->path), 0);
}

static inline void log_file_end(struct log_file *log)
{
	assert_int_equal(maas_log_open(NULL), 0);
	assert_int_equal(unlink(log->path), 0);
}

/* How many lines hold `words`; adds the numbers behind "out=" in those to `ret_left_out`, which may
 * be NULL. */
static inline uint64_t log_file_lines(struct log_file *log, const char *words,
				      uint64_t *ret_left_out)
{
	uint64_t sum = 0;
	uint64_t count = 0;
	char line[1200];
	FILE *file;

	maas_log_flush();
	file = fopen(log->path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		const char *figure = strstr(line, "out=");

		if (!strstr(line, words))
			continue;
		count++;
		sum += figure ? strtoull(figure + strlen("out="), NULL, 10) : 0;
	}
	fclose(file);
	if (ret_left_out)
		*ret_left_out = sum;
	return count;
}

#endif
