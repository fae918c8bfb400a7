/* SPDX-License-Identifier: Apache-2.0 */
/* Environment variables that look like options and are none: otherwise a slip of the pen would go
 * unnoticed. */
#include <ctype.h>
#include <string.h>

#include "daemon/options_table.h"

#define PREFIX	   "MAAS_"
#define NAME_BYTES 64

/* ---- what others mean by a variable of this prefix */

/* What the clients and this project's tests and scripts read. */
static const char *const foreign[] = {
	"URL",	"TOKEN_FILE", "CA_FILE",   "CERT_FILE", "KEY_FILE",	"SERVER_NAME",
	"BIN",	"LONG",	      "SHORT",	   "SEED",	"REQUIRE_RDMA", "TEST_TRANSPORT",
	"FUZZ", "STORE",      "STORE_URL", "HELP",	"VERSION"};

static bool begins(const char *text, const char *words)
{
	return !strncmp(text, words, strlen(words));
}

/* What Kubernetes gives to a pod for a service of the name `maas`, or one that begins so
 * (maas-metrics): MAAS_SERVICE_HOST, MAAS_PORT=tcp://10.0.0.1:3000, MAAS_PORT_3000_TCP_ADDR. */
static bool is_of_kubernetes(const char *name, const char *value)
{
	const char *port = begins(name, "PORT") ? name : strstr(name, "_PORT");

	if (begins(name, "SERVICE_") || strstr(name, "_SERVICE_HOST") ||
	    strstr(name, "_SERVICE_PORT"))
		return true;
	if (!port)
		return false;
	port = strchr(port, 'P') + strlen("PORT");
	return *port == '_' ? isdigit((unsigned char)port[1])
			    : !*port && (begins(value, "tcp://") || begins(value, "udp://") ||
					 begins(value, "sctp://"));
}

static bool is_foreign(const char *name, const char *value)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(foreign); i++)
		if (!strcmp(name, foreign[i]))
			return true;
	return is_of_kubernetes(name, value);
}

/* ---- variables that name no option */

static bool is_option(const char *name)
{
	for (unsigned int i = 0; i < MAASD_OPTIONS; i++) {
		char env[MAASD_OPTIONS_ENV];

		maasd_options_env_name((enum maasd_option)i, env);
		if (!strcmp(name, env + strlen(PREFIX)))
			return true;
	}
	return false;
}

/* The option whose name in the environment is like `name`; MAASD_OPTIONS when there is none. */
static unsigned int guess(const char *name)
{
	char word[NAME_BYTES];
	size_t i;

	for (i = 0; name[i]; i++)
		word[i] = (char)(name[i] == '_' ? '-' : tolower((unsigned char)name[i]));
	word[i] = '\0';
	return maasd_options_guess(word, true);
}

bool maasd_options_stray(const char *entry, char advice[MAASD_OPTIONS_ERROR])
{
	const char *equals = strchr(entry, '=');
	char meant[MAASD_OPTIONS_ENV];
	char name[NAME_BYTES];
	unsigned int option;
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
	if (option == MAASD_OPTIONS) {
		snprintf(advice, MAASD_OPTIONS_ERROR,
			 PREFIX "%s in the environment is no option of maasd, and ignored; maasd "
				"--help lists the options",
			 name);
		return true;
	}
	maasd_options_env_name((enum maasd_option)option, meant);
	snprintf(advice, MAASD_OPTIONS_ERROR,
		 PREFIX "%s in the environment is no option of maasd, and ignored; is %s meant?",
		 name, meant);
	return true;
}

void maasd_options_warn_environment(char *const *environment)
{
	char advice[MAASD_OPTIONS_ERROR];

	for (; environment && *environment; environment++)
		if (maasd_options_stray(*environment, advice))
			log_warn("%s", advice);
}
