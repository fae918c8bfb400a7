/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All on one host, in one boot: one_host MAASD [FILTER]. In the gate the mode that `auto` chooses
 * on rxe in full, which is "mr", and the others by smoke.
 */
#include "tests/rdma/one_host.h"
#include "tests/rdma/scenario.h"

static const struct scenario scenarios[] = {
	{"start", basic_start, 60, "each", ""},
	{"memlock", basic_memlock, 30, "mr window", ""},
	{"smoke", basic_smoke, 30, "mr window pool", ""},
	{"access", basic_access, 30, "mr", "window"},
	{"reconnect", basic_reconnect, 30, "mr", "window pool"},
	{"tickets", door_tickets, 30, "mr", ""},
	{"garbage", door_garbage, 30, "mr", ""},
	{"halfway", door_halfway, 60, "mr", ""},
	{"stale", trust_stale, 90, "mr", "window"},
	{"foreign", trust_foreign, 30, "mr", "window"},
	{"guessed", trust_guessed, 30, "mr", "window"},
	{"bounds", trust_bounds, 30, "mr", ""},
	{"stopped", life_stopped, 150, "mr", "window"},
	{"killed", life_killed, 60, "mr", "window pool"},
	{"grants", plenty_grants, 60, "mr", "window"},
	{"sigterm", life_sigterm, 30, "mr window", ""},
	{"server_killed", life_server_killed, 60, "mr window", ""},
};

int main(int argc, char **argv)
{
	return scenario_main(argc, argv, "SOFTROCE_ADDR", scenarios, MAAS_ARRAY_SIZE(scenarios));
}
