/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options, for options.c and options_text.c. */
#ifndef MAAS_DAEMON_OPTIONS_TABLE_H
#define MAAS_DAEMON_OPTIONS_TABLE_H

#include "daemon/options.h"

enum maas_option_kind {
	MAAS_KIND_SWITCH, /* bool */
	MAAS_KIND_SIZE,	  /* uint64_t, from min to max */
	MAAS_KIND_NUMBER, /* unsigned int, from min to max */
	MAAS_KIND_WORD,	  /* unsigned int, the index of a word in `value`, such as "auto|off" */
	MAAS_KIND_TEXT,	  /* const char * */
	MAAS_KIND_IP,	  /* const char * */
	MAAS_KIND_MODE,	  /* unsigned int, of a file */
	MAAS_KIND_LISTEN, /* `listen` and `num_listen` */
	MAAS_KIND_HOSTS,  /* `hosts` and `num_hosts` */
	MAAS_KIND_SIZES,  /* `class_bytes` and `num_classes` */
};

/* Why an option is refused in this version. */
enum maas_option_missing {
	MAAS_MISSING_NOTHING,
	MAAS_MISSING_AUTHENTICATION,
};

struct maas_option_row {
	const char *group; /* a heading of --help, at the first option of a group */
	const char *name;
	const char *value;   /* how --help names it; NULL for a switch */
	const char *initial; /* the default, as it would be given; NULL: nothing or zero */
	const char *help;
	size_t offset; /* in struct maas_options */
	uint64_t min;
	uint64_t max;
	enum maas_option_kind kind;
	enum maas_option_missing missing;
	bool no_env; /* asks for something to be done once, and is no setting */
};

extern const struct maas_option_row maas_option_rows[MAAS_OPTIONS];

/*
 * The option that is most likely meant by `word`, which is written as on the command line, without
 * its dashes; MAAS_OPTIONS when nothing is near enough. `env`: one of those that the environment
 * can set.
 */
unsigned int maas_options_guess(const char *word, bool env);

#endif
