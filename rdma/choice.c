/* SPDX-License-Identifier: Apache-2.0 */
/* What the device was found to enforce, which keys are made for it, and what it has no room for. */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "rdma/internal.h"

#define GRADE_TEXT 96
#define GAPS_TEXT  160

static const char *const key_names[] = {
	[MAAS_RDMA_KEYS_AUTO] = "auto",
	[MAAS_RDMA_KEYS_WINDOW] = "window",
	[MAAS_RDMA_KEYS_MR] = "mr",
	[MAAS_RDMA_KEYS_POOL] = "pool",
};

static bool isolates(const struct maas_rdma_isolation *isolation)
{
	return isolation->works && isolation->bounds && isolation->foreign &&
	       isolation->revocation && isolation->access;
}

static struct maas_rdma_isolation isolation_of(const struct maas_rdma *rdma)
{
	struct maas_rdma_isolation none = {.works = true};

	if (rdma->keys == MAAS_RDMA_KEYS_WINDOW)
		return rdma->selftest.window;
	return rdma->keys == MAAS_RDMA_KEYS_MR ? rdma->selftest.mr : none;
}

static const char *yes_no(bool yes)
{
	return yes ? "yes" : "NO";
}

static char *describe(const struct maas_rdma_isolation *found, char text[GRADE_TEXT])
{
	snprintf(text, GRADE_TEXT, "works=%s bounds=%s foreign=%s revocation=%s access=%s",
		 yes_no(found->works), yes_no(found->bounds), yes_no(found->foreign),
		 yes_no(found->revocation), yes_no(found->access));
	return text;
}

/* Names what the keys of a mode were not seen to refuse. */
static char *list_gaps(const struct maas_rdma_isolation *found, char text[GAPS_TEXT])
{
	const struct {
		bool refused;
		const char *what;
	} trials[] = {
		{found->bounds, "bytes beside the slab (bounds)"},
		{found->foreign, "another session's key (foreign)"},
		{found->revocation, "a key that was revoked (revocation)"},
		{found->access, "writing with a key to read (access)"},
	};
	size_t len = 0;

	text[0] = '\0';
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(trials); i++)
		if (!trials[i].refused)
			len += (size_t)snprintf(text + len, GAPS_TEXT - len, "%s%s",
						len ? ", " : "", trials[i].what);
	return text;
}

/* Whether the program chose the mode or its user did, the user has to know what clients may do. */
static void warn_of_gaps(const struct maas_rdma *rdma, const struct maas_rdma_isolation *found)
{
	char gaps[GAPS_TEXT];

	if (rdma->keys == MAAS_RDMA_KEYS_POOL)
		log_warn("rdma: --rdma-keys pool: every client can read and write all that is "
			 "lent; for networks where all are trusted");
	else if (!isolates(found))
		log_warn("rdma: %s keys of %s do not keep clients apart: not refused: %s; %s",
			 key_names[rdma->keys], maas_rdma_device_name(rdma->device),
			 list_gaps(found, gaps),
			 isolates(&rdma->selftest.mr)
				 ? "--rdma-keys mr refuses all of it"
				 : "lend only to clients that trust each other, or take another "
				   "--rdma-device, or --rdma off; --require-isolation does not "
				   "start like this");
}

static int choose_keys(struct maas_rdma *rdma, char *error)
{
	const struct maas_rdma_options *options = &rdma->options;
	const char *device = maas_rdma_device_name(rdma->device);
	struct maas_rdma_isolation found;
	char gaps[GAPS_TEXT];

	rdma->keys = options->keys;
	if (rdma->keys == MAAS_RDMA_KEYS_AUTO)
		rdma->keys = isolates(&rdma->selftest.window) ? MAAS_RDMA_KEYS_WINDOW
							      : MAAS_RDMA_KEYS_MR;
	found = isolation_of(rdma);
	if (!found.works && options->keys == MAAS_RDMA_KEYS_AUTO) {
		snprintf(error, MAAS_RDMA_ERROR,
			 "%s cannot make mr keys, and its windows do not refuse: %s; take another "
			 "--rdma-device%s",
			 device, list_gaps(&rdma->selftest.window, gaps),
			 options->require_isolation
				 ? ""
				 : ", or, if all clients trust each other, --rdma-keys window");
		return -EOPNOTSUPP;
	}
	if (!found.works) {
		snprintf(error, MAAS_RDMA_ERROR,
			 "%s cannot make %s keys; leave --rdma-keys at auto, or take another "
			 "--rdma-device",
			 device, key_names[rdma->keys]);
		return -EOPNOTSUPP;
	}
	if (options->require_isolation && !isolates(&found)) {
		snprintf(error, MAAS_RDMA_ERROR,
			 "--require-isolation: %s keys of %s do not refuse: %s%s",
			 key_names[rdma->keys], device, list_gaps(&found, gaps),
			 isolates(&rdma->selftest.mr) ? "; --rdma-keys mr refuses all of it" : "");
		return -EPERM;
	}
	warn_of_gaps(rdma, &found);
	return 0;
}

int maas_rdma_choose(struct maas_rdma *rdma, char *error)
{
	struct rlimit limit = {0};
	char window[GRADE_TEXT];
	char mr[GRADE_TEXT];
	int r = maas_rdma_selftest(rdma->device, &rdma->selftest);

	if (!r) {
		log_info("rdma: self-test device=%s window: %s, mr: %s",
			 maas_rdma_device_name(rdma->device),
			 describe(&rdma->selftest.window, window),
			 describe(&rdma->selftest.mr, mr));
		return choose_keys(rdma, error);
	}
	getrlimit(RLIMIT_MEMLOCK, &limit);
	snprintf(error, MAAS_RDMA_ERROR,
		 "%s fails its self-test: %s; the limit of locked memory is %llu bytes (ulimit -l "
		 "unlimited, or LimitMEMLOCK=infinity in the systemd unit)",
		 maas_rdma_device_name(rdma->device), strerror(-r),
		 (unsigned long long)limit.rlim_cur);
	return r;
}

void maas_rdma_info(const struct maas_rdma *rdma, struct maas_rdma_info *ret_info)
{
	struct maas_rdma_isolation isolation = isolation_of(rdma);

	*ret_info = (struct maas_rdma_info){
		.device = maas_rdma_device_name(rdma->device),
		.gid = maas_rdma_device_gid(rdma->device),
		.port = rdma->port,
		.keys = key_names[rdma->keys],
		.isolation = isolation,
		.isolated = isolates(&isolation),
		.selftest = rdma->selftest,
	};
}

/* A client that asks again and again meets the same limit each time. */
static struct maas_ratelimit no_room = MAAS_RATELIMIT(MAAS_LOG_ERR, "rdma: the device made none");

int maas_rdma_explain(const char *what, uint64_t bytes, int error)
{
	struct rlimit limit = {0};
	char size[MAAS_SIZE_TEXT];
	char amount[32] = "";

	if (bytes)
		snprintf(amount, sizeof(amount), ", %llu bytes", (unsigned long long)bytes);
	if (error != -ENOMEM)
		log_limited(&no_room, "rdma: cannot %s: %s", what, strerror(-error));
	else if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY)
		log_limited(&no_room,
			    "rdma: cannot %s%s: the device or the kernel has no room for it", what,
			    amount);
	else
		log_limited(&no_room,
			    "rdma: cannot %s%s: the limit of locked memory is %s; raise it with "
			    "`ulimit -l unlimited`, or LimitMEMLOCK=infinity in the systemd unit",
			    what, amount, maas_size_human(limit.rlim_cur, size));
	/* What is asked for is always right: so the device, which may say EINVAL (rxe), is full. */
	return error == -EIO || error == -ENODEV ? error : -EMLINK;
}
