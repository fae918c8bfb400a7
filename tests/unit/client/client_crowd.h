/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that submit and threads that poll, all on one handle; over HTTP and over RDMA. */
#ifndef MAAS_TESTS_UNIT_CLIENT_CROWD_H
#define MAAS_TESTS_UNIT_CLIENT_CROWD_H

#include "client/maas.h"
#include "tests/unit/unit.h"

#define CROWD_PAIRS 4
#define CROWD_OPS   200

struct crowd {
	struct maas *maas;
	struct maas_range range; /* what each operation writes, one behind the other */
	_Atomic uint32_t next;
	_Atomic int left; /* completions that did not come yet */
	_Atomic int good;
};

static inline void *crowd_submit(void *arg)
{
	struct crowd *crowd = arg;

	for (int i = 0; i < CROWD_OPS; i++) {
		struct maas_range range = crowd->range;

		range.offset += range.len * crowd->next++;
		while (maas_submit_write(crowd->maas, &range, 1, 0, NULL))
			nap_ms(1);
	}
	return NULL;
}

/* Takes few at once, so that others find some, too. maas_poll() does not wait where nothing is
 * under way. */
static inline void *crowd_poll(void *arg)
{
	struct crowd *crowd = arg;
	struct maas_completion completions[2];

	while (crowd->left > 0) {
		int n = maas_poll(crowd->maas, completions, 2, -1);

		for (int i = 0; i < n; i++)
			crowd->good += !completions[i].status;
		crowd->left -= n;
		if (!n)
			nap();
	}
	return NULL;
}

/* Every thread writes CROWD_OPS times, the range and what follows it, and all completions come. */
static inline void crowd_run(struct maas *maas, const struct maas_range *range)
{
	struct crowd crowd = {.maas = maas, .range = *range, .left = CROWD_PAIRS * CROWD_OPS};
	pthread_t submitters[CROWD_PAIRS];
	pthread_t pollers[CROWD_PAIRS];

	threads_start(submitters, CROWD_PAIRS, crowd_submit, &crowd, 0);
	threads_start(pollers, CROWD_PAIRS, crowd_poll, &crowd, 0);
	threads_join(submitters, CROWD_PAIRS);
	threads_join(pollers, CROWD_PAIRS);
	assert_int_equal(crowd.good, CROWD_PAIRS * CROWD_OPS);
}

#endif
