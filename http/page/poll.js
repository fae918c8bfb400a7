// Asks the server, one question at a time, while the page is seen; keeps the token, in this variable alone.

const EVERY_MS = 2000;
const LONGEST_MS = 30000;
const PATIENCE_MS = 6000;
const RESTART_SHOWN_MS = 600000;
const live = {
	token: '', timer: 0, asking: null, failures: 0, polls: 0, view: null, seenMs: 0, waitMs: 0, dueMs: 0,
	restart: null, stopped: false,
};

async function ask(path, signal) {
	const response = await fetch(path, {
		cache: 'no-store', redirect: 'error', signal,
		headers: live.token ? {Authorization: `Bearer ${live.token}`} : {},
	});
	const text = await response.text();
	let value;

	try {
		value = JSON.parse(text);
	} catch {
		value = {error: {code: '', message: text.slice(0, 200)}};
	}
	return {status: response.status, value, retryS: Number(response.headers.get('Retry-After')) || 0};
}

function clock(ms) {
	return new Date(ms).toLocaleTimeString('en-GB');
}

// ---- what an answer leads to

// A restart is another process; clocks may step.
function noteRestart(before, view) {
	if (live.restart && Date.now() - live.restart.ms > RESTART_SHOWN_MS)
		live.restart = null;
	if (!before || before.boot_id === view.boot_id)
		return;
	const gone = before.arena.id !== view.arena.id;

	live.restart = {ms: Date.now(), seenMs: live.seenMs, lost: gone && before.pool.lent > 0, kept: !gone};
	forget();
}

function answered(view) {
	noteRestart(live.view, view);
	const troubles = troublesOf(view, live.restart);

	showFigures(view);
	showState(levelOf(troubles), headlineOf(troubles), summaryOf(view), troubles);
	live.view = view;
	live.seenMs = Date.now();
	live.failures = 0;
	at('figures').dataset.polls = ++live.polls;
}

// The caller may not see what is on the page, or no longer: it goes, and nothing is asked until a token comes.
function refused(error, status) {
	const had = live.token !== '';

	live.token = '';
	live.view = null;
	live.stopped = true;
	forget();
	show('figures', false);
	showState('note', status === 401 ? 'This server wants a token.' : 'More rights are needed.', '', []);
	openToken(had ? status === 401 ? 'The server does not take this token.' :
		`The server refuses: ${error.message}` : '');
}

function ageWords() {
	return live.view ? `The figures below are from ${clock(live.seenMs)}.` : 'There are no figures yet.';
}

function failed(headline, detail) {
	live.failures++;
	showState('bad', headline, ageWords(), [{level: 'bad', headline: detail, detail: 'This page goes on trying.'}]);
}

function take(overview, stats) {
	const answer = [overview, stats].find((one) => one && one.status !== 200 && one.status !== 403) ?? overview;
	const error = answer.value?.error ?? {code: '', message: ''};
	const words = error.message || `Status ${answer.status}`;
	const figures = stats?.status === 200 ? stats.value : null;

	if (overview.status === 200 && answer === overview) {
		if (!overview.value?.boot_id || figures && !figures.pool_stats)
			throw new TypeError('no answer of a maasd');
		answered(viewOf(overview.value, figures));
	} else if (answer.status === 401 || error.code === 'forbidden') {
		refused(error, answer.status);
	} else if (answer.status === 429) {
		live.waitMs = 1000 * answer.retryS;
		failed('The server asks to wait.', `${words}; the next request in ${answer.retryS} s`);
	} else {
		failed('The server refuses to answer.', words);
	}
}

// ---- when to ask

function arm() {
	clearTimeout(live.timer);
	if (!live.asking && !live.stopped && !document.hidden)
		live.timer = setTimeout(poll, Math.max(0, live.dueMs - Date.now()));
}

function schedule() {
	live.dueMs = Date.now() + Math.max(live.waitMs, Math.min(LONGEST_MS, EVERY_MS * 2 ** live.failures));
	live.waitMs = 0;
	arm();
}

// What the server says to both questions, or why it says nothing.
async function askBoth(signal) {
	try {
		const overview = await ask('overview', signal);
		const stats = overview.status === 200 && overview.value?.sees !== 'own' ? await ask('stats', signal) : null;

		return {overview, stats};
	} catch (error) {
		return {silence: error.name === 'AbortError' ? `No answer within ${PATIENCE_MS / 1000} s` :
			'It ended, its host or the network is down, its certificate is not taken, or a proxy wants a login'};
	}
}

async function poll() {
	const asking = new AbortController();
	const timeout = setTimeout(() => asking.abort(), PATIENCE_MS);

	live.asking = asking;
	const {overview, stats, silence} = await askBoth(asking.signal);

	clearTimeout(timeout);
	if (live.asking !== asking)
		return; // another question was begun meanwhile
	live.asking = null;
	try {
		if (silence)
			failed('The server does not answer.', silence);
		else
			take(overview, stats);
	} catch (error) { // a proxy answered in the server's place, or a server of another version
		console.error(error);
		failed('This is not the answer of a maasd.', 'Load this page again: a proxy wants a login, or the server has ' +
			'another version now');
	} finally {
		schedule();
	}
}

// Forgets the question that is under way, and asks anew.
function pollNow() {
	const before = live.asking;

	live.asking = null;
	live.stopped = false;
	live.failures = live.dueMs = 0;
	before?.abort();
	arm();
}

function showAge() {
	const seconds = (Date.now() - live.seenMs) / 1000;
	const old = live.view && seconds > 5;

	at('freshness').classList.toggle('old-age', Boolean(old));
	put(at('freshness'), !live.view ? '' : old ? `figures are ${duration(seconds)} old` : `as of ${clock(live.seenMs)}`);
}

// ---- the token

function showTokenButton() {
	show('token-open', true);
	put(at('token-open'), live.token ? 'Token in use' : 'Use a token');
	show('token-forget', live.token);
}

function openToken(error) {
	showTokenButton();
	show('token', true);
	show('token-clear', location.protocol === 'http:' && !/^(localhost|127\..*|\[::1\])$/.test(location.hostname));
	at('token-open').setAttribute('aria-expanded', 'true');
	put(at('token-error'), error);
	const focus = document.activeElement;

	if (focus === document.body || focus === at('token-open') || at('token').contains(focus))
		at('token-text').focus();
}

function closeToken() {
	show('token', false);
	at('token-text').value = '';
	at('token-open').setAttribute('aria-expanded', 'false');
}

function useToken(event) {
	const text = at('token-text').value.trim();

	event.preventDefault();
	if (!/^[\x21-\x7e]+$/.test(text)) {
		openToken('A token is letters, digits and signs, without a space.');
		return;
	}
	live.token = text;
	forget();
	closeToken();
	showTokenButton();
	at('token-open').focus();
	pollNow();
}

function forgetToken() {
	live.token = '';
	live.view = null;
	forget();
	show('figures', false);
	closeToken();
	showTokenButton();
	at('token-open').focus();
	pollNow();
}

// ---- the map under the pointer

function repaint() {
	if (live.view?.extents)
		showMap(live.view);
}

function pointAt(event) {
	const box = at('map').getBoundingClientRect();
	const index = cellAt(event.clientX - box.left, event.clientY - box.top);

	map.hovered = index >= 0;
	if (index >= 0)
		at('map-at').value = index;
	repaint();
}

function start() {
	show('state', true);
	showTokenButton();
	at('token').addEventListener('submit', useToken);
	at('token-forget').addEventListener('click', forgetToken);
	at('token-open').addEventListener('click', () => {
		if (at('token').hidden) {
			openToken('');
		} else {
			closeToken();
		}
	});
	at('map-at').addEventListener('input', repaint);
	at('map-at').addEventListener('focus', repaint);
	at('map-at').addEventListener('blur', repaint);
	at('map').addEventListener('pointermove', pointAt);
	at('map').addEventListener('pointerdown', pointAt);
	at('map').addEventListener('pointerleave', () => {
		map.hovered = false;
		repaint();
	});
	new ResizeObserver(() => map.width !== at('map-whole').clientWidth && repaint()).observe(at('map-whole'));
	matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => live.view && showFigures(live.view));
	document.addEventListener('visibilitychange', arm);
	setInterval(showAge, 1000);
	arm();
}

start();
