/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/key_maker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bare_keys.h"

static _Noreturn void exec_maker(const char *program, const char *mode, unsigned int live,
				 const int in[2], const int out[2])
{
	char number[16];

	snprintf(number, sizeof(number), "%u", live);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dup2(in[0], STDIN_FILENO) >= 0 && dup2(out[1], STDOUT_FILENO) >= 0)
		execl(program, program, mode, number, (char *)NULL);
	_exit(127);
}

int key_maker_open(struct key_maker *maker, const char *program, const char *mode,
		   unsigned int live)
{
	char line[64] = "";
	int out[2];
	int in[2];

	if (pipe2(in, O_CLOEXEC))
		return -errno;
	if (pipe2(out, O_CLOEXEC))
		return -errno;
	maker->pid = fork();
	if (maker->pid < 0)
		return -errno;
	if (maker->pid == 0)
		exec_maker(program, mode, live, in, out);
	close(in[0]);
	close(out[1]);
	maker->to = fdopen(in[1], "w");
	maker->from = fdopen(out[0], "r");
	if (!maker->to || !maker->from)
		return -ENOMEM;
	if (!fgets(line, sizeof(line), maker->from) || strcmp(line, "ready\n") != 0)
		return -EIO;
	return 0;
}

int key_maker_sample(struct key_maker *maker, bool bare, struct key_sample *ret_sample)
{
	char line[64];
	char *end;

	fputs(bare ? "bare\n" : "ours\n", maker->to);
	fflush(maker->to);
	if (!fgets(line, sizeof(line), maker->from))
		return -EIO;
	ret_sample->wall_ns = strtod(line, &end) / BARE_KEYS;
	ret_sample->cpu_ns = strtod(end, NULL) / BARE_KEYS;
	return ret_sample->wall_ns > 0 ? 0 : -EIO;
}

int key_maker_close(struct key_maker *maker)
{
	int status = 0;

	if (maker->pid <= 0)
		return 0;
	if (maker->to)
		fclose(maker->to);
	if (maker->from)
		fclose(maker->from);
	waitpid(maker->pid, &status, 0);
	maker->pid = 0;
	return status ? -EIO : 0;
}
