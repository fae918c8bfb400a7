/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is written about the options: --help, the values in use, which option a mistyped one was
 * meant to be, and which do not fit each other.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/internal.h"
#include "daemon/options_table.h"

#define HELP_COLUMN 30

void maasd_options_env_name(enum maasd_option option, char text[MAASD_OPTIONS_ENV])
{
	snprintf(text, MAASD_OPTIONS_ENV, "MAAS_%s", maasd_option_rows[option].name);
	for (; *text; text++)
		*text = (char)(*text == '-' ? '_' : toupper((unsigned char)*text));
}

/* ---- which option was meant */

/* What other servers call our options. */
static const struct alias {
	const char *word;
	enum maasd_option option;
} aliases[] = {
	{"p", MAASD_OPTION_LISTEN},
	{"port", MAASD_OPTION_LISTEN},
	{"l", MAASD_OPTION_LISTEN},
	{"bind", MAASD_OPTION_LISTEN},
	{"address", MAASD_OPTION_LISTEN},
	{"m", MAASD_OPTION_MAX_POOL_SIZE},
	{"memory", MAASD_OPTION_MAX_POOL_SIZE},
	{"maxmemory", MAASD_OPTION_MAX_POOL_SIZE},
	{"c", MAASD_OPTION_MAX_CONNECTIONS},
	{"t", MAASD_OPTION_HTTP_THREADS},
	{"threads", MAASD_OPTION_HTTP_THREADS},
	{"V", MAASD_OPTION_VERSION},
};

unsigned int maasd_options_guess(const char *word, bool env)
{
	const char *names[MAASD_OPTIONS];

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(aliases) && !env; i++)
		if (!strcmp(word, aliases[i].word))
			return aliases[i].option;
	for (unsigned int i = 0; i < MAASD_OPTIONS; i++)
		names[i] = env && maasd_option_rows[i].no_env ? NULL : maasd_option_rows[i].name;
	return (unsigned int)maas_guess(word, names, MAASD_OPTIONS);
}

/* ---- --help */

static void help_row(struct maas_buf *out, const struct maasd_option_row *row)
{
	size_t start;

	if (row->group)
		maas_buf_printf(out, "\n%s:\n", row->group);
	start = out->len;
	maas_buf_printf(out, "  --%s%s%s", row->name, row->value ? " " : "",
			row->value ? row->value : "");
	if (out->len - start + 1 > HELP_COLUMN) {
		maas_buf_str(out, "\n");
		start = out->len;
	}
	while (!out->error && out->len - start < HELP_COLUMN)
		maas_buf_str(out, " ");
	maas_buf_str(out, row->help);
	if (row->initial) {
		if (out->len - start + strlen(row->initial) + 11 > 79)
			maas_buf_printf(out, "\n%*s", HELP_COLUMN - 1, "");
		maas_buf_printf(out, " (default %s)", row->initial);
	}
	maas_buf_str(out, "\n");
}

void maasd_options_help(struct maas_buf *out)
{
	maas_buf_str(out,
		     "Usage: maasd [OPTION...]\n\n"
		     "Lends memory over the network: allocate, read, write and free with HTTP\n"
		     "requests. Nothing that is lent is ever evicted.\n");
	for (size_t i = 0; i < MAASD_OPTIONS; i++)
		help_row(out, &maasd_option_rows[i]);
	maas_buf_str(
		out,
		"\nA SIZE is a number of bytes, or one with KiB, MiB, GiB or TiB. An option\n"
		"can be given in the environment, too: --max-pool-size as MAAS_MAX_POOL_SIZE.\n"
		"The command line wins. A switch takes yes or no there, and --prealloc=no\n"
		"here; MAAS_LISTEN may be several addresses with commas between them.\n"
		"--listen 3000 or :3000 is that port of all IPv4 interfaces.\n\n"
		"Exit codes: 0 after SIGTERM or SIGINT, 1 when the server cannot run, 2 for bad\n"
		"options. --check ends with what a start would end with: 1 for a port that is\n"
		"taken, a log file that cannot be written, memory that is not there.\n");
}

/* ---- --check */

static void print_word(struct maas_buf *out, const char *words, unsigned int index)
{
	while (index--)
		words += strcspn(words, "|") + 1;
	maas_buf_add(out, words, strcspn(words, "|"));
}

/* As it can be given, and what that is for people where it is a long number. */
static void print_size(struct maas_buf *out, uint64_t bytes)
{
	char given[MAAS_SIZE_TEXT];
	char text[MAAS_SIZE_TEXT];

	maas_buf_str(out, maas_size_format(bytes, given));
	if (strtoull(given, NULL, 10) >= 1024)
		maas_buf_printf(out, " (%s)", maas_size_round((double)bytes, text));
}

static void print_sizes(struct maas_buf *out, const struct maasd_options *options)
{
	for (unsigned int i = 0; i < options->num_classes; i++) {
		maas_buf_str(out, i ? "," : "");
		print_size(out, options->class_bytes[i]);
	}
}

static void print_listen(struct maas_buf *out, const struct maasd_addresses *addresses)
{
	for (unsigned int i = 0; i < addresses->num; i++)
		maas_buf_printf(out, "%s%s", i ? "," : "", addresses->text[i]);
}

static void print_hosts(struct maas_buf *out, const struct maasd_options *options)
{
	for (unsigned int i = 0; i < options->num_hosts; i++)
		maas_buf_printf(out, "%s%s", i ? "," : "", options->hosts[i]);
}

static void print_value(struct maas_buf *out, const struct maasd_options *options,
			const struct maasd_option_row *row)
{
	const void *at = (const char *)options + row->offset;

	switch (row->kind) {
	case MAASD_KIND_SWITCH:
		maas_buf_str(out, *(const bool *)at ? "yes" : "no");
		break;
	case MAASD_KIND_SIZE:
		print_size(out, *(const uint64_t *)at);
		break;
	case MAASD_KIND_NUMBER:
		maas_buf_u64(out, *(const unsigned int *)at);
		break;
	case MAASD_KIND_WORD:
		print_word(out, row->value, *(const unsigned int *)at);
		break;
	case MAASD_KIND_TEXT:
	case MAASD_KIND_IP:
		maas_buf_str(out, *(const char *const *)at);
		break;
	case MAASD_KIND_MODE:
		maas_buf_printf(out, "%04o", *(const unsigned int *)at);
		break;
	case MAASD_KIND_LISTEN:
		print_listen(out, at);
		break;
	case MAASD_KIND_HOSTS:
		print_hosts(out, options);
		break;
	case MAASD_KIND_SIZES:
		print_sizes(out, options);
		break;
	}
}

void maasd_options_print(const struct maasd_options *options, struct maas_buf *out)
{
	for (unsigned int i = 0; i < MAASD_OPTIONS; i++) {
		const struct maasd_option_row *row = &maasd_option_rows[i];

		if (i >= MAASD_OPTION_CHECK ||
		    (!row->initial && !maasd_options_given(options, (enum maasd_option)i)))
			continue;
		maas_buf_printf(out, "%s = ", row->name);
		print_value(out, options, row);
		maas_buf_str(out, "\n");
	}
}

/* ---- what fits what */

static const struct {
	enum maasd_option option, needs;
} pairs[] = {
	{MAASD_OPTION_TLS_CERT, MAASD_OPTION_TLS_KEY},
	{MAASD_OPTION_TLS_KEY, MAASD_OPTION_TLS_CERT},
	{MAASD_OPTION_TLS_CLIENT_CA, MAASD_OPTION_TLS_CERT},
	{MAASD_OPTION_TLS_CLIENT_CRL, MAASD_OPTION_TLS_CLIENT_CA},
	{MAASD_OPTION_TLS_CLIENT_CERT, MAASD_OPTION_TLS_CLIENT_CA},
};

enum maasd_option maasd_options_asking_rdma(const struct maasd_options *options)
{
	if (options->rdma_device)
		return MAASD_OPTION_RDMA_DEVICE;
	if (options->rdma_addr)
		return MAASD_OPTION_RDMA_ADDR;
	if (options->rdma_keys != MAAS_RDMA_KEYS_AUTO)
		return MAASD_OPTION_RDMA_KEYS;
	return options->require_isolation ? MAASD_OPTION_REQUIRE_ISOLATION : MAASD_OPTIONS;
}

static int check_pairs(const struct maasd_options *options, char *error)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(pairs); i++) {
		if (!maasd_options_given(options, pairs[i].option) ||
		    maasd_options_given(options, pairs[i].needs))
			continue;
		snprintf(error, MAASD_OPTIONS_ERROR, "--%s needs --%s, too",
			 maasd_option_rows[pairs[i].option].name,
			 maasd_option_rows[pairs[i].needs].name);
		return -EINVAL;
	}
	return 0;
}

/* By any file system: one of huge pages asks for more, which is seen at the start. */
static int check_pool(const struct maasd_options *options, char *error)
{
	const struct maas_slab_options pool = maasd_serve_slab_options(options, false);
	struct maas_slab_room room;

	return maas_slab_room(&pool, error, &room);
}

/* Whoever sees a token on the wire has it. */
static int check_plaintext(const struct maasd_options *options, char *error)
{
	if (!options->auth_file || options->insecure_plaintext || options->tls_cert)
		return 0;
	for (unsigned int i = 0; i < options->listen.num; i++) {
		if (!maasd_announce_is_public(options->listen.text[i]))
			continue;
		snprintf(
			error, MAASD_OPTIONS_ERROR,
			"--listen %.200s: tokens would travel in clear there, and whoever sees one "
			"has it; give --tls-cert and --tls-key, or listen at 127.0.0.1 or "
			"unix:PATH, or, on a network that nobody else can read, say "
			"--insecure-plaintext",
			options->listen.text[i]);
		return -EINVAL;
	}
	return 0;
}

int maasd_options_agree(const struct maasd_options *options, char error[MAASD_OPTIONS_ERROR])
{
	enum maasd_option asking = maasd_options_asking_rdma(options);
	int r;

	if (options->rdma == MAASD_RDMA_OFF && asking != MAASD_OPTIONS) {
		snprintf(error, MAASD_OPTIONS_ERROR,
			 "--%s asks for an RDMA device, and --rdma is off; leave one of the two "
			 "out, in the environment too",
			 maasd_option_rows[asking].name);
		return -EINVAL;
	}
	r = check_pairs(options, error);
	if (!r)
		r = check_pool(options, error);
	return r ? r : check_plaintext(options, error);
}
