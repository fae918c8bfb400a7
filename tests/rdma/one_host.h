/* SPDX-License-Identifier: Apache-2.0 */
/* The scenarios on one host; each with a maasd of its own in the key mode `keys`. */
#ifndef MAAS_TESTS_ONE_HOST_H
#define MAAS_TESTS_ONE_HOST_H

/* basic */
void basic_start(const char *keys);
void basic_memlock(const char *keys);
void basic_smoke(const char *keys);
void basic_access(const char *keys);
void basic_reconnect(const char *keys);

/* door: who gets in */
void door_tickets(const char *keys);
void door_garbage(const char *keys);
void door_halfway(const char *keys);

/* trust: what keys open */
void trust_stale(const char *keys);
void trust_foreign(const char *keys);
void trust_guessed(const char *keys);
void trust_bounds(const char *keys);

/* life: clients and servers that stop and die */
void life_stopped(const char *keys);
void life_killed(const char *keys);
void life_sigterm(const char *keys);
void life_server_killed(const char *keys);

/* plenty: many at once */
void plenty_grants(const char *keys);

#endif
