/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All on one host, in one boot: one_host MAASD [FILTER]. In the gate the mode that `auto` chooses
 * on rxe in full, which is "mr", and the others by smoke.
 */
#include <stdlib.h>

#include "tests/rdma/scene.h"
#include "tests/rdma/scenes.h"

static const struct scene scenes[] = {
	{"start", scene_start, NULL, 60, SCENE_GATE},
	{"memlock", scene_memlock, "mr", 30, SCENE_GATE},
	{"memlock", scene_memlock, "window", 30, SCENE_GATE},
	{"smoke", scene_smoke, "mr", 30, SCENE_GATE},
	{"smoke", scene_smoke, "window", 30, SCENE_GATE},
	{"smoke", scene_smoke, "pool", 30, SCENE_GATE},
	{"access", scene_access, "mr", 30, SCENE_GATE},
	{"access", scene_access, "window", 30, SCENE_LONG},
	{"reconnect", scene_reconnect, "mr", 30, SCENE_GATE},
	{"reconnect", scene_reconnect, "window", 30, SCENE_LONG},
	{"reconnect", scene_reconnect, "pool", 30, SCENE_LONG},
	{"tickets", scene_tickets, "mr", 30, SCENE_GATE},
	{"garbage", scene_garbage, "mr", 30, SCENE_GATE},
	{"halfway", scene_halfway, "mr", 60, SCENE_GATE},
	{"stale", scene_stale, "mr", 90, SCENE_GATE},
	{"stale", scene_stale, "window", 90, SCENE_LONG},
	{"foreign", scene_foreign, "mr", 30, SCENE_GATE},
	{"foreign", scene_foreign, "window", 30, SCENE_LONG},
	{"guessed", scene_guessed, "mr", 30, SCENE_GATE},
	{"guessed", scene_guessed, "window", 30, SCENE_LONG},
	{"bounds", scene_bounds, "mr", 30, SCENE_GATE},
	{"stopped", scene_stopped, "mr", 150, SCENE_GATE},
	{"stopped", scene_stopped, "window", 150, SCENE_LONG},
	{"killed", scene_killed, "mr", 60, SCENE_GATE},
	{"killed", scene_killed, "window", 60, SCENE_LONG},
	{"killed", scene_killed, "pool", 60, SCENE_LONG},
	{"grants", scene_grants, "mr", 60, SCENE_GATE},
	{"grants", scene_grants, "window", 60, SCENE_LONG},
	{"max_grants", scene_max_grants, "mr", 30, SCENE_GATE},
	{"max_grants", scene_max_grants, "window", 30, SCENE_LONG},
	{"sigterm", scene_sigterm, "mr", 30, SCENE_GATE},
	{"sigterm", scene_sigterm, "window", 30, SCENE_GATE},
	{"server_killed", scene_server_killed, "mr", 60, SCENE_GATE},
	{"server_killed", scene_server_killed, "window", 60, SCENE_GATE},
};

int main(int argc, char **argv)
{
	if (!getenv("SOFTROCE_ADDR")) {
		fprintf(stderr, "no RDMA device: run it through scripts/softroce\n");
		return getenv("MAAS_REQUIRE_RDMA") ? 1 : 77;
	}
	if (argc < 2) {
		fprintf(stderr, "usage: one_host MAASD [FILTER]\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	scene_maasd = argv[1];
	return scene_run_all(scenes, MAAS_ARRAY_SIZE(scenes), argc > 2 ? argv[2] : NULL);
}
