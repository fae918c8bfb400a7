/* SPDX-License-Identifier: Apache-2.0 */
/* Whether there is RDMA, by the options and by what the host has. */
#include <errno.h>
#include <string.h>

#include "daemon/internal.h"

/* RDMA was asked for by name, so the server does not start without it. */
static bool insists(const struct maasd_options *options)
{
	return options->rdma == MAASD_RDMA_REQUIRED ||
	       maasd_options_asking_rdma(options) != MAASD_OPTIONS;
}

int maasd_serve_open_rdma(const struct maasd_options *options, struct maas_slab *slab,
			  char error[MAASD_OPTIONS_ERROR], struct maas_rdma **ret_rdma)
{
	const struct maas_rdma_options rdma = {
		.device = options->rdma_device,
		.addr = options->rdma_addr,
		.port = (uint16_t)options->rdma_port,
		.keys = (enum maas_rdma_keys)options->rdma_keys,
		.require_isolation = options->require_isolation,
		.max_sessions = options->max_sessions,
		.max_grants = options->max_grants,
		.slab = slab,
		.register_all = options->prealloc,
	};
	char reason[MAAS_RDMA_ERROR] = "";
	int r;

	*ret_rdma = NULL;
	if (options->rdma == MAASD_RDMA_OFF)
		return 0;
	r = maas_rdma_open(&rdma, reason, ret_rdma);
	if (!r)
		return 0;
	if (insists(options)) {
		snprintf(error, MAASD_OPTIONS_ERROR, "RDMA: %s%s", reason,
			 options->rdma == MAASD_RDMA_REQUIRED
				 ? "; or say --rdma auto to serve over HTTP only"
				 : "");
		return r;
	}
	if (r == -ENODEV)
		log_info("rdma: this host has no RDMA device, so all bytes travel over HTTP; "
			 "everything works, and nothing needs to be done");
	else
		log_warn("rdma: %s; serving over HTTP only", reason);
	return 0;
}

static const char *yes_no(bool yes)
{
	return yes ? "yes" : "no";
}

int maasd_serve_check_rdma(const struct maasd_options *options, struct maas_slab *slab,
			   char error[MAASD_OPTIONS_ERROR], struct maas_buf *out)
{
	struct maasd_options light = *options;
	struct maas_rdma_info info;
	struct maas_rdma *rdma;
	int r;

	light.prealloc = false;
	r = maasd_serve_open_rdma(&light, slab, error, &rdma);
	if (r)
		return r;
	if (!rdma) {
		maas_buf_printf(out, "RDMA = %s\n",
				options->rdma == MAASD_RDMA_OFF ? "off" : "none, HTTP only");
		return 0;
	}
	maas_rdma_info(rdma, &info);
	maas_buf_printf(out, "RDMA device = %s\nRDMA GID = %s\nRDMA keys = %s\n", info.device,
			info.gid, info.keys);
	maas_buf_printf(out, "RDMA bounds enforced = %s\n", yes_no(info.isolation.bounds));
	maas_buf_printf(out, "RDMA foreign keys refused = %s\n", yes_no(info.isolation.foreign));
	maas_buf_printf(out, "RDMA revocation at once = %s\n", yes_no(info.isolation.revocation));
	maas_buf_printf(out, "RDMA keys to read only read = %s\n", yes_no(info.isolation.access));
	r = maasd_auth_check_rdma(options, rdma, error);
	maas_rdma_close(rdma);
	return r;
}

static void write_isolation(struct maas_buf *out, const struct maas_rdma_isolation *isolation)
{
	maas_buf_printf(out, "{\"bounds\":%s,\"foreign\":%s,\"revocation\":%s,\"access\":%s",
			isolation->bounds ? "true" : "false", isolation->foreign ? "true" : "false",
			isolation->revocation ? "true" : "false",
			isolation->access ? "true" : "false");
}

void maasd_serve_describe_rdma(const struct maas_rdma *rdma, struct maas_buf *isolation,
			       struct maas_http_rdma *ret_rdma)
{
	struct maas_rdma_info info;

	if (!rdma) {
		*ret_rdma = (struct maas_http_rdma){.state = "off"};
		return;
	}
	maas_rdma_info(rdma, &info);
	write_isolation(isolation, &info.isolation);
	maas_buf_str(isolation, ",\"selftest\":{\"window\":");
	write_isolation(isolation, &info.selftest.window);
	maas_buf_printf(isolation,
			",\"works\":%s},\"mr\":", info.selftest.window.works ? "true" : "false");
	write_isolation(isolation, &info.selftest.mr);
	maas_buf_printf(isolation, ",\"works\":%s}}}", info.selftest.mr.works ? "true" : "false");
	maas_buf_add(isolation, "", 1);
	*ret_rdma = (struct maas_http_rdma){
		.state = "active",
		.device = info.device,
		.gid = info.gid,
		.port = info.port,
		.keys = info.keys,
		.isolation_json = isolation->error ? NULL : isolation->data,
		.isolated = info.isolated,
		.bounds = info.isolation.bounds,
		.foreign = info.isolation.foreign,
		.revocation = info.isolation.revocation,
		.access = info.isolation.access,
	};
}
