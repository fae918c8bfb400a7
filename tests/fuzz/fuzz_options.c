/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line and the environment of maasd: each line of the input is an argument, or, where
 * it begins with MAAS_ and has a "=", a variable. What is accepted must be printed in a form that
 * is accepted again and means the same; what is refused must come with a sentence.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/options.h"
#include "tests/fuzz/fuzz.h"

#define MAX_LINES 64

static char *variables[MAX_LINES];
static size_t num_variables;

static char *find_variable(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < num_variables; i++)
		if (!strncmp(variables[i], name, len) && variables[i][len] == '=')
			return variables[i] + len + 1;
	return NULL;
}

static char *no_variable(const char *name)
{
	(void)name;
	return NULL;
}

/* Turns the lines `name = value` at `text` into arguments `--name=value`, behind argv[0]. */
static int split_printed(const char *text, char **argv)
{
	int argc = 1;

	while (*text) {
		size_t len = strcspn(text, "\n");
		const char *equals = strstr(text, " = ");

		REQUIRE(argc <= MAASD_OPTIONS && equals && text[len]);
		REQUIRE(asprintf(&argv[argc++], "--%.*s=%.*s", (int)(equals - text), text,
				 (int)(len - (size_t)(equals - text) - 3), equals + 3) > 0);
		text += len + 1;
	}
	return argc;
}

static void print(const struct maasd_options *options, struct maas_buf *text)
{
	maasd_options_print(options, text);
	maas_buf_add(text, "", 1);
	REQUIRE(!text->error);
}

static void try_again(const struct maasd_options *options)
{
	char *argv[MAASD_OPTIONS + 1] = {NULL};
	char error[MAASD_OPTIONS_ERROR];
	struct maasd_options again;
	struct maas_buf first = {0}, second = {0};
	int argc;

	print(options, &first);
	argc = split_printed(first.data, argv);
	REQUIRE(!maasd_options_parse(argc, argv, no_variable, error, &again));
	print(&again, &second);
	REQUIRE(!strcmp(first.data, second.data));
	while (--argc)
		free(argv[argc]);
	maas_buf_fini(&first);
	maas_buf_fini(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	char *rest = text;
	char *argv[MAX_LINES + 1];
	char error[MAASD_OPTIONS_ERROR] = "";
	struct maasd_options options;
	int argc = 1;
	int r;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	argv[0] = text + size;
	num_variables = 0;
	for (char *line;
	     (line = strsep(&rest, "\n")) && argc < MAX_LINES && num_variables < MAX_LINES;) {
		if (!strncmp(line, "MAAS_", 5) && strchr(line, '=')) {
			variables[num_variables++] = line;
			REQUIRE(!maasd_options_stray(line, error) || *error);
			*error = '\0';
		} else if (*line)
			argv[argc++] = line;
	}
	r = maasd_options_parse(argc, argv, find_variable, error, &options);
	REQUIRE(r == 0 || r == -EINVAL);
	REQUIRE(memchr(error, '\0', sizeof(error)));
	REQUIRE((r == 0) == !*error);
	if (!r) {
		r = maasd_options_agree(&options, error);
		REQUIRE(r == 0 || r == -EINVAL);
		REQUIRE((r == 0) == !*error);
		try_again(&options);
	}
	free(text);
	return 0;
}
