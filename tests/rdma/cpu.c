/* SPDX-License-Identifier: Apache-2.0 */
/* On two hosts: the server takes no part in transfers, by its CPU and its wake-ups. On host b. */
#include "tests/rdma/agent.h"

#define MIB	  ((size_t)1 << 20)
#define TRAFFIC_S UINT64_C(10)
#define DEPTH	  16
#define WRITE	  ((size_t)65536)

static uint64_t write_for(struct raw_link *link, const struct raw_key *key, uint64_t ms)
{
	uint64_t end_ms = maas_clock_ms() + ms;
	uint64_t posted = 0;
	uint64_t done = 0;
	struct ibv_wc wc;

	while (done < posted || maas_clock_ms() < end_ms) {
		while (posted - done < DEPTH && maas_clock_ms() < end_ms) {
			require_equal(
				raw_post(link, posted % 2 ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, 0,
					 WRITE, key->addr + posted % 16 * WRITE, key->rkey, posted),
				0, "posting");
			posted++;
		}
		require(raw_poll(link, &wc, 10000), "an operation does not end");
		require_equal(wc.status, IBV_WC_SUCCESS, "an operation's status");
		done++;
	}
	return done;
}

/* What maasd does in TRAFFIC_S of traffic, or of nothing; returns how many operations there were.
 */
static uint64_t measure(struct borrower *borrower, const struct raw_key *key, bool traffic,
			struct effort *ret_effort)
{
	struct effort before;
	uint64_t count = 0;

	agent_effort(&before);
	if (traffic)
		count = write_for(&borrower->link, key, TRAFFIC_S * 1000);
	else
		sleep_ms(TRAFFIC_S * 1000);
	agent_effort(ret_effort);
	ret_effort->cpu_ms -= before.cpu_ms;
	ret_effort->wakeups -= before.wakeups;
	return count;
}

/* True when the traffic took less than 1 % of one core. No operation may ever wake a thread. */
static bool costs_nothing(struct borrower *borrower, const struct raw_key *key)
{
	struct effort idle;
	struct effort busy;
	uint64_t count;

	measure(borrower, key, false, &idle);
	count = measure(borrower, key, true, &busy);
	require(count > 0, "no traffic");
	note("%llu MiB in %llu s: maasd's CPU %llu ms, wake-ups %llu; idle %llu ms, %llu",
	     (unsigned long long)(count * WRITE / MIB), (unsigned long long)TRAFFIC_S,
	     (unsigned long long)busy.cpu_ms, (unsigned long long)busy.wakeups,
	     (unsigned long long)idle.cpu_ms, (unsigned long long)idle.wakeups);
	/* Housekeeping wakes ten times a second, and a slow second more or less may be in it. */
	require(busy.wakeups <= idle.wakeups + 100 + count / 10, "operations wake maasd up");
	return busy.cpu_ms < idle.cpu_ms + TRAFFIC_S * 10;
}

/*
 * A virtual processor that waits for a real one is counted as busy, and so is the time of a network
 * interrupt that happens to meet maasd: beside the same server at rest, the best of several
 * measurements is nearest to the truth.
 */
void run_cpu(const char *keys)
{
	struct borrower borrower;
	struct raw_key key;
	bool ok = false;

	agent_start(keys, "");
	borrower_open(&borrower, WRITE);
	borrower_alloc(&borrower, 16 * WRITE, &key);
	agent_ask(NULL, "pin");
	write_for(&borrower.link, &key, 500);
	for (int i = 0; i < 5 && !ok; i++)
		ok = costs_nothing(&borrower, &key);
	require(ok, "that is 1 %% of one core and more");
	borrower_end(&borrower);
	agent_ask(NULL, "stop");
}
