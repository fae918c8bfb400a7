/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All on one host, in one boot: one_host MAASD [FILTER]. In the gate the mode that `auto` chooses
 * on rxe in full, which is "mr", and the others by smoke.
 */
#include "tests/rdma/one_host.h"
#include "tests/rdma/scenario.h"

static const struct scenario scenarios[] = {
	{"start", basic_start, NULL, 60, SCENARIO_GATE},
	{"memlock", basic_memlock, "mr", 30, SCENARIO_GATE},
	{"memlock", basic_memlock, "window", 30, SCENARIO_GATE},
	{"smoke", basic_smoke, "mr", 30, SCENARIO_GATE},
	{"smoke", basic_smoke, "window", 30, SCENARIO_GATE},
	{"smoke", basic_smoke, "pool", 30, SCENARIO_GATE},
	{"access", basic_access, "mr", 30, SCENARIO_GATE},
	{"access", basic_access, "window", 30, SCENARIO_LONG},
	{"reconnect", basic_reconnect, "mr", 30, SCENARIO_GATE},
	{"reconnect", basic_reconnect, "window", 30, SCENARIO_LONG},
	{"reconnect", basic_reconnect, "pool", 30, SCENARIO_LONG},
	{"tickets", door_tickets, "mr", 30, SCENARIO_GATE},
	{"garbage", door_garbage, "mr", 30, SCENARIO_GATE},
	{"halfway", door_halfway, "mr", 60, SCENARIO_GATE},
	{"stale", trust_stale, "mr", 90, SCENARIO_GATE},
	{"stale", trust_stale, "window", 90, SCENARIO_LONG},
	{"foreign", trust_foreign, "mr", 30, SCENARIO_GATE},
	{"foreign", trust_foreign, "window", 30, SCENARIO_LONG},
	{"guessed", trust_guessed, "mr", 30, SCENARIO_GATE},
	{"guessed", trust_guessed, "window", 30, SCENARIO_LONG},
	{"bounds", trust_bounds, "mr", 30, SCENARIO_GATE},
	{"stopped", life_stopped, "mr", 150, SCENARIO_GATE},
	{"stopped", life_stopped, "window", 150, SCENARIO_LONG},
	{"killed", life_killed, "mr", 60, SCENARIO_GATE},
	{"killed", life_killed, "window", 60, SCENARIO_LONG},
	{"killed", life_killed, "pool", 60, SCENARIO_LONG},
	{"grants", plenty_grants, "mr", 60, SCENARIO_GATE},
	{"grants", plenty_grants, "window", 60, SCENARIO_LONG},
	{"sigterm", life_sigterm, "mr", 30, SCENARIO_GATE},
	{"sigterm", life_sigterm, "window", 30, SCENARIO_GATE},
	{"server_killed", life_server_killed, "mr", 60, SCENARIO_GATE},
	{"server_killed", life_server_killed, "window", 60, SCENARIO_GATE},
};

int main(int argc, char **argv)
{
	return scenario_main(argc, argv, "SOFTROCE_ADDR", scenarios, MAAS_ARRAY_SIZE(scenarios));
}
