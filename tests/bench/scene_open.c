/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/scene_internal.h"

#define POOL		"1280MiB"
#define PATH_BYTES	512
#define DATA_OPERATIONS 8

/* Of a connection, in KiB: CONNECTION_BYTES of http/server.c, and what the library takes unasked.
 */
#define OUR_BUFFER   "64"
#define PLAIN_BUFFER "32"

static int start_maasd(struct scene *scene, enum server_name name)
{
	struct server *server = &scene->servers[name];
	char output[PATH_BYTES];
	char log[PATH_BYTES];
	const char *argv[] = {
		scene->options->maasd, "--listen", "127.0.0.1:0", "--max-pool-size", POOL,
		"--log-file",	       log,	   NULL};

	snprintf(output, sizeof(output), "%s/%s.out", scene->options->dir, server->name);
	snprintf(log, sizeof(log), "%s/%s.log", scene->options->dir, server->name);
	return server_start(server, argv, output, log);
}

static int start_redis(struct scene *scene)
{
	struct server *server = &scene->servers[REDIS];
	char output[PATH_BYTES];
	char port_text[8];
	uint16_t port;
	const char *argv[] = {scene->options->redis,
			      "--port",
			      port_text,
			      "--bind",
			      "127.0.0.1",
			      "--save",
			      "",
			      "--appendonly",
			      "no",
			      "--dir",
			      scene->options->dir,
			      NULL};
	int ret = server_free_port(&port);

	if (ret)
		return ret;
	snprintf(output, sizeof(output), "%s/redis.out", scene->options->dir);
	snprintf(port_text, sizeof(port_text), "%u", port);
	return server_start_on(server, argv, output, port);
}

static int body_size(uint16_t port, const char *what, const char *body, size_t *ret_len)
{
	char *answer;
	int ret = job_call(port, what, body, &answer);

	if (ret)
		return ret;
	*ret_len = strlen(answer);
	free(answer);
	return 0;
}

/* What the bare programs answer with: as many bytes as the maasd with few allocations. */
static int measure_bodies(struct scene *scene)
{
	static const char *const paths[SCENE_ROUTES] = {"/health", "/stats", "/metrics",
							"/allocate"};

	for (unsigned int i = 0; i < SCENE_ROUTES; i++) {
		bool post = strcmp(paths[i], "/allocate") == 0;
		char what[64];
		size_t len;
		int ret;

		snprintf(what, sizeof(what), "%s %s", post ? "POST" : "GET", paths[i]);
		ret = body_size(scene->servers[FEW].port, what,
				post ? "{\"size_bytes\":1024}" : NULL, &len);
		if (ret)
			return ret;
		snprintf(scene->routes[i], sizeof(scene->routes[i]), "%s=%zu", paths[i], len);
	}
	return 0;
}

static int start_bare(struct scene *scene, enum server_name name, const char *buffer_kib)
{
	struct server *server = &scene->servers[name];
	char threads[16];
	char output[PATH_BYTES];
	const char *argv[] = {
		scene->options->bare, threads,		buffer_kib,	  scene->routes[0],
		scene->routes[1],     scene->routes[2], scene->routes[3], NULL};

	snprintf(threads, sizeof(threads), "%ld", scene->cpus);
	snprintf(output, sizeof(output), "%s/%s.out", scene->options->dir, server->name);
	return server_start(server, argv, output, NULL);
}

static int allocate(uint16_t port, const char *body, struct id_list *ids)
{
	char *answer;
	int ret = job_call(port, "POST /allocate", body, &answer);

	if (ret)
		return ret;
	ret = id_list_add(ids, answer, strlen(answer));
	free(answer);
	return ret;
}

/*
 * The two slabs for data among them; measure_bodies() makes the tenth. What stays from then on is
 * not freed before the end.
 */
static int fill_few(struct scene *scene)
{
	struct server *server = &scene->servers[FEW];
	struct id_list ids = {0};
	char body[64];
	int ret = 0;

	for (unsigned int i = 0; i + 1 < SCENE_FEW && ret == 0; i++) {
		bool data = i < JOB_DATA_CONNECTIONS;

		snprintf(body, sizeof(body), "{\"size_bytes\":%zu}",
			 data ? JOB_DATA_BYTES : (size_t)1024);
		ret = allocate(server->port, body, &ids);
		if (ret == 0 && data)
			memcpy(scene->data[FEW].ids[i], ids.ids[i], JOB_ID_BYTES);
	}
	free(ids.ids);
	return ret;
}

static int fill_full(struct scene *scene)
{
	struct id_list ids = {0};
	char body[64];
	int ret = 0;

	snprintf(body, sizeof(body), "{\"size_bytes\":1024,\"count\":%u}", SCENE_BATCH_SLABS);
	while (ids.num < SCENE_FULL && ret == 0)
		ret = allocate(scene->servers[FULL].port, body, &ids);
	free(ids.ids);
	return ret;
}

static int make_data(struct scene *scene)
{
	struct scene_sample unused;
	int ret;

	for (unsigned int c = 0; c < JOB_DATA_CONNECTIONS; c++) {
		scene->data[FEW].bytes[c] = malloc(JOB_DATA_BYTES);
		scene->data[REDIS].bytes[c] = malloc(JOB_DATA_BYTES);
		if (!scene->data[FEW].bytes[c] || !scene->data[REDIS].bytes[c])
			return -ENOMEM;
	}
	ret = scene_measure(scene, SCENE_DATA_PUT, DATA_OPERATIONS, &unused);
	if (ret == 0)
		ret = scene_measure(scene, SCENE_REDIS_SET, DATA_OPERATIONS, &unused);
	return ret;
}

int scene_open(const struct bench_options *options, struct scene **ret_scene)
{
	static const char *const names[SERVERS] = {"few", "full", "bare", "plain", "redis"};
	struct scene *scene = calloc(1, sizeof(*scene));
	int ret = 0;

	if (!scene)
		return -ENOMEM;
	*ret_scene = scene;
	scene->options = options;
	scene->cpus = sysconf(_SC_NPROCESSORS_ONLN);
	for (unsigned int i = 0; i < SERVERS; i++)
		scene->servers[i].name = names[i];
	if (ret == 0)
		ret = start_maasd(scene, FEW);
	if (ret == 0)
		ret = start_maasd(scene, FULL);
	if (ret == 0)
		ret = start_redis(scene);
	if (ret == 0)
		ret = fill_few(scene);
	if (ret == 0)
		ret = measure_bodies(scene);
	if (ret == 0)
		ret = start_bare(scene, BARE, OUR_BUFFER);
	if (ret == 0)
		ret = start_bare(scene, PLAIN, PLAIN_BUFFER);
	if (ret == 0)
		ret = fill_full(scene);
	return ret ? ret : make_data(scene);
}

int scene_close(struct scene *scene)
{
	int ret = 0;

	if (!scene)
		return 0;
	for (unsigned int i = 0; i < SERVERS; i++) {
		if (server_stop(&scene->servers[i]) != 0)
			ret = -EIO;
		for (unsigned int c = 0; c < JOB_DATA_CONNECTIONS; c++)
			free(scene->data[i].bytes[c]);
	}
	free(scene->ids.ids);
	free(scene);
	return ret;
}
