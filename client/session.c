/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease as the client counts it: from the moment a renewal was sent, so that it never believes
 * in a session longer than the server does. A renewal is sent at a third of the lease and, when
 * that failed, again and again until the lease is over.
 */
#include <errno.h>
#include <string.h>

#include "client/transport.h"

#define RETRY_MS  250
#define MAX_TTL_S 31622400u /* 366 days: no server grants more */

int maas_keeper_init(struct maas_keeper *keeper)
{
	int r = maas_cond_init(&keeper->changed);

	if (r)
		return maas_fail(r, "out of memory");
	pthread_mutex_init(&keeper->open_lock, NULL);
	pthread_mutex_init(&keeper->lock, NULL);
	return 0;
}

void maas_keeper_fini(struct maas_keeper *keeper)
{
	pthread_cond_destroy(&keeper->changed);
	pthread_mutex_destroy(&keeper->open_lock);
	pthread_mutex_destroy(&keeper->lock);
}

/* Holds the lock. */
static bool is_live(const struct maas_keeper *keeper)
{
	return keeper->state == MAAS_SESSION_LIVE && maas_clock_ms() < keeper->lapses_ms;
}

/* Holds the lock. */
static uint32_t left_ms(const struct maas_keeper *keeper)
{
	uint64_t now_ms = maas_clock_ms();
	uint64_t left = keeper->lapses_ms > now_ms ? keeper->lapses_ms - now_ms : 0;

	return left < UINT32_MAX ? (uint32_t)left : UINT32_MAX;
}

int maas_session_get(struct maas *maas, struct maas_session *ret_session)
{
	struct maas_keeper *keeper = &maas->keeper;
	int r = maas_enter(maas);

	if (r)
		return r;
	pthread_mutex_lock(&keeper->lock);
	memset(ret_session, 0, sizeof(*ret_session));
	ret_session->state = keeper->state;
	maas_copy_id(ret_session->id, keeper->id);
	if (is_live(keeper))
		ret_session->lease_ms = left_ms(keeper);
	else if (keeper->state == MAAS_SESSION_LIVE)
		ret_session->state = MAAS_SESSION_LOST;
	pthread_mutex_unlock(&keeper->lock);
	return 0;
}

/* ---- requests */

static void read_ticket(const json_t *answer, struct maas_ticket *ret_ticket)
{
	const json_t *rdma = json_object_get(answer, "rdma");
	const char *text = json_string_value(json_object_get(answer, "ticket"));
	const char *addr = json_string_value(json_object_get(rdma, "addr"));
	json_int_t port = json_integer_value(json_object_get(rdma, "port"));

	memset(ret_ticket, 0, sizeof(*ret_ticket));
	if (!text || strlen(text) != sizeof(ret_ticket->text) - 1)
		return;
	memcpy(ret_ticket->text, text, sizeof(ret_ticket->text));
	if (!addr || strlen(addr) >= sizeof(ret_ticket->addr) || port <= 0 || port > UINT16_MAX)
		return;
	memcpy(ret_ticket->addr, addr, strlen(addr));
	ret_ticket->port = (uint16_t)port;
}

/* The lease is what the server grants, whatever was asked for. */
static int read_ttl(const json_t *answer, uint64_t *ret_ttl_ms)
{
	uint64_t seconds;
	int r = maas_json_u64(answer, "ttl_seconds", &seconds);

	if (r)
		return r;
	if (!seconds || seconds > MAX_TTL_S)
		return maas_fail(-EPROTO, "the server grants a lease of %llu s; it is 1 to %u",
				 (unsigned long long)seconds, MAX_TTL_S);
	*ret_ttl_ms = seconds * 1000;
	return 0;
}

static int request_open(struct maas *maas, char id[MAAS_ID_BYTES], uint64_t *ret_ttl_ms,
			struct maas_ticket *ret_ticket)
{
	struct maas_request request;
	json_t *answer;
	int r;

	maas_request_init(&request, "POST", "/sessions");
	request.json = true;
	request.once = true;
	maas_buf_printf(&request.head, "{\"ttl_seconds\":%u", maas->options.ttl_seconds);
	if (maas->session_name)
		maas_buf_printf(&request.head, ",\"name\":\"%s\"", maas->session_name);
	if (maas->options.session_exclusive)
		maas_buf_str(&request.head, ",\"exclusive\":true");
	maas_buf_str(&request.head, "}");
	r = maas_call_json(maas, &request, &answer);
	if (!r) {
		r = maas_json_id(answer, "id", id);
		if (!r)
			r = read_ttl(answer, ret_ttl_ms);
		read_ticket(answer, ret_ticket);
		json_decref(answer);
	}
	maas_request_fini(&request);
	return r;
}

static int request_renew(struct maas *maas, const char *id, uint64_t deadline_ms,
			 uint64_t *ret_ttl_ms)
{
	struct maas_request request;
	json_t *answer;
	int r;

	maas_request_init(&request, "POST", "/sessions/%s/renew", id);
	request.json = true;
	maas_buf_str(&request.head, "{}");
	r = maas_call_json_until(maas, &request, deadline_ms, &answer);
	if (!r) {
		r = read_ttl(answer, ret_ttl_ms);
		json_decref(answer);
	}
	maas_request_fini(&request);
	return r;
}

static int request_ticket(struct maas *maas, const char *id, uint64_t deadline_ms,
			  struct maas_ticket *ret_ticket)
{
	struct maas_request request;
	json_t *answer;
	int r;

	maas_request_init(&request, "POST", "/sessions/%s/ticket", id);
	request.json = true;
	maas_buf_str(&request.head, "{}");
	r = maas_call_json_until(maas, &request, deadline_ms, &answer);
	if (!r) {
		read_ticket(answer, ret_ticket);
		json_decref(answer);
	}
	maas_request_fini(&request);
	if (!r && !*ret_ticket->text)
		r = maas_fail(-EPROTO, "the server's answer has no ticket");
	return r;
}

static void request_end(struct maas *maas, const char *id)
{
	struct maas_request request;
	int r;

	maas_request_init(&request, "DELETE", "/sessions/%s", id);
	r = maas_call(maas, &request, maas->options.connect_timeout_ms);
	if (r) /* a server that does not hear of it ends the session when its lease is over */
		maas_error_clear();
	maas_request_fini(&request);
}

/* ---- the thread */

/* Sends one renewal without the lock. Returns the error of the session, 0: it goes on. */
static int renew(struct maas *maas)
{
	struct maas_keeper *keeper = &maas->keeper;
	uint64_t sent_ms = maas_clock_ms();
	uint64_t lapses_ms = keeper->lapses_ms;
	uint64_t ttl_ms = 0;
	char id[MAAS_ID_BYTES];
	int r;

	maas_copy_id(id, keeper->id);
	pthread_mutex_unlock(&keeper->lock);
	r = request_renew(maas, id, lapses_ms, &ttl_ms);
	pthread_mutex_lock(&keeper->lock);
	if (!is_live(keeper))
		return 0; /* the caller sees why */
	if (!r) {
		keeper->ttl_ms = ttl_ms;
		keeper->lapses_ms = sent_ms + ttl_ms;
	} else if (r != -EKEYREVOKED) {
		maas_cond_wait_until(&keeper->changed, &keeper->lock, maas_clock_ms() + RETRY_MS);
	}
	return r == -EKEYREVOKED ? r : 0;
}

static void *keep(void *arg)
{
	struct maas *maas = arg;
	struct maas_keeper *keeper = &maas->keeper;
	uint64_t early_ms;
	bool lost;
	int error = 0;

	pthread_mutex_lock(&keeper->lock);
	while (!keeper->stop && !error) {
		early_ms = keeper->ttl_ms * 2 / 3;
		if (!is_live(keeper))
			error = keeper->state == MAAS_SESSION_LOST ? -EKEYREVOKED : -ETIMEDOUT;
		else if (maas_clock_ms() + early_ms < keeper->lapses_ms)
			maas_cond_wait_until(&keeper->changed, &keeper->lock,
					     keeper->lapses_ms - early_ms);
		else
			error = renew(maas);
	}
	lost = !keeper->stop;
	if (lost)
		keeper->state = MAAS_SESSION_LOST;
	pthread_mutex_unlock(&keeper->lock);
	if (lost && maas->transport->keys)
		maas->transport->session_lost(maas);
	if (lost && maas->options.session_lost)
		maas->options.session_lost(maas->options.session_lost_arg, error);
	return NULL;
}

static void stop_thread(struct maas_keeper *keeper)
{
	pthread_mutex_lock(&keeper->lock);
	keeper->stop = true;
	pthread_cond_broadcast(&keeper->changed);
	pthread_mutex_unlock(&keeper->lock);
	if (keeper->running)
		pthread_join(keeper->thread, NULL);
	keeper->running = false;
	keeper->stop = false;
}

/* ---- open and end */

/* Holds open_lock. */
static int do_open(struct maas *maas)
{
	struct maas_keeper *keeper = &maas->keeper;
	struct maas_ticket ticket;
	char id[MAAS_ID_BYTES];
	uint64_t sent_ms;
	uint64_t ttl_ms = 0;
	int r;

	if (!maas->options.ttl_seconds)
		return maas_fail(-EINVAL, "this handle has no session: it was opened without "
					  "ttl_seconds");
	stop_thread(keeper);
	if (*keeper->id && maas->transport->keys)
		maas->transport->session_lost(maas);
	/* A session that only this side gave up may still hold its name and its memory. */
	if (*keeper->id)
		request_end(maas, keeper->id);
	sent_ms = maas_clock_ms();
	r = request_open(maas, id, &ttl_ms, &ticket);
	if (r)
		return r;
	pthread_mutex_lock(&keeper->lock);
	maas_copy_id(keeper->id, id);
	keeper->ticket = ticket;
	keeper->state = MAAS_SESSION_LIVE;
	keeper->ttl_ms = ttl_ms;
	keeper->lapses_ms = sent_ms + ttl_ms;
	pthread_mutex_unlock(&keeper->lock);
	r = maas_thread_start(&keeper->thread, keep, maas);
	if (r) {
		request_end(maas, id);
		pthread_mutex_lock(&keeper->lock);
		keeper->state = MAAS_SESSION_LOST;
		pthread_mutex_unlock(&keeper->lock);
		return maas_fail(r, "no thread for the session: %s", strerror(-r));
	}
	keeper->running = true;
	if (maas->transport->keys)
		maas->transport->session_renewed(maas);
	return 0;
}

/* Holds open_lock. */
static enum maas_session_state current_state(struct maas_keeper *keeper)
{
	enum maas_session_state state;

	pthread_mutex_lock(&keeper->lock);
	state = keeper->state;
	if (state == MAAS_SESSION_LIVE && !is_live(keeper))
		state = MAAS_SESSION_LOST;
	pthread_mutex_unlock(&keeper->lock);
	return state;
}

int maas_reopen(struct maas *maas)
{
	struct maas_keeper *keeper = &maas->keeper;
	int r = maas_enter(maas);

	if (r)
		return r;
	pthread_mutex_lock(&keeper->open_lock);
	if (current_state(keeper) != MAAS_SESSION_LIVE)
		r = do_open(maas);
	pthread_mutex_unlock(&keeper->open_lock);
	if (!r && maas->transport->keys)
		r = maas->transport->connect(maas);
	return r;
}

int maas_keeper_need(struct maas *maas, char id[MAAS_ID_BYTES])
{
	struct maas_keeper *keeper = &maas->keeper;
	enum maas_session_state state;
	int r = 0;

	pthread_mutex_lock(&keeper->open_lock);
	state = current_state(keeper);
	if (state == MAAS_SESSION_LOST)
		r = maas_fail(-EKEYREVOKED, "the session is lost, and what it owned; open a new "
					    "one with maas_reopen()");
	else if (state == MAAS_SESSION_NONE)
		r = do_open(maas);
	if (!r)
		maas_copy_id(id, keeper->id);
	pthread_mutex_unlock(&keeper->open_lock);
	return r;
}

int maas_keeper_ticket(struct maas *maas, uint64_t deadline_ms, struct maas_ticket *ret_ticket)
{
	struct maas_keeper *keeper = &maas->keeper;
	char id[MAAS_ID_BYTES];
	int r;

	r = maas_keeper_need(maas, id);
	if (r)
		return r;
	pthread_mutex_lock(&keeper->lock);
	*ret_ticket = keeper->ticket;
	memset(&keeper->ticket, 0, sizeof(keeper->ticket));
	pthread_mutex_unlock(&keeper->lock);
	if (*ret_ticket->text)
		return 0;
	r = request_ticket(maas, id, deadline_ms, ret_ticket);
	if (r == -EKEYREVOKED)
		maas_keeper_unknown(maas, id);
	return r;
}

void maas_keeper_unknown(struct maas *maas, const char *id)
{
	struct maas_keeper *keeper = &maas->keeper;

	pthread_mutex_lock(&keeper->lock);
	if (strcmp(keeper->id, id) == 0) {
		keeper->state = MAAS_SESSION_LOST;
		pthread_cond_broadcast(&keeper->changed);
	}
	pthread_mutex_unlock(&keeper->lock);
}

void maas_keeper_forget(struct maas *maas)
{
	struct maas_keeper *keeper = &maas->keeper;

	maas_keeper_stop(maas);
	keeper->state = MAAS_SESSION_NONE;
	keeper->id[0] = '\0';
}

void maas_keeper_stop(struct maas *maas)
{
	stop_thread(&maas->keeper);
	if (maas->keeper.state == MAAS_SESSION_LIVE)
		request_end(maas, maas->keeper.id);
}
