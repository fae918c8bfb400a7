/* SPDX-License-Identifier: Apache-2.0 */
/* The certificates that the options name, into a table. In the main thread. */
#include "daemon/internal.h"

int maasd_tls_read(const struct maasd_options *options, char error[MAASD_OPTIONS_ERROR],
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
	r = maasd_tls_read(options, error, &tls);
	if (r)
		return r;
	maas_tls_print(tls, out);
	maas_tls_unref(tls);
	return 0;
}
