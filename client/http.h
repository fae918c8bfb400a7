/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP transport of a handle: each transfer is a request of its own. */
#ifndef MAAS_CLIENT_HTTP_H
#define MAAS_CLIENT_HTTP_H

#include "client/transport.h"

/* Of maas_readv() and maas_writev(). */
MAAS_MUST_CHECK int maas_http_run(struct maas *maas, const struct maas_range *ranges,
				  uint32_t count, bool read);

MAAS_MUST_CHECK int maas_data_read_request(struct maas_request *request,
					   const struct maas_range *ranges, uint32_t count);
MAAS_MUST_CHECK int maas_data_write_request(struct maas_request *request,
					    const struct maas_range *ranges, uint32_t count);

/* What a read's answer must be. Errors: -ERANGE, -EPROTO. */
MAAS_MUST_CHECK int maas_data_check(const struct maas_request *request);

#endif
