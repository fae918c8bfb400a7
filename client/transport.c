/* SPDX-License-Identifier: Apache-2.0 */
/* Which transport a handle has: chosen once, when the handle is opened. */
#include "client/transport.h"

#include <errno.h>
#include <string.h>

/* Errors: those of every call; -EPROTO. */
static int ask_server(struct maas *maas, uint64_t deadline_ms, bool *ret_active)
{
	struct maas_request request;
	const char *state;
	json_t *answer;
	int r;

	maas_request_init(&request, "GET", "/health");
	r = maas_call_json(maas, &request, deadline_ms, &answer);
	if (!r) {
		state = json_string_value(
			json_object_get(json_object_get(answer, "rdma"), "state"));
		*ret_active = state && strcmp(state, "active") == 0;
		json_decref(answer);
	}
	maas_request_fini(&request);
	return r;
}

/* The table is set first: the session that RDMA opens calls functions of it. */
static int start(struct maas *maas, const struct maas_transport *transport, uint64_t deadline_ms)
{
	int r;

	maas->transport = transport;
	r = transport->start(maas, deadline_ms);
	if (r)
		maas->transport = NULL;
	return r;
}

static int choose_auto(struct maas *maas, uint64_t deadline_ms)
{
	bool active = false;
	int r = 0;

	if (!maas_transport_rdma.probe())
		r = ask_server(maas, deadline_ms, &active);
	if (r)
		return r;
	if (active) {
		r = start(maas, &maas_transport_rdma, deadline_ms);
		/* With these, the devices of the two hosts are in different networks. */
		if (r != -ENODEV && r != -EOPNOTSUPP)
			return r;
	}
	maas_error_clear();
	return start(maas, &maas_transport_http, deadline_ms);
}

int maas_transport_choose(struct maas *maas)
{
	const struct maas_transport *transport = &maas_transport_http;
	uint64_t deadline_ms = maas_deadline_ms(maas);

	if (maas->options.transport == MAAS_TRANSPORT_AUTO)
		return choose_auto(maas, deadline_ms);
	if (maas->options.transport == MAAS_TRANSPORT_RDMA)
		transport = &maas_transport_rdma;
	return start(maas, transport, deadline_ms);
}
