/* SPDX-License-Identifier: Apache-2.0 */
/* All on two hosts, in one boot of both: two_hosts MAASD [FILTER] runs on each. */
#include <stdlib.h>
#include <string.h>

#include "tests/rdma/agent.h"
#include "tests/rdma/wire.h"

static const struct scene scenes[] = {
	{"bytes", wire_bytes, "mr", 90, SCENE_GATE},
	{"bytes", wire_bytes, "window", 90, SCENE_LONG},
	{"cpu", wire_cpu, "mr", 180, SCENE_GATE},
	{"cpu", wire_cpu, "window", 180, SCENE_LONG},
	{"cable", wire_cable, "mr", 60, SCENE_GATE},
	{"cable", wire_cable, "window", 60, SCENE_LONG},
	{"lapse", wire_lapse, "mr", 60, SCENE_GATE},
	{"lapse", wire_lapse, "window", 60, SCENE_LONG},
	{"loss", wire_loss, "mr", 60, SCENE_GATE},
	{"loss", wire_loss, "window", 60, SCENE_LONG},
};

int main(int argc, char **argv)
{
	const char *host = getenv("SOFTROCE_HOST");
	int status;

	if (!host || !getenv("SOFTROCE_PEER")) {
		fprintf(stderr, "not two hosts: run it through scripts/softroce --hosts 2\n");
		return getenv("MAAS_REQUIRE_RDMA") ? 1 : 77;
	}
	if (argc < 2) {
		fprintf(stderr, "usage: two_hosts MAASD [FILTER]\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	scene_maasd = argv[1];
	if (strcmp(host, "a") == 0)
		return agent_serve();
	scene_on_failure = agent_show_log;
	status = scene_run_all(scenes, MAAS_ARRAY_SIZE(scenes), argc > 2 ? argv[2] : NULL);
	agent_end();
	return status;
}
