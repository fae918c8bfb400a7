/* SPDX-License-Identifier: Apache-2.0 */
/* maasd: options, then --check, or the server until a signal ends it. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/internal.h"

static int write_out(struct maas_buf *text)
{
	int status = EXIT_SUCCESS;

	if (text->error || fwrite(text->data, 1, text->len, stdout) != text->len || fflush(stdout))
		status = MAASD_EXIT_FAILURE;
	maas_buf_fini(text);
	return status;
}

static int fail(int status, const char *error)
{
	fprintf(stderr, "maasd: %s\n", error);
	return status;
}

static int fail_log(const struct maasd_options *options, int r)
{
	fprintf(stderr,
		"maasd: --log-file %s: %s; name a file that this user may write, or leave the "
		"option out to log to the standard error output\n",
		options->log_file, strerror(-r));
	return MAASD_EXIT_FAILURE;
}

/* What the process may do, before the pool. */
static int check_process(struct maasd_options *options, char *error)
{
	int r = maasd_machine_raise_files(options, error);

	if (!r && maasd_options_given(options, MAASD_OPTION_NUMA_NODE))
		r = maasd_machine_bind_node(options->numa_node, error);
	return r;
}

/* Whether `slab`, a pool without its memory, fits the machine; `out`: what was found. */
static int check_pool(struct maasd_options *options, struct maas_slab *slab, char *error,
		      struct maas_buf *out)
{
	struct maas_slab_room room;
	int r = maasd_memory_room(options, error, &room);

	if (r)
		return r;
	options->max_pool_bytes = room.max_bytes;
	options->extent_bytes = room.extent_bytes;
	options->max_connections_per_address = maasd_options_per_address(options);
	options->given |= UINT64_C(1) << MAASD_OPTION_EXTENT_SIZE |
			  UINT64_C(1) << MAASD_OPTION_MAX_CONNECTIONS_PER_ADDRESS;
	maasd_options_print(options, out);
	maasd_memory_print(options, out);
	maasd_machine_print(out);
	r = maasd_serve_check_rdma(options, slab, error, out);
	if (!r)
		r = maasd_tls_check(options, error, out);
	if (!r)
		r = maasd_auth_check(options, error, out);
	if (!r)
		r = maasd_memory_check(options, error);
	if (r >= 0)
		r = maasd_memory_look(options, error);
	return r < 0 ? r : 0;
}

/* Everything is tried that a start does, and taken down again: what the machine refuses is found
 * here, too, and the exit code is that of such a start. */
static int check(struct maasd_options *options)
{
	const struct maas_slab_options pool = maasd_serve_slab_options(options, false);
	char error[MAASD_OPTIONS_ERROR];
	struct maas_buf text = {0};
	struct maas_slab *slab;
	int status;
	int r;

	r = options->log_file ? maas_log_check(options->log_file) : 0;
	if (r)
		return fail_log(options, r);
	r = check_process(options, error);
	if (!r)
		r = maasd_serve_open_pool(&pool, error, &slab);
	if (r)
		return fail(MAASD_EXIT_FAILURE, error);
	r = check_pool(options, slab, error, &text);
	maas_slab_close(slab);
	if (r) {
		maas_buf_fini(&text);
		return fail(MAASD_EXIT_FAILURE, error);
	}
	maasd_options_warn_environment(environ);
	status = write_out(&text);
	/* Last, because it fails beside a running server, where all the rest can be checked. */
	if (maasd_serve_check_listen(options, error))
		return fail(MAASD_EXIT_FAILURE, error);
	return status;
}

int main(int argc, char **argv)
{
	char error[MAASD_OPTIONS_ERROR];
	struct maasd_options options;
	struct maas_buf text = {0};
	int r;

	maas_file_open_standard(true);
	maas_rdma_prepare();
	if (maasd_options_parse(argc, argv, getenv, error, &options))
		return fail(MAASD_EXIT_USAGE, error);
	if (options.help) {
		maasd_options_help(&text);
		return write_out(&text);
	}
	if (options.version) {
		maas_buf_str(&text, "maasd " MAAS_VERSION "\n");
		return write_out(&text);
	}
	if (maasd_options_agree(&options, error))
		return fail(MAASD_EXIT_USAGE, error);
	maas_log_set_level((enum maas_log_level)options.log_level);
	if (options.check)
		return check(&options);
	r = options.log_file ? maas_log_open(options.log_file) : 0;
	if (r)
		return fail_log(&options, r);
	return maasd_serve(&options);
}
