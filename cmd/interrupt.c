/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A signal that ends the command waits until what it borrowed is given back. The second one does
 * not wait.
 */
#include <signal.h>

#include "cmd/cmd.h"

static volatile sig_atomic_t caught;

static void catch (int number)
{
	caught = number;
}

void cmd_interrupt_defer(void)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = catch, .sa_flags = (int)SA_RESETHAND};
	struct sigaction before;

	/* Then output that nobody reads is an error of write(2), as a full disk is. */
	(void)signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(numbers); i++)
		/* nohup(1), and shells for their background, ignore some. */
		if (!sigaction(numbers[i], NULL, &before) && before.sa_handler != SIG_IGN)
			(void)sigaction(numbers[i], &action, NULL);
}

bool cmd_interrupted(void)
{
	return caught;
}

void cmd_interrupt_end(void)
{
	if (caught) {
		(void)signal(caught, SIG_DFL);
		(void)raise(caught);
	}
}
