/* SPDX-License-Identifier: Apache-2.0 */
/* Which transport a handle has: chosen once, when the handle is opened. */
#include "client/transport.h"

#include <errno.h>
#include <string.h>

/* Errors: those of every call; -EPROTO. */
static int ask_server(struct maas *maas, bool *ret_active)
{
	struct maas_request request;
	const char *state;
	json_t *answer;
	int r;

	maas_request_init(&request, "GET", "/health");
	r = maas_call_json(maas, &request, &answer);
	if (!r) {
		state = json_string_value(
			json_object_get(json_object_get(answer, "rdma"), "state"));
		*ret_active = state && strcmp(state, "active") == 0;
		json_decref(answer);
	}
	maas_request_fini(&request);
	return r;
}

static int start_rdma(struct maas *maas)
{
	int r;

	/* The session that it opens looks at the table. */
	maas->transport = &maas_transport_rdma;
	r = maas_transport_rdma.start(maas);
	if (r)
		maas->transport = &maas_transport_http;
	return r;
}

static int choose_auto(struct maas *maas)
{
	bool active;
	int r;

	if (maas_transport_rdma.probe()) {
		maas_error_clear();
		return 0;
	}
	r = ask_server(maas, &active);
	if (r || !active)
		return r;
	r = start_rdma(maas);
	if (r != -ENODEV && r != -EOPNOTSUPP)
		return r;
	/* The devices of the two hosts are in different networks. */
	maas_error_clear();
	return 0;
}

int maas_transport_choose(struct maas *maas)
{
	maas->transport = &maas_transport_http;
	if (maas->options.transport == MAAS_TRANSPORT_AUTO)
		return choose_auto(maas);
	if (maas->options.transport == MAAS_TRANSPORT_RDMA)
		return start_rdma(maas);
	return 0;
}
