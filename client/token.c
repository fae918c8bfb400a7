/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The token of a handle: what is sent with each request to say whose the handle is. It is the first
 * line of a file, which is read when the handle is opened, and again when the server refuses the
 * token, so that a file with another token is all that a rotation takes. Any thread; `lock` guards
 * what changes. No text of an error has the token in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/internal.h"

#define BLANKS " \t\r"

/* A token that others can read proves nothing. */
static int check_file(int fd, const char *path)
{
	struct stat st;

	if (fstat(fd, &st))
		return maas_fail(-errno, "token file %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return maas_fail(-EINVAL, "token file %s: not a regular file", path);
	if (st.st_mode & S_IRWXO)
		return maas_fail(-EPERM,
				 "token file %s: others may use it (mode %03o): chmod 0600 it, or "
				 "0640 for a group; in Kubernetes, defaultMode: 0440",
				 path, (unsigned int)(st.st_mode & 0777));
	return 0;
}

/* Takes the first line of `text`, without the blanks around it. */
static int take_token(char *text, const char *path, char token[MAAS_TOKEN_BYTES])
{
	size_t len;

	text[strcspn(text, "\n")] = '\0';
	text += strspn(text, BLANKS);
	for (len = strlen(text); len && strchr(BLANKS, text[len - 1]);)
		len--;
	for (size_t i = 0; i < len; i++)
		if (text[i] <= ' ' || text[i] > '~')
			len = 0;
	if (!len || len >= MAAS_TOKEN_BYTES)
		return maas_fail(-EINVAL,
				 "token file %s: its first line is no token: 1 to %d visible "
				 "characters of ASCII",
				 path, MAAS_TOKEN_BYTES - 1);
	snprintf(token, MAAS_TOKEN_BYTES, "%.*s", (int)len, text);
	return 0;
}

static int read_file(const char *path, char token[MAAS_TOKEN_BYTES])
{
	char text[2 * MAAS_TOKEN_BYTES] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	ssize_t len;
	int r;

	if (fd < 0)
		return maas_fail(-errno, "token file %s: %s", path, strerror(errno));
	r = check_file(fd, path);
	if (!r) {
		len = read(fd, text, sizeof(text) - 1);
		r = len < 0 ? maas_fail(-errno, "token file %s: %s", path, strerror(errno))
			    : take_token(text, path, token);
	}
	explicit_bzero(text, sizeof(text));
	close(fd);
	return r;
}

int maas_token_init(struct maas_token *token, const char *file)
{
	int r;

	if (!file)
		return 0;
	r = read_file(file, token->text);
	if (r)
		return r;
	token->file = strdup(file);
	if (!token->file)
		return maas_fail(-ENOMEM, "out of memory");
	pthread_mutex_init(&token->lock, NULL);
	return 0;
}

void maas_token_fini(struct maas_token *token)
{
	if (token->file)
		pthread_mutex_destroy(&token->lock);
	free(token->file);
	explicit_bzero(token, sizeof(*token));
}

bool maas_token_header(struct maas_token *token, char header[MAAS_TOKEN_HEADER],
		       unsigned int *ret_reading)
{
	if (!token->file)
		return false;
	pthread_mutex_lock(&token->lock);
	snprintf(header, MAAS_TOKEN_HEADER, "Authorization: Bearer %s", token->text);
	*ret_reading = token->reading;
	pthread_mutex_unlock(&token->lock);
	return true;
}

/* With the same token the server would say the same, and count one more failure. */
bool maas_token_is_other(struct maas_token *token, unsigned int reading)
{
	char text[MAAS_TOKEN_BYTES];
	bool other;

	if (!token->file)
		return false;
	pthread_mutex_lock(&token->lock);
	if (token->reading == reading && !read_file(token->file, text) &&
	    strcmp(text, token->text) != 0) {
		memcpy(token->text, text, sizeof(text));
		token->reading++;
	}
	other = token->reading != reading;
	pthread_mutex_unlock(&token->lock);
	explicit_bzero(text, sizeof(text));
	return other;
}
