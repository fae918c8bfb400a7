/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/internal.h"

static int write_out(struct maas_buf *text)
{
	int status = EXIT_SUCCESS;

	if (text->error || fwrite(text->data, 1, text->len, stdout) != text->len || fflush(stdout))
		status = MAAS_EXIT_FAILURE;
	maas_buf_fini(text);
	return status;
}

static int fail_usage(const char *error)
{
	fprintf(stderr, "maasd: %s\n", error);
	return MAAS_EXIT_USAGE;
}

/* The pool is made, without its memory, and the RDMA device tried, and both taken down again: what
 * they refuse is found here, too. */
static int check(struct maas_options *options)
{
	const struct maas_slab_options pool = maas_serve_slab_options(options, false);
	char error[MAAS_OPTIONS_ERROR];
	struct maas_slab_stats stats;
	struct maas_slab *slab;
	struct maas_buf text = {0};
	gid_t group;
	int r;

	if (maas_machine_raise_files(options, error) ||
	    maas_machine_find_group(options, error, &group))
		return fail_usage(error);
	if (maas_options_given(options, MAAS_OPTION_NUMA_NODE) &&
	    maas_machine_bind_node(options->numa_node, error))
		return fail_usage(error);
	if (maas_serve_open_pool(&pool, error, &slab))
		return fail_usage(error);
	maas_slab_stats(slab, &stats);
	options->max_pool_bytes = stats.max_bytes;
	options->extent_bytes = stats.extent_bytes;
	options->max_connections_per_address = maas_options_per_address(options);
	options->given |= UINT64_C(1) << MAAS_OPTION_EXTENT_SIZE |
			  UINT64_C(1) << MAAS_OPTION_MAX_CONNECTIONS_PER_ADDRESS;
	maas_options_print(options, &text);
	maas_memory_print(options, &text);
	maas_machine_print(&text);
	r = maas_serve_check_rdma(options, slab, error, &text);
	if (!r)
		r = maas_memory_check(options, error);
	if (r >= 0 && options->memory_file)
		r = maas_slab_look(slab, options->memory_file, error);
	maas_slab_close(slab);
	if (r < 0) {
		maas_buf_fini(&text);
		return fail_usage(error);
	}
	maas_options_warn_environment(environ);
	return write_out(&text);
}

int main(int argc, char **argv)
{
	char error[MAAS_OPTIONS_ERROR];
	struct maas_options options;
	struct maas_buf text = {0};
	int r;

	if (maas_options_parse(argc, argv, getenv, error, &options))
		return fail_usage(error);
	if (options.help) {
		maas_options_help(&text);
		return write_out(&text);
	}
	if (options.version) {
		maas_buf_str(&text, "maasd " MAAS_VERSION "\n");
		return write_out(&text);
	}
	if (maas_options_available(&options, error))
		return fail_usage(error);
	maas_log_set_level((enum maas_log_level)options.log_level);
	if (options.check)
		return check(&options);
	r = options.log_file ? maas_log_open(options.log_file) : 0;
	if (r) {
		fprintf(stderr, "maasd: --log-file %s: %s\n", options.log_file, strerror(-r));
		return MAAS_EXIT_FAILURE;
	}
	return maas_serve(&options);
}
