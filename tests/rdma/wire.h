/* SPDX-License-Identifier: Apache-2.0 */
/* The scenarios on two hosts; each with a maasd of its own on host a. */
#ifndef MAAS_TESTS_WIRE_SCENES_H
#define MAAS_TESTS_WIRE_SCENES_H

void wire_bytes(const char *keys);
void wire_cpu(const char *keys);
void wire_cable(const char *keys);
void wire_lapse(const char *keys);
void wire_loss(const char *keys);

#endif
