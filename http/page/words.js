// What the page says: figures as people read them, codes in words, and what is wrong.

const NBSP = '\u00a0';
const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
const WORD_OF_REFUSAL = {
	pool_exhausted: 'no room in the pool', quota_exhausted: 'the quota is used up',
	grants_exhausted: 'no RDMA key is left (--max-grants)', device_limit: 'the card has no RDMA key left',
	out_of_memory: 'the host has no memory left', too_many: 'too many: a limit, or proofs that failed',
	too_many_connections: 'too many connections', too_large: 'larger than the largest class',
	body_too_large: 'the body is too large', unauthenticated: 'no proof, or a wrong one',
	forbidden: 'the principal may not do this', foreign_host: 'the Host header names another server',
	foreign_origin: 'sent by a page of another site', busy: 'large requests hold all memory they may',
	rdma_off: 'there is no RDMA here', rdma_failed: 'the RDMA device is gone', stopping: 'the server was ending',
	draining: 'the server was ending', registering: 'the pool was being registered',
	revoke_unconfirmed: 'a key was not confirmed dead', name_taken: 'the name of the session is taken',
	not_connected: 'the session has no RDMA connection', tls_required: 'plain HTTP to a port of TLS',
	bad_json: 'the body is no JSON', bad_field: 'a field has a value that it may not have',
	missing_field: 'a field is missing', unknown_field: 'a field is not known',
	method_not_allowed: 'the path does not take this method', internal: 'a fault of the server',
};
const WORD_OF_QUOTA = {request_ids: 'request ids', grants: 'RDMA keys', owners: 'owner names'};
const WORD_OF_KEYS = {
	window: 'a memory window for each key', mr: 'a memory region for each key',
	pool: 'one key for the whole pool, which every session can use',
};
// A refusal for one of these means that somebody lacks memory now.
const REMEDY = {
	pool_exhausted: 'Free memory (maas ls, maas free), or raise --max-pool-size.',
	quota_exhausted: 'Its owner frees memory, or its line in --auth-file allows more.',
	grants_exhausted: 'Free allocations or end grants, or raise --max-grants.',
	device_limit: 'Fewer, larger allocations need fewer keys; maas doctor looks at memlock.',
	out_of_memory: 'Give the host, or the control group of maasd, more memory.',
};
const RECENT_S = 600;
const DAY_S = 86400;
const MANY_LOGINS = 30;

function number(value) {
	return value.toLocaleString('en');
}

function many(value, one, several) {
	return `${number(value)} ${value === 1 ? one : several ?? `${one}s`}`;
}

// Three digits that count: 312 MiB, 1.5 GiB. Not 1024 KiB: that is how 1023.5 is rounded.
function bytes(value) {
	let unit = 0;
	let rest = value;

	while (rest >= 1023.5 && unit < UNITS.length - 1) {
		rest /= 1024;
		unit++;
	}
	return `${unit ? Number(rest.toPrecision(rest >= 1000 ? 4 : 3)) : rest}${NBSP}${UNITS[unit]}`;
}

function percent(part, whole) {
	const value = whole ? 100 * part / whole : 0;

	if (part && value < 0.1)
		return `<${NBSP}0.1${NBSP}%`;
	return part < whole && value > 99.9 ? `>${NBSP}99.9${NBSP}%` : `${Number(value.toFixed(1))}${NBSP}%`;
}

function duration(seconds) {
	if (seconds < 120)
		return `${Math.max(0, Math.round(seconds))}${NBSP}s`;
	if (seconds < 7200)
		return `${Math.round(seconds / 60)}${NBSP}min`;
	return seconds < 172800 ? `${Math.round(seconds / 3600)}${NBSP}h` : `${Math.round(seconds / 86400)}${NBSP}days`;
}

function moment(seconds) {
	const options = {timeZone: 'UTC', dateStyle: 'medium', timeStyle: 'short'};

	return `${new Date(1000 * seconds).toLocaleString('en-GB', options)} UTC`.replaceAll(' ', NBSP);
}

function brief(seconds) {
	if (seconds < 0.001)
		return `${Number((seconds * 1e6).toPrecision(3))}${NBSP}µs`;
	return seconds < 1 ? `${Number((seconds * 1e3).toPrecision(3))}${NBSP}ms` : `${Number(seconds.toPrecision(3))}${NBSP}s`;
}

function rate(value) {
	return value >= 100 ? number(Math.round(value)) : String(Number(value.toFixed(value >= 10 ? 0 : 1)));
}

// A name that a client chose: signs that are not seen, or that turn the line around, as codes.
function visible(name) {
	return name.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (sign) => `\\u{${sign.codePointAt(0).toString(16)}}`);
}

function refusalWords(item) {
	if (item.quota)
		return `the quota of ${WORD_OF_QUOTA[item.quota] ?? item.quota} is used up`;
	return WORD_OF_REFUSAL[item.code] ?? item.code.replaceAll('_', ' ');
}

// ---- what is wrong: {level, headline, detail}. The headline has no figure that changes all the time.

function poolTroubles({pool, classes}) {
	const out = [];
	const held = classes?.reduce((sum, one) => sum + one.quarantined * one.slab_size, 0) ?? 0;
	const part = percent(pool.lent, pool.max);

	if (pool.lent >= 0.9 * pool.max)
		out.push({
			level: 'warn', headline: 'The pool is nearly full',
			detail: `${part} of ${bytes(pool.max)} is lent. Free memory (maas ls, maas free), or raise --max-pool-size.`,
		});
	if (pool.room !== null && pool.room < pool.max - pool.backed && pool.room < pool.max / 10)
		out.push({
			level: 'warn', headline: 'The file system of --memory-file is nearly full',
			detail: `It has ${bytes(pool.room)} left, and the pool may grow by ${bytes(pool.max - pool.backed)}. ` +
				'Callers get 507 when it is full: make room there (df).',
		});
	if (held)
		out.push({
			level: 'warn', headline: 'Memory is in quarantine',
			detail: `${bytes(held)} is not lent again, since the card did not confirm that its keys are dead. ` +
				'If that lasts, end the client that held it; the log names it.',
		});
	return out;
}

function rdmaTroubles({rdma}) {
	const open = rdma.properties.filter((one) => !one.proved);

	if (rdma.state === 'failed')
		return [{
			level: 'bad', headline: 'RDMA has failed',
			detail: 'The device is gone, and HTTP goes on. Look at rdma link and dmesg, then restart maasd.',
		}];
	if (rdma.state === 'active' && rdma.figures?.registered_bytes < rdma.figures?.wanted_bytes)
		return [{
			level: 'warn', headline: 'The pool is being registered with the card',
			detail: `${bytes(rdma.figures.registered_bytes)} of ${bytes(rdma.figures.wanted_bytes)} is done. Wait.`,
		}];
	if (rdma.state !== 'active' || rdma.isolated)
		return [];
	return [{
		level: 'warn', headline: 'RDMA keys do not keep clients apart',
		detail: `${open.map((one) => one.text).join(' ')} Use another --rdma-keys or --rdma-device, or let in only ` +
			'clients that are trusted.',
	}];
}

function serverTroubles({readiness, certificate_expires: expires, timestamp, requests}) {
	const out = [];
	const left = expires - timestamp;

	if (readiness === 'draining')
		out.push({
			level: 'warn', headline: 'The server is about to end',
			detail: 'It was told to stop: it still answers, /ready sends new work elsewhere, and memory that does not ' +
				'outlive it will be lost.',
		});
	if (expires !== null && left < 7 * DAY_S)
		out.push({
			level: left < DAY_S ? 'bad' : 'warn',
			headline: left > 0 ? 'The certificate expires soon' : 'The certificate has expired',
			detail: `${left > 0 ? `In ${duration(left)}, on` : 'Clients refuse it since'} ${moment(expires)}. Put a new ` +
				'one in the place of --tls-cert and --tls-key: the server takes it without a restart.',
		});
	if (requests && requests.connections > 0.8 * requests.max_connections)
		out.push({
			level: 'warn', headline: 'Connections are running out',
			detail: `${number(requests.connections)} are open, and each address of --listen takes ` +
				`${number(requests.max_connections)}. Find who opens them (ss -tn), or raise --max-connections.`,
		});
	return out;
}

// An item may stand for many refusals, of which only the newest one's time is known.
function refusalTroubles({refusals, timestamp}) {
	const recent = refusals.items.filter((item) => timestamp - item.timestamp <= RECENT_S);
	const logins = recent.filter((item) => ['unauthenticated', 'forbidden'].includes(item.code))
		.reduce((sum, item) => sum + item.count, 0);
	const counts = new Map();
	const out = [];

	for (const item of recent.filter(({code}) => REMEDY[code])) {
		const words = refusalWords(item);
		const known = counts.get(words) ?? {count: 0, remedy: REMEDY[item.code], ago: timestamp - item.timestamp};

		known.count += item.count;
		counts.set(words, known);
	}
	for (const [words, {count, remedy, ago}] of counts)
		out.push({
			level: 'bad', headline: `Memory is refused: ${words}`,
			detail: `${many(count, 'request')}, the last one ${duration(ago)} ago. ${remedy}`,
		});
	if (logins > MANY_LOGINS)
		out.push({
			level: 'warn', headline: 'Many requests have no right',
			detail: `${number(logins)} proved nothing or may not do what they tried; see Recent refusals. A client with an ` +
				'old token, or somebody who guesses.',
		});
	return out;
}

// What a restart did to memory, and what the caller does not see.
function notes(view, restart) {
	const out = [];

	if (restart)
		out.push({
			level: restart.lost ? 'bad' : 'note',
			headline: restart.lost ? 'The server was restarted, and lent memory was lost' : 'The server was restarted',
			detail: `It runs for ${duration(view.uptime)}. ${restart.lost ?
				'All allocations from before are gone; with --memory-file they would have stayed.' :
				restart.kept ? 'Lent memory was kept.' : `At ${clock(restart.seenMs)}, nothing was lent.`}`,
		});
	if (view.sees === 'own')
		out.push({
			level: 'note', headline: `You see what ${view.principal} may see`,
			detail: 'Figures of the whole server need the right "metrics" or "admin" (docs/access.md).',
		});
	if (view.sees === 'figures')
		out.push({
			level: 'note', headline: 'You see the figures of the whole server',
			detail: `Of owners, sessions and leases you see what ${view.principal} may see (docs/access.md).`,
		});
	return out;
}

function troublesOf(view, restart) {
	return [...serverTroubles(view), ...rdmaTroubles(view), ...refusalTroubles(view), ...poolTroubles(view), ...notes(view, restart)]
		.sort((a, b) => ['bad', 'warn', 'note'].indexOf(a.level) - ['bad', 'warn', 'note'].indexOf(b.level));
}

function levelOf(troubles) {
	const found = troubles.find((one) => one.level !== 'note');

	return found ? found.level : 'ok';
}

// What a screen reader says when it changes.
function headlineOf(troubles) {
	const real = troubles.filter((one) => one.level !== 'note');

	if (!real.length)
		return 'Healthy.';
	return `${real[0].headline}${real.length > 1 ? `, and ${real.length - 1} more` : ''}.`;
}

function rdmaWords({rdma}) {
	if (rdma.state !== 'active')
		return `RDMA: ${rdma.state}.`;
	return `RDMA: on ${visible(rdma.device)}, ${rdma.isolated ? 'isolated' : 'not isolated'}.`;
}

function summaryOf(view) {
	const owners = view.numOwners ? ` to ${many(view.numOwners, 'owner')}` : '';

	return `${bytes(view.pool.lent)} of ${bytes(view.pool.max)} lent${owners}. ${rdmaWords(view)}`;
}
