/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target on every file of the given directories, where there is no libFuzzer. */
#include <dirent.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

static int run_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = NULL;
	struct stat st;

	if (!file || fstat(fileno(file), &st) || !(data = malloc((size_t)st.st_size + 1)))
		err(1, "%s", path);
	if (fread(data, 1, (size_t)st.st_size, file) != (size_t)st.st_size)
		errx(1, "%s cannot be read", path);
	fclose(file);
	LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
	free(data);
	return 1;
}

static int run_directory(const char *name)
{
	DIR *dir = opendir(name);
	const struct dirent *entry;
	int count = 0;

	if (!dir)
		err(1, "%s", name);
	while ((entry = readdir(dir))) {
		char path[4096];

		snprintf(path, sizeof(path), "%s/%s", name, entry->d_name);
		count += entry->d_name[0] == '.' ? 0 : run_file(path);
	}
	closedir(dir);
	return count;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		int count = run_directory(argv[i]);

		printf("%s: %d files\n", argv[i], count);
		if (!count)
			return 1;
	}
	return argc < 2;
}
