/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The token of a handle: what is sent with each request to say whose the handle is. It is the first
 * line of a file, which is read when the handle is opened, with each renewal of its session, and
 * when the server refuses the token, so that a file with another token is all that a rotation
 * takes. Any thread; `lock` guards what changes. No text of an error has the token in it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

#define BLANKS	 " \t\r"
#define MAX_FILE 4096 /* bytes; only the first line counts */

/* Takes the first line of `text`, without the blanks around it. */
static int take_token(const struct maas_buf *text, const char *path, char token[MAAS_TOKEN_BYTES])
{
	const char *line = text->data;
	const char *end = memchr(line, '\n', text->len);
	size_t len = end ? (size_t)(end - line) : text->len;

	for (; len && strchr(BLANKS, *line); len--)
		line++;
	while (len && strchr(BLANKS, line[len - 1]))
		len--;
	for (size_t i = 0; i < len; i++)
		if (line[i] <= ' ' || line[i] > '~')
			len = 0;
	if (!len || len >= MAAS_TOKEN_BYTES)
		return maas_fail(-EINVAL,
				 "token file %s: its first line is no token: 1 to %d visible "
				 "characters of ASCII",
				 path, MAAS_TOKEN_BYTES - 1);
	snprintf(token, MAAS_TOKEN_BYTES, "%.*s", (int)len, line);
	return 0;
}

static int read_file(const char *path, char token[MAAS_TOKEN_BYTES])
{
	char error[MAAS_FILE_ERROR];
	struct maas_buf text;
	int r = maas_file_read(path, MAX_FILE, true, error, &text);

	if (r)
		return maas_fail(r, "token file %s", error);
	r = take_token(&text, path, token);
	explicit_bzero(text.data, text.cap);
	maas_buf_fini(&text);
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

static void take(struct maas_token *token, const char *text)
{
	snprintf(token->text, sizeof(token->text), "%s", text);
	token->reading++;
}

/*
 * A session ends with the token that it was last used with: so the new one is used before the old
 * one goes. The old one stays at hand, for a server that does not know the new one yet.
 */
void maas_token_look(struct maas_token *token)
{
	char text[MAAS_TOKEN_BYTES];

	if (!token->file)
		return;
	pthread_mutex_lock(&token->lock);
	if (!read_file(token->file, text) && strcmp(text, token->text) != 0) {
		memcpy(token->before, token->text, sizeof(token->before));
		take(token, text);
	}
	pthread_mutex_unlock(&token->lock);
	explicit_bzero(text, sizeof(text));
}

/* With the same token the server would say the same, and count one more failure. */
bool maas_token_is_other(struct maas_token *token, unsigned int reading)
{
	char text[MAAS_TOKEN_BYTES];
	bool other;

	if (!token->file)
		return false;
	pthread_mutex_lock(&token->lock);
	if (token->reading == reading) {
		if (!read_file(token->file, text) && strcmp(text, token->text) != 0) {
			take(token, text);
		} else if (*token->before) {
			take(token, token->before);
			*token->before = '\0';
		}
	}
	other = token->reading != reading;
	pthread_mutex_unlock(&token->lock);
	explicit_bzero(text, sizeof(text));
	return other;
}
