/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options, for options.c and options_text.c. */
#ifndef MAAS_DAEMON_OPTIONS_TABLE_H
#define MAAS_DAEMON_OPTIONS_TABLE_H

#include "daemon/options.h"

enum maasd_option_kind {
	MAASD_KIND_SWITCH, /* bool */
	MAASD_KIND_SIZE,   /* uint64_t, from min to max */
	MAASD_KIND_NUMBER, /* unsigned int, from min to max */
	MAASD_KIND_WORD,   /* unsigned int, the index of a word in `value`, such as "auto|off" */
	MAASD_KIND_TEXT,   /* const char * */
	MAASD_KIND_IP,	   /* const char * */
	MAASD_KIND_MODE,   /* unsigned int, of a file */
	MAASD_KIND_LISTEN, /* struct maasd_addresses */
	MAASD_KIND_HOSTS,  /* `hosts` and `num_hosts` */
	MAASD_KIND_SIZES,  /* `class_bytes` and `num_classes` */
};

struct maasd_option_row {
	const char *group; /* a heading of --help, at the first option of a group */
	const char *name;
	const char *value;   /* how --help names it; NULL for a switch */
	const char *initial; /* the default, as it would be given; NULL: nothing or zero */
	const char *help;
	size_t offset; /* in struct maasd_options */
	uint64_t min;
	uint64_t max;
	enum maasd_option_kind kind;
	bool no_env; /* asks for something to be done once, and is no setting */
};

extern const struct maasd_option_row maasd_option_rows[MAASD_OPTIONS];

/*
 * The option that is most likely meant by `word`, which is written as on the command line, without
 * its dashes; MAASD_OPTIONS when nothing is near enough. `env`: one of those that the environment
 * can set.
 */
unsigned int maasd_options_guess(const char *word, bool env);

#endif
