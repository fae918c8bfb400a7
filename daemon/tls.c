/* SPDX-License-Identifier: Apache-2.0 */
/* The certificates that the options name, into the table that http uses. Files that are wrong keep
 * the table of before. In the main thread. */
#include <sys/prctl.h>

#include "daemon/internal.h"

static int read_tls(const struct maasd_options *options, char error[MAASD_OPTIONS_ERROR],
		    struct maas_tls **ret_tls)
{
	const struct maas_tls_files files = {
		.cert = options->tls_cert,
		.key = options->tls_key,
		.client_ca = options->tls_client_ca,
		.client_crl = options->tls_client_crl,
		.client = (enum maas_tls_client)options->tls_client_cert,
	};
	char reason[MAAS_TLS_ERROR];
	int r = maas_tls_load(&files, reason, ret_tls);

	if (r)
		snprintf(error, MAASD_OPTIONS_ERROR, "TLS: %.500s", reason);
	return r;
}

int maasd_tls_check(const struct maasd_options *options, char error[MAASD_OPTIONS_ERROR],
		    struct maas_buf *out)
{
	struct maas_tls *tls;
	int r;

	if (!options->tls_cert)
		return 0;
	r = read_tls(options, error, &tls);
	if (r)
		return r;
	maas_tls_print(tls, out);
	maas_tls_unref(tls);
	return 0;
}

static void describe(const struct maasd_tls *state, enum maas_log_level level, const char *what)
{
	struct maas_buf text = {0};

	maas_tls_describe(state->table, &text);
	maas_log(level, "%s %.*s", what, (int)text.len, text.len ? text.data : "");
	maas_buf_fini(&text);
}

static int read_certificates(void *arg, char error[MAASD_OPTIONS_ERROR])
{
	struct maasd_tls *state = arg;
	struct maas_tls *table;
	int r = read_tls(state->options, error, &table);

	if (r)
		return r;
	if (!state->table || !maas_tls_same(state->table, table)) {
		maas_tls_unref(state->table);
		state->table = maas_tls_ref(table);
		if (state->http)
			maas_http_set_tls(state->http, table);
	}
	state->expired = false;
	describe(state, MAAS_LOG_INFO, "certificates read");
	maas_tls_unref(table);
	return 0;
}

int maasd_tls_start(struct maasd_tls *state, const struct maasd_options *options,
		    char error[MAASD_OPTIONS_ERROR])
{
	state->options = options;
	if (!options->tls_cert)
		return 0;
	/* A core would hold the key. */
	(void)prctl(PR_SET_DUMPABLE, 0);
	state->reload = (struct maasd_reload){
		.what = "certificates",
		.read = read_certificates,
		.ctx = state,
		.paths = {options->tls_cert, options->tls_key, options->tls_client_ca,
			  options->tls_client_crl},
	};
	return maasd_reload_first(&state->reload, error);
}

void maasd_tls_look(struct maasd_tls *state)
{
	if (!state->table || state->expired ||
	    maas_clock_wall_s() < maas_tls_expiry_s(state->table))
		return;
	state->expired = true;
	describe(state, MAAS_LOG_ERR, "the certificate has expired, and clients refuse it");
}

void maasd_tls_stop(struct maasd_tls *state)
{
	maas_tls_unref(state->table);
}
