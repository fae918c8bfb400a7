/* SPDX-License-Identifier: Apache-2.0 */
/* What carries the bytes: chosen once, when the handle is opened. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"
#include "client/rdma.h"

#define DEFAULT_TTL_S 30

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

/* Leaves the handle as it was when it fails. */
static int connect_rdma(struct maas *maas)
{
	uint32_t ttl_seconds = maas->options.ttl_seconds;
	char words[MAAS_ERROR_BYTES];
	int r;

	r = maas_verbs_look();
	if (r)
		return r;
	if (!ttl_seconds)
		maas->options.ttl_seconds = DEFAULT_TTL_S;
	r = maas_verbs_new(maas, &maas->verbs);
	if (r)
		goto err_ttl;
	r = maas_verbs_start(maas->verbs);
	if (r)
		goto err_stop;
	maas->options.transport = MAAS_TRANSPORT_RDMA;
	return 0;

err_stop:
	snprintf(words, sizeof(words), "%s", maas_error());
	maas_verbs_stop(maas->verbs);
	maas_keeper_forget(maas);
	maas_error_set("%s", words);
	maas_verbs_free(maas->verbs);
	maas->verbs = NULL;
err_ttl:
	maas->options.ttl_seconds = ttl_seconds;
	return r;
}

static int choose_auto(struct maas *maas)
{
	bool active;
	int r;

	maas->options.transport = MAAS_TRANSPORT_HTTP;
	if (maas_verbs_look()) {
		maas_error_clear();
		return 0;
	}
	r = ask_server(maas, &active);
	if (r || !active)
		return r;
	r = connect_rdma(maas);
	if (r != -ENODEV && r != -EOPNOTSUPP)
		return r;
	/* The devices of the two hosts are in different networks. */
	maas_error_clear();
	return 0;
}

int maas_transport_choose(struct maas *maas)
{
	if (maas->options.transport == MAAS_TRANSPORT_AUTO)
		return choose_auto(maas);
	if (maas->options.transport == MAAS_TRANSPORT_RDMA)
		return connect_rdma(maas);
	return 0;
}
