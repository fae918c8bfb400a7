// How the page changes the document: text only, never markup, and only where something is another.

const SVG = 'http://www.w3.org/2000/svg';

function at(id) {
	return document.getElementById(id);
}

function put(node, text) {
	if (node.textContent !== text)
		node.textContent = text;
}

// Text of ours, in which the options of maasd stand whole: a line ends behind any hyphen else.
function putWords(node, text) {
	if (node.textContent === text)
		return;
	node.replaceChildren(...text.split(/(--[a-z][a-z-]*)/).map((part, i) => {
		const code = document.createElement('code');

		code.textContent = part;
		return i % 2 ? code : part;
	}));
}

function show(id, wanted) {
	at(id).hidden = !wanted;
}

// As many children as there are values; fill(child, value, index) fills each.
function fillChildren(parent, name, values, fill) {
	while (parent.childElementCount > values.length)
		parent.lastElementChild.remove();
	while (parent.childElementCount < values.length)
		parent.append(document.createElementNS(parent.namespaceURI, name));
	values.forEach((value, i) => fill(parent.children[i], value, i));
}

// A cell is {text}, and of: value, the exact figure; number, whether it stands right; colour, of a swatch; part,
// of 1, for a meter; wide, whether a phone lacks it.
function fillCell(cell, {text, value, number: right, colour, part, wide, name}) {
	const parts = cell.children;

	cell.className = [right ? 'number' : name ? 'text' : '', wide ? 'wide' : ''].join(' ').trim();
	if (value === undefined)
		delete cell.dataset.value;
	else
		cell.dataset.value = value;
	if (part !== undefined) {
		if (parts[0]?.localName !== 'meter')
			cell.replaceChildren(document.createElement('meter'));
		parts[0].value = part;
		parts[0].setAttribute('aria-label', text);
		parts[0].title = text;
	} else if (colour !== undefined || name) {
		if (parts.length !== 2)
			cell.replaceChildren(document.createElement('span'), document.createElement('bdi'));
		parts[0].className = colour ? 'swatch' : '';
		parts[0].style.background = colour ?? '';
		put(parts[1], text);
	} else {
		put(cell, text);
	}
}

// Rows of cells; the first cell of each is its heading.
function fillRows(id, rows) {
	fillChildren(at(id), 'tr', rows, (row, cells) => {
		if (row.childElementCount !== cells.length)
			row.replaceChildren(...cells.map((_, i) => document.createElement(i ? 'td' : 'th')));
		cells.forEach((cell, i) => fillCell(row.children[i], cell));
		row.firstElementChild.scope = 'row';
	});
	at(id).closest('table').tHead.hidden = !rows.length;
	for (const heading of at(id).closest('table').tHead.rows[0].cells)
		heading.classList.toggle('number', Boolean(rows[0]?.[heading.cellIndex].number));
}

// The same colour for a class wherever it shows; sizes that are neighbours are told apart.
function classColour(classes, size) {
	const index = classes.findIndex((one) => one.slab_size === size);
	const style = getComputedStyle(document.documentElement);

	return index < 0 ? style.getPropertyValue('--backed') :
		`oklch(${style.getPropertyValue('--class-light')} ${style.getPropertyValue('--class-colour')} ` +
		`${Math.round(250 + 137.5 * index) % 360})`;
}

// Parts of a whole, side by side: {text, value, colour, shown}.
function fillBar(parts, whole) {
	let x = 0;

	fillChildren(at('bar'), 'rect', parts.filter((part) => part.colour), (rect, {value, colour}) => {
		const width = whole ? 1000 * value / whole : 0;

		for (const [name, text] of Object.entries({x, width, height: 10}))
			rect.setAttribute(name, text);
		rect.style.fill = `var(${colour})`;
		x += width;
	});
	fillChildren(at('bar-legend'), 'li', parts, (item, {text, value, colour}) => {
		if (item.childElementCount !== 2)
			item.replaceChildren(document.createElement('span'), document.createElement('span'));
		item.firstElementChild.className = 'swatch';
		item.firstElementChild.style.background = `var(${colour ?? '--track'})`;
		put(item.lastElementChild, `${text} ${bytes(value)}`);
		item.lastElementChild.dataset.value = value;
	});
}

// A line of the last values, from 0 to the largest.
function fillSpark(id, values, places) {
	const top = Math.max(...values, 0) || 1;
	const points = values.map((value, i) =>
		`${(150 * (places - values.length + i) / (places - 1)).toFixed(1)} ${(31 - 29 * value / top).toFixed(1)}`);

	at(id).firstElementChild.setAttribute('d', points.length > 1 ? `M${points.join('L')}` : '');
}

// ---- the map: a cell for each entry, as large as fits into some height

const MAP_HEIGHT = 168;
const map = {cells: 0, columns: 1, side: 0, width: 0, hovered: false};

function mapSide(cells, width) {
	for (let side = 28; side > 5; side--) {
		if (Math.ceil(cells / Math.floor(width / side)) * side <= MAP_HEIGHT)
			return side;
	}
	return 5;
}

function sizeMap(cells) {
	const canvas = at('map');
	const width = canvas.parentElement.clientWidth;
	const scale = devicePixelRatio || 1;

	map.cells = cells;
	map.width = width;
	map.side = mapSide(cells, width);
	map.columns = Math.max(1, Math.floor(width / map.side));
	canvas.style.height = `${Math.ceil(cells / map.columns) * map.side}px`;
	canvas.width = Math.round(width * scale);
	canvas.height = Math.round(Math.ceil(cells / map.columns) * map.side * scale);
	canvas.getContext('2d').setTransform(scale, 0, 0, scale, 0, 0);
}

// entries: {colour, part}, part of 1 is full; colour null is free. Cells beyond them are free.
function drawMap(cells, entries, picked) {
	const style = getComputedStyle(document.documentElement);
	const free = style.getPropertyValue('--track');
	const pen = at('map').getContext('2d');

	sizeMap(cells);
	for (let i = 0; i < cells; i++) {
		const x = map.side * (i % map.columns);
		const y = map.side * Math.floor(i / map.columns);
		const side = map.side - (map.side > 8 ? 2 : 1);
		const {colour, part} = entries[i] ?? {};
		const height = colour ? Math.max(1, Math.round(side * part)) : 0;

		pen.fillStyle = free;
		pen.fillRect(x, y, side, side);
		if (colour) {
			pen.fillStyle = colour;
			pen.globalAlpha = 0.3;
			pen.fillRect(x, y, side, side);
			pen.globalAlpha = 1;
			pen.fillRect(x, y + side - height, side, height);
		}
		if (i === picked) {
			pen.strokeStyle = style.getPropertyValue('--text');
			pen.lineWidth = 2;
			pen.strokeRect(x, y, side, side);
		}
	}
}

// The cell under a point of the map; -1 if none.
function cellAt(x, y) {
	const column = Math.floor(x / map.side);
	const index = Math.floor(y / map.side) * map.columns + column;

	return column >= 0 && column < map.columns && index >= 0 && index < map.cells ? index : -1;
}
