/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of principals, into the table that lend asks. A file that is wrong keeps the table of
 * before. In the main thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "daemon/internal.h"

static int read_auth(const struct maasd_options *options, char error[MAASD_OPTIONS_ERROR],
		     struct maas_auth **ret_auth)
{
	char reason[MAAS_AUTH_ERROR];
	int r = maas_auth_load(options->auth_file, reason, ret_auth);

	/* An editor or a copy that was stopped half-way, most likely. */
	if (!r && !maas_auth_at(*ret_auth, 0)->line) {
		snprintf(reason, sizeof(reason),
			 "no line has a principal, and nobody could do anything");
		maas_auth_unref(*ret_auth);
		r = -EINVAL;
	}
	if (r)
		snprintf(error, MAASD_OPTIONS_ERROR, "--auth-file %.80s: %.400s",
			 options->auth_file, reason);
	return r;
}

/* How many of its owner names the principal pays for. */
static uint32_t count_paid(const struct maas_auth *auth,
			   const struct maas_auth_principal *principal)
{
	enum maas_auth_access access;
	const char *pattern;
	uint32_t count = 0;

	for (uint32_t i = 0; (pattern = maas_auth_pattern(auth, principal, i, &access)); i++)
		count += access == MAAS_AUTH_OWN && maas_auth_payer(auth, pattern) == principal;
	return count;
}

/* What is right by the letter, and hardly what was meant. */
static void warn_of(const struct maas_auth *auth, const struct maas_auth_principal *principal)
{
	bool limited = principal->quota[MAAS_AUTH_BYTES] != MAAS_AUTH_UNLIMITED ||
		       principal->quota[MAAS_AUTH_ALLOCATIONS] != MAAS_AUTH_UNLIMITED;

	if (!principal->line)
		return;
	if (!principal->rights && !maas_auth_has_memory(principal))
		log_warn("--auth-file: line %u: %s may do nothing: give it owner=, read=, health, "
			 "metrics or admin",
			 principal->line, principal->name);
	if (limited && !principal->owns)
		log_warn("--auth-file: line %u: max-bytes and max-allocations of %s count nothing: "
			 "they are of what its owner= pays for, and it has none",
			 principal->line, principal->name);
	else if (limited && !count_paid(auth, principal))
		log_warn("--auth-file: line %u: max-bytes and max-allocations of %s count nothing: "
			 "lines above have all of its owner names, and the first one pays",
			 principal->line, principal->name);
}

/* An owner that matches two lines is paid for by the first one. */
static void print_payers(const struct maas_auth *auth, struct maas_buf *out)
{
	const struct maas_auth_principal *principal;

	for (uint32_t i = 0; (principal = maas_auth_at(auth, i)); i++) {
		const char *pattern;
		enum maas_auth_access access;

		for (uint32_t j = 0; (pattern = maas_auth_pattern(auth, principal, j, &access));
		     j++)
			if (access == MAAS_AUTH_OWN)
				maas_buf_printf(out, "owner %s = paid for by %s\n", pattern,
						maas_auth_payer(auth, pattern)->name);
	}
}

/* Whose line has nothing else would be refused, with every other sign of being right. */
static void warn_of_proofs(const struct maasd_options *options, const struct maas_auth *auth)
{
	bool has_socket = false;

	for (unsigned int i = 0; i < options->listen.num; i++)
		has_socket |= !strncmp(options->listen.text[i], "unix:", strlen("unix:"));
	if (maas_auth_has_certs(auth) &&
	    (!options->tls_client_ca || options->tls_client_cert == MAAS_TLS_CLIENT_NONE))
		log_warn("--auth-file: cert= proves nothing here, because no client is asked for a "
			 "certificate: give --tls-cert, --tls-key and --tls-client-ca");
	if (maas_auth_has_peers(auth) && !has_socket)
		log_warn("--auth-file: uid= and gid= prove nothing here, because there is no Unix "
			 "socket: give --listen unix:PATH");
}

int maasd_auth_check(const struct maasd_options *options, char error[MAASD_OPTIONS_ERROR],
		     struct maas_buf *out)
{
	const struct maas_auth_principal *principal;
	struct maas_auth *auth;
	int r;

	if (!options->auth_file)
		return 0;
	r = read_auth(options, error, &auth);
	if (r)
		return r;
	print_payers(auth, out);
	for (uint32_t i = 0; (principal = maas_auth_at(auth, i)); i++)
		warn_of(auth, principal);
	warn_of_proofs(options, auth);
	maas_auth_unref(auth);
	return 0;
}

/* An unchanged file, as SIGHUP for a new log finds it, changes nothing. */
static int put(struct maasd_auth *state, struct maas_auth *auth, char error[MAASD_OPTIONS_ERROR])
{
	uint64_t epoch;
	struct maas_auth *before = maas_lend_auth(state->lend, &epoch);
	int r = 0;

	if (!before || !maas_auth_same(before, auth)) {
		r = maas_lend_set_auth(state->lend, auth);
		if (r)
			snprintf(error, MAASD_OPTIONS_ERROR, "--auth-file: %s", strerror(-r));
	}
	if (!r)
		log_info("principals read count=%u file=%s", maas_auth_count(auth),
			 state->options->auth_file);
	if (!r && (!before || !maas_auth_same(before, auth)))
		warn_of_proofs(state->options, auth);
	maas_auth_unref(before);
	return r;
}

static int read_principals(void *arg, char error[MAASD_OPTIONS_ERROR])
{
	struct maasd_auth *state = arg;
	struct maas_auth *auth;
	int r = read_auth(state->options, error, &auth);

	if (r)
		return r;
	r = put(state, auth, error);
	maas_auth_unref(auth);
	return r;
}

/* What kept memory has from the time before there were principals, or these. */
static void tell_unreached(struct maas_lend *lend)
{
	struct maas_lend_usage usage;

	maas_lend_unreached(lend, &usage);
	if (usage.used[MAAS_AUTH_ALLOCATIONS])
		log_warn("kept memory that only admins reach allocations=%" PRIu64 " bytes=%" PRIu64
			 " owners=%" PRIu64
			 ": what has no owner, and owners that no line has (maas ls)",
			 usage.used[MAAS_AUTH_ALLOCATIONS], usage.used[MAAS_AUTH_BYTES],
			 usage.used[MAAS_AUTH_OWNERS]);
}

int maasd_auth_start(struct maasd_auth *state, const struct maasd_options *options,
		     struct maas_lend *lend, char error[MAASD_OPTIONS_ERROR])
{
	int r;

	state->options = options;
	state->lend = lend;
	if (!options->auth_file)
		return 0;
	/* A core would hold tokens. */
	(void)prctl(PR_SET_DUMPABLE, 0);
	state->reload = (struct maasd_reload){
		.what = "principals",
		.read = read_principals,
		.ctx = state,
		.paths = {options->auth_file},
	};
	r = maasd_reload_first(&state->reload, error);
	if (!r)
		tell_unreached(lend);
	return r;
}

int maasd_auth_check_rdma(const struct maasd_options *options, const struct maas_rdma *rdma,
			  char error[MAASD_OPTIONS_ERROR])
{
	struct maas_rdma_info info;

	if (!options->auth_file || !rdma || options->insecure_rdma)
		return 0;
	maas_rdma_info(rdma, &info);
	if (info.isolation.bounds && info.isolation.foreign && info.isolation.revocation &&
	    info.isolation.access)
		return 0;
	snprintf(error, MAASD_OPTIONS_ERROR,
		 "--auth-file: the RDMA device %s with --rdma-keys=%s does not keep clients apart "
		 "(bounds %d, foreign keys %d, revocation %d, keys to read %d), so that a key of "
		 "one principal would open the memory of another; say --rdma=off, or, where every "
		 "RDMA client is trusted, --insecure-rdma",
		 info.device, info.keys, info.isolation.bounds, info.isolation.foreign,
		 info.isolation.revocation, info.isolation.access);
	return -EPERM;
}
