/* SPDX-License-Identifier: Apache-2.0 */
/* The scenarios on one host; each with a maasd of its own in the key mode `keys`. */
#ifndef MAAS_TESTS_SCENES_H
#define MAAS_TESTS_SCENES_H

/* basic */
void scene_start(const char *keys);
void scene_memlock(const char *keys);
void scene_smoke(const char *keys);
void scene_access(const char *keys);
void scene_reconnect(const char *keys);

/* door: who gets in */
void scene_tickets(const char *keys);
void scene_garbage(const char *keys);
void scene_halfway(const char *keys);

/* trust: what keys open */
void scene_stale(const char *keys);
void scene_foreign(const char *keys);
void scene_guessed(const char *keys);
void scene_bounds(const char *keys);

/* life: clients and servers that stop and die */
void scene_stopped(const char *keys);
void scene_killed(const char *keys);
void scene_sigterm(const char *keys);
void scene_server_killed(const char *keys);

/* plenty: how many */
void scene_grants(const char *keys);
void scene_max_grants(const char *keys);

#endif
