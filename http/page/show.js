// The sections of the page, each from one view: what /overview and, where the caller may have it, /stats said.

// /stats says what is now, /overview may be some seconds old: so what both have comes from /stats.
function viewOf(overview, stats) {
	const {memory} = overview;

	return {
		...overview, uptime: overview.uptime_seconds, numOwners: stats?.owners ?? 0,
		pool: {
			max: memory.max_pool_size, extent: memory.extent_size, room: stats?.room_bytes ?? null,
			backed: stats?.backed_bytes ?? memory.backed_bytes,
			lent: stats?.total_allocated_bytes ?? memory.allocated_bytes,
			asked: stats?.total_in_use_bytes ?? memory.in_use_bytes,
		},
		classes: stats?.pool_stats.map((one) => ({
			slab_size: one.slab_size, total: one.total_slabs, free: one.free_slabs, used: one.used_slabs,
			quarantined: one.quarantined_slabs, held: one.waiting_slabs + one.quarantined_slabs,
			lent: one.allocated_bytes, asked: one.requested_bytes,
		})) ?? null,
	};
}

function showPool({pool, classes, extents}) {
	const all = classes?.reduce((sum, one) => sum + one.held * one.slab_size, 0) ?? 0;
	const held = Math.min(pool.backed - pool.lent, all);

	fillBar([
		{text: 'Asked for', value: pool.asked, colour: '--asked'},
		{text: 'Lost to rounding', value: pool.lent - pool.asked, colour: '--rounding'},
		{text: 'Held back until zeroed, or in quarantine', value: Math.max(0, held), colour: '--held'},
		{text: 'Free, with memory', value: Math.max(0, pool.backed - pool.lent - held), colour: '--backed'},
		{text: 'Not taken from the host yet', value: Math.max(0, pool.max - pool.backed)},
	], pool.max);
	show('map-whole', extents);
}

// ---- the map of the extents

function extentWords(view, index) {
	const {total, per_entry: each, entries} = view.extents;
	const [size, slabs, taken, takenBytes] = entries[index] ?? [0, 0, 0, 0];
	const last = Math.min(total, (index + 1) * each);
	const which = each === 1 ? `${index + 1} of ${total}` : `${index * each + 1} to ${last} of ${total}`;

	if (!slabs)
		return `${which}: free for any class`;
	return `${which}: ${size ? `class ${bytes(size)}` : 'several classes'}, ${number(taken)} of ${many(slabs, 'slab')} ` +
		`taken, ${bytes(takenBytes)} of ${bytes((last - index * each) * view.pool.extent)}`;
}

function mapWords(view) {
	const {total, per_entry: each, entries} = view.extents;
	const carved = entries.filter(([, slabs]) => slabs).length;

	return `Map of the pool: ${many(total, 'extent')} of ${bytes(view.pool.extent)}; ` +
		`${each === 1 ? '' : `each cell is ${each} of them; `}${many(carved, 'cell')} cut into slabs, ` +
		`${many(Math.ceil(total / each) - carved, 'cell')} free`;
}

function showMap(view) {
	const picker = at('map-at');
	const classes = view.classes ?? [];
	const each = view.extents.per_entry * view.pool.extent;
	const cells = Math.ceil(view.extents.total / view.extents.per_entry);
	const colours = new Map(classes.map((one) => [one.slab_size, classColour(classes, one.slab_size)]));
	const mixed = classColour(classes, 0);

	picker.max = cells - 1;
	put(at('map-text'), extentWords(view, picker.valueAsNumber));
	picker.setAttribute('aria-valuetext', at('map-text').textContent);
	at('map').setAttribute('aria-label', mapWords(view));
	drawMap(cells, view.extents.entries.map(([size, slabs, , taken]) => ({
		colour: slabs ? colours.get(size) ?? mixed : null, part: Math.min(1, taken / each),
	})), document.activeElement === picker || map.hovered ? picker.valueAsNumber : -1);
}

// ---- tables

function figure(text, value, wide) {
	return {text, value, number: true, wide};
}

function classCells(name, one, colour) {
	return [
		{text: name, colour},
		figure(`${number(one.used)} of ${number(one.total)}`, one.used),
		figure(number(one.free), one.free, true),
		figure(number(one.held), one.held, true),
		figure(bytes(one.lent), one.lent),
		figure(bytes(one.asked), one.asked),
		figure(percent(one.lent - one.asked, one.lent), one.lent - one.asked),
	];
}

function showClasses({classes}) {
	const sum = {used: 0, total: 0, free: 0, held: 0, lent: 0, asked: 0};

	show('classes', classes);
	if (!classes)
		return;
	for (const one of classes)
		Object.keys(sum).forEach((key) => { sum[key] += one[key]; });
	fillRows('classes-rows', classes.map((one) =>
		classCells(bytes(one.slab_size), one, classColour(classes, one.slab_size))));
	fillRows('classes-sum', [classCells('All', sum)]);
}

// A caption for a list of which only the first are here. A total of null is one that the caller may not see.
function showNote(id, {total, items}, whole, none, all, first) {
	let words = all;

	if (!items.length && !total)
		words = none;
	else if (total === null)
		words = `${first}.`;
	else if (total > items.length)
		words = `${first}, ${items.length} of ${number(total)}.`;
	put(at(`${id}-note`), whole ? words : `Of what you may see: ${words[0].toLowerCase()}${words.slice(1)}`);
}

function showOwners({owners, memory: {allocated_bytes: lent}, sees}) {
	const rest = lent - owners.items.reduce((sum, one) => sum + one.bytes, 0);

	const nameless = sees === 'all' && rest > 0 ? ` ${bytes(rest)} is lent without an owner's name.` : '';

	showNote('owners', owners, sees === 'all', `Nothing is lent to an owner.${nameless}`,
		`${many(owners.total, 'owner')}, by bytes of slabs.${nameless}`, 'Those that hold most');
	fillRows('owners-rows', owners.items.map((one) => [
		{text: visible(one.owner), name: true},
		figure(number(one.allocations), one.allocations),
		figure(bytes(one.bytes), one.bytes),
		{text: `${percent(one.bytes, lent)} of what is lent`, part: lent ? one.bytes / lent : 0},
	]));
}

function showSessions({sessions, sees}) {
	showNote('sessions', sessions, sees === 'all', 'No session is open.', `${many(sessions.total, 'session')}.`,
		'Those that end first');
	fillRows('sessions-rows', sessions.items.map((one) => [
		{text: one.name ? visible(one.name) : '(no name)', name: true},
		{text: visible(one.from), name: true, wide: true},
		figure(number(one.allocations), one.allocations),
		{text: one.connected ? 'connected' : 'no'},
		figure(duration(one.ends_in_seconds), one.ends_in_seconds),
	]));
}

function showLeases({leases, sees}) {
	const {items, whole} = leases;

	// The total is of all leases; the items are of those alone that end soon.
	showNote('leases', {items, total: items.length ? leases.total : 0}, sees === 'all',
		whole ? `No lease ends within ${duration(leases.within_seconds)}.` : 'Of the leases that were looked at, none.',
		`${many(leases.total ?? 0, 'allocation')} with a lease.`,
		whole ? 'Those that end first' : 'Some of those that end first');
	fillRows('leases-rows', items.map((one) => [
		{text: one.owner ? visible(one.owner) : '(no owner)', name: true},
		{text: one.id},
		figure(bytes(one.bytes), one.bytes),
		figure(duration(one.ends_in_seconds), one.ends_in_seconds),
	]));
}

function showRdma({rdma}) {
	const works = rdma.state === 'active';
	const words = {
		off: 'Off: there is no RDMA device, or --rdma off. Bytes travel over HTTP.',
		failed: 'Failed: the device is gone. Bytes travel over HTTP.',
		active: `On ${visible(rdma.device ?? '')}, with ${WORD_OF_KEYS[rdma.keys] ?? rdma.keys}. ` +
			'The card was tested at the start:',
	};

	putWords(at('rdma-state'), words[rdma.state] ?? rdma.state);
	fillChildren(at('rdma-properties'), 'li', works ? rdma.properties : [], (item, one) => {
		item.className = one.proved ? 'yes' : 'no';
		put(item, one.text);
	});
	put(at('rdma-work'), works && rdma.figures ? rdmaWork(rdma.figures) : '');
}

function rdmaWork({connections, grants, registered_bytes: registered, bind, revoke, errors, rejects}) {
	const mean = (one, what) => one.count ? [`${what} takes ${brief(one.sum_seconds / one.count)} on average.`] : [];

	return [
		`${many(connections, 'connection')}, ${many(grants, 'key')}, ${bytes(registered)} registered.`,
		...mean(bind, 'To make a key'), ...mean(revoke, 'To end one'),
		...[...errors, ...rejects].map((one) => `${visible(one.name).replaceAll('_', ' ')}: ${number(one.count)}.`),
	].join(' ');
}

function showRefusals({refusals, timestamp, sees}) {
	showNote('refusals', refusals, sees !== 'own', 'No request was refused since the start.', 'Newest first.', 'Newest first');
	if (refusals.total)
		put(at('refusals-note'), `Newest first; ${many(refusals.total, 'request')} since the start.`);
	fillRows('refusals-rows', refusals.items.map((one) => [
		{text: `${duration(timestamp - one.timestamp)}${NBSP}ago`},
		{text: `${refusalWords(one)} (${one.status}${one.count > 1 ? `, ${number(one.count)} times` : ''})`},
		{text: visible(one.operation)},
		{text: visible([one.principal, one.from].filter(Boolean).join(', ')), name: true},
	]));
}

// ---- rates and latencies, by difference of what was counted

const KEPT = 150; // polls: five minutes
const SPAN = 5; // polls that a rate is the mean of
const FEWEST = 3; // polls that make a rate: times are whole seconds, and two of them are a rough measure
const GAP_S = 10; // behind which rates begin anew: the page was hidden, or the server away
const history = {counts: [], points: []};

function forget() {
	history.counts = [];
	history.points = [];
}

function countsOf({requests, uptime}) {
	const all = {count: 0, sum: 0};
	const by = new Map(requests.operations.map((one) => [one.operation, one]));

	for (const one of requests.operations) {
		all.count += one.count;
		all.sum += one.sum_seconds;
	}
	return {at: uptime, all, by};
}

// The upper bound of the bucket in which the part of the requests is reached.
function quantile(bounds, buckets, part) {
	const wanted = part * buckets.reduce((sum, count) => sum + count, 0);
	let seen = 0;
	const index = buckets.findIndex((count) => (seen += count) >= wanted && seen > 0);

	if (index < 0)
		return '';
	return index < bounds.length ? brief(bounds[index]) : `over ${brief(bounds.at(-1))}`;
}

function requestCells(one, before, seconds, bounds) {
	const count = one.count - (before?.count ?? 0);
	const buckets = one.buckets.map((n, i) => n - (before?.buckets[i] ?? 0));

	return [
		{text: one.operation},
		figure(seconds ? rate(count / seconds) : ''),
		figure(seconds && count ? quantile(bounds, buckets, 0.5) : '', undefined, true),
		figure(seconds && count ? quantile(bounds, buckets, 0.99) : ''),
		figure(number(one.count), one.count, true),
		figure(number(one.errors), one.errors),
	];
}

// The points hold the value under this name.
function showSpark(name, what, words) {
	const {points} = history;
	const values = points.map((point) => point[name]);

	put(at(`${name}-text`), !points.length ? `${what}: measured while this page is open` :
		`${what}: ${words(values.at(-1))} now, ${words(Math.max(...values))} at most in ` +
		duration(points.at(-1).to - points[0].from));
	fillSpark(name, values, KEPT);
}

// An answer may be some seconds old and two answers the same: such a poll adds nothing.
function addCounts(view) {
	const now = countsOf(view);
	const before = history.counts.at(-1);

	if (before && before.at >= now.at)
		return;
	if (before && now.at - before.at > GAP_S)
		forget();
	history.counts = [...history.counts, now].slice(-SPAN - 1);
	if (history.counts.length < FEWEST)
		return;
	const first = history.counts[0];
	const count = now.all.count - first.all.count;

	history.points = [...history.points, {
		from: first.at, to: now.at, rate: count / (now.at - first.at),
		latency: count ? (now.all.sum - first.all.sum) / count : 0,
	}].slice(-KEPT);
}

function showRequests(view) {
	show('requests', view.requests);
	if (!view.requests)
		return;
	addCounts(view);
	const first = history.counts[0];
	const now = history.counts.at(-1);
	const seconds = history.counts.length < FEWEST ? 0 : now.at - first.at;

	showSpark('rate', 'Per second', rate);
	showSpark('latency', 'Mean time', brief);
	put(at('requests-note'), `${many(view.requests.connections, 'open connection')}; each address takes ` +
		`${number(view.requests.max_connections)}. ` +
		`${many(view.requests.active, 'request')} under way; this page's own are among them.`);
	fillRows('requests-rows', [...now.by.values()].map((one) =>
		requestCells(one, first.by.get(one.operation), seconds, view.requests.bucket_seconds)));
}

// ---- all of it

function showAbout(view) {
	put(at('about'), [
		`version ${view.version}`, `up ${duration(view.uptime)}`,
		view.arena.kept ? 'memory outlives a restart' : 'memory ends with the process',
		view.certificate_expires === null ? '' : `certificate until ${moment(view.certificate_expires)}`,
		view.principal === null ? '' : `seen by ${visible(view.principal)}`,
	].filter(Boolean).join(' · '));
}

function showFigures(view) {
	showAbout(view);
	showPool(view);
	showClasses(view);
	showOwners(view);
	showSessions(view);
	showLeases(view);
	showRdma(view);
	showRequests(view);
	showRefusals(view);
	show('figures', true); // before the map, which needs a width
	if (view.extents)
		showMap(view);
}

function showState(level, headline, summary, troubles) {
	at('state').dataset.level = level;
	put(at('level'), headline);
	put(at('summary'), summary);
	fillChildren(at('troubles'), 'li', troubles, (item, one) => {
		if (item.childElementCount !== 2)
			item.replaceChildren(document.createElement('strong'), ' ', document.createElement('span'));
		item.className = one.level;
		put(item.firstElementChild, `${one.headline}.`);
		putWords(item.lastElementChild, one.detail);
	});
}
