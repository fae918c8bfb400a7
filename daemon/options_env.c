/* SPDX-License-Identifier: Apache-2.0 */
/* Variables that look like options and are none: a slip of the pen would else pass in silence. */
#include <ctype.h>
#include <string.h>

#include "daemon/options_table.h"

#define PREFIX	   "MAAS_"
#define NAME_BYTES 64

/* ---- what others mean by a variable of this prefix */

/* What the clients and this project's tests and scripts read. */
static const char *const foreign[] = {"URL",   "BIN",	       "LONG",		 "SHORT",
				      "SEED",  "REQUIRE_RDMA", "TEST_TRANSPORT", "FUZZ",
				      "STORE", "STORE_URL",    "HELP",		 "VERSION"};

static bool begins(const char *text, const char *words)
{
	return !strncmp(text, words, strlen(words));
}

/* What Kubernetes gives to a pod for a service of the name `maas`, or one that begins so
 * (maas-metrics): MAAS_SERVICE_HOST, MAAS_PORT=tcp://10.0.0.1:3000, MAAS_PORT_3000_TCP_ADDR. */
static bool is_of_kubernetes(const char *name, const char *value)
{
	const char *port = strstr(name, "_PORT");

	if (begins(name, "PORT") || begins(name, "SERVICE_") || strstr(name, "_SERVICE_HOST") ||
	    strstr(name, "_SERVICE_PORT"))
		return true;
	if (!port)
		return false;
	return port[5] == '_' ? isdigit((unsigned char)port[6])
			      : !port[5] && (begins(value, "tcp://") || begins(value, "udp://") ||
					     begins(value, "sctp://"));
}

static bool is_foreign(const char *name, const char *value)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(foreign); i++)
		if (!strcmp(name, foreign[i]))
			return true;
	return is_of_kubernetes(name, value);
}

/* ---- which option was meant */

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t least = a < b ? a : b;

	return least < c ? least : c;
}

/* How many letters must be added, left out or changed to make one of the other (Levenshtein). */
static size_t distance(const char *a, const char *b)
{
	size_t row[NAME_BYTES];
	size_t len = strlen(b);

	for (size_t j = 0; j <= len; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 1; j <= len; j++) {
			size_t above = row[j];

			row[j] = min3(row[j - 1] + 1, above + 1, diagonal + (a[i] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[len];
}

/* `part` is some of the words of `name`, as POOL_SIZE is of MAX_POOL_SIZE. */
static bool has_words(const char *name, const char *part)
{
	const char *at = strstr(name, part);
	size_t len = strlen(part);

	return at && (at == name || at[-1] == '_') && (!at[len] || at[len] == '_');
}

/* The option that is at most a quarter of its letters away, or else the only one with these words;
 * MAAS_OPTIONS when there is none. */
static enum maas_option guess(const char *name)
{
	size_t least = (strlen(name) + 3) / 4;
	enum maas_option near = MAAS_OPTIONS;
	enum maas_option with_words = MAAS_OPTIONS;
	unsigned int num_with_words = 0;

	for (unsigned int i = 0; i < MAAS_OPTIONS; i++) {
		char env[MAAS_OPTIONS_ENV];
		size_t away;

		if (maas_option_rows[i].no_env)
			continue;
		maas_options_env_name((enum maas_option)i, env);
		away = distance(name, env + strlen(PREFIX));
		if (away < least || (away == least && near == MAAS_OPTIONS)) {
			least = away;
			near = (enum maas_option)i;
		}
		if (has_words(env + strlen(PREFIX), name)) {
			num_with_words++;
			with_words = (enum maas_option)i;
		}
	}
	return near == MAAS_OPTIONS && num_with_words == 1 ? with_words : near;
}

/* ---- variables that name no option */

static bool is_option(const char *name)
{
	for (unsigned int i = 0; i < MAAS_OPTIONS; i++) {
		char env[MAAS_OPTIONS_ENV];

		maas_options_env_name((enum maas_option)i, env);
		if (!strcmp(name, env + strlen(PREFIX)))
			return true;
	}
	return false;
}

bool maas_options_stray(const char *entry, char advice[MAAS_OPTIONS_ERROR])
{
	const char *equals = strchr(entry, '=');
	char meant[MAAS_OPTIONS_ENV];
	char name[NAME_BYTES];
	enum maas_option option;
	size_t len;

	/* An empty value counts as none. */
	if (!begins(entry, PREFIX) || !equals || !equals[1])
		return false;
	entry += strlen(PREFIX);
	len = (size_t)(equals - entry);
	if (len >= sizeof(name))
		len = sizeof(name) - 1;
	memcpy(name, entry, len);
	name[len] = '\0';
	if (is_option(name) || is_foreign(name, equals + 1))
		return false;
	option = guess(name);
	if (option == MAAS_OPTIONS) {
		snprintf(advice, MAAS_OPTIONS_ERROR,
			 PREFIX "%s in the environment is no option of maasd, and ignored; maasd "
				"--help lists the options",
			 name);
		return true;
	}
	maas_options_env_name(option, meant);
	snprintf(advice, MAAS_OPTIONS_ERROR,
		 PREFIX "%s in the environment is no option of maasd, and ignored; is %s meant?",
		 name, meant);
	return true;
}

void maas_options_warn_environment(char *const *environment)
{
	char advice[MAAS_OPTIONS_ERROR];

	for (; environment && *environment; environment++)
		if (maas_options_stray(*environment, advice))
			log_warn("%s", advice);
}
