// How much room is taken, and by what, over time.
import { bytes, count, h } from '../dom.js';
import { facts, section, svg } from './parts.js';

const BANDS = 6;
const HEIGHT = 200;
const LEFT = 62;
const TOP = 10;
const BOTTOM = 24;
/** What is laid over a band's colour, so that bands differ without colours as well. */
const STROKES = ['', 'M0 8L8 0', 'M4 0V8', 'M0 4H8', 'M0 0L8 8M0 8L8 0', 'M0 4H8M4 0V8', 'M2 2h2v2h-2z'];
const MONTH = new Intl.DateTimeFormat(undefined, { month: 'short', year: 'numeric', timeZone: 'UTC' });
const monthOf = (month) => MONTH.format(new Date(`${month}-01T00:00:00Z`));

/** The part of the page. */
export function storage({ used, available, limit, images, byCategory, history }) {
  const of = limit === null ? '' : ` of ${bytes(limit)}`;
  return section('storage', 'Storage',
    limit !== null && h('meter', {
      min: 0, max: limit, value: limit - available, high: limit * .9, optimum: 0, 'aria-label': 'Room taken on the disk',
    }, `${bytes(limit - available)}${of}`),
    facts([
      ['Images', `${bytes(used)} in ${count(images, 'image')}`],
      ['Free', available === null ? 'as much as the service gives' : `${bytes(available)}${of}`],
    ]),
    h('p', { class: 'muted', text: 'Second copies and backups take room beside them: about as much again, and what was deleted in the '
      + 'last thirty days or is in a backup.' }),
    history.length > 0 && chart(byCategory, history));
}

const called = (category) => category || 'without a category';

/** The categories that are largest now have a band each; the rest share one. */
function bandsOf(byCategory, history) {
  const now = byCategory.toSorted((a, b) => b.bytes - a.bytes).map(({ category }) => category ?? '');
  const gone = history.flatMap(({ byCategory: then }) => Object.keys(then)).filter((name) => !now.includes(name));
  const all = [...new Set([...now, ...gone])];
  const own = all.length > BANDS ? all.slice(0, BANDS - 1) : all;
  const bands = own.map((name) => [called(name), (then) => then[name] ?? 0]);
  const rest = all.slice(own.length);
  if (rest.length) bands.push([`${rest.length} others`, (then) => rest.reduce((sum, name) => sum + (then[name] ?? 0), 0)]);
  return bands;
}

function chart(byCategory, history) {
  const bands = bandsOf(byCategory, history);
  const rows = history.map(({ month, byCategory: then }) => ({ month, values: bands.map(([, of]) => of(then)) }));
  const place = h('div', { class: 'chart' });
  new ResizeObserver(([{ contentRect: { width } }]) => width > LEFT && place.replaceChildren(draw(bands, rows, width))).observe(place);
  const legend = h('ul', { class: 'legend' }, bands.map(([name], at) => h('li', {},
    svg('svg', { width: 18, height: 18, 'aria-hidden': 'true' }, svg('rect', { width: 18, height: 18, fill: `url(#band-${at})`, class: 'band' })), name)));
  const head = ['Month', ...bands.map(([name]) => name), 'Together'].map((text) => h('th', { scope: 'col', text }));
  const body = rows.toReversed().map(({ month, values }) => h('tr', {}, h('th', { scope: 'row', text: monthOf(month) }),
    [...values, total(values)].map((value) => h('td', { text: bytes(value) }))));
  return [h('h3', { text: 'By category over time' }), place, legend,
    h('details', {}, h('summary', { text: 'The same as a table' }),
      h('div', { class: 'wide', tabindex: 0, role: 'region', 'aria-label': 'Storage by category and month' },
        h('table', {}, h('caption', { class: 'hidden-visually', text: 'Bytes by category at the end of each month' }),
          h('thead', {}, h('tr', {}, head)), h('tbody', {}, body))))];
}

const total = (values) => values.reduce((sum, value) => sum + value, 0);

function draw(bands, all, width) {
  // The newest months, as many as have room.
  const rows = all.slice(-Math.max(1, Math.floor((width - LEFT) / 14)));
  const most = Math.max(...rows.map(({ values }) => total(values)), 1);
  const step = (width - LEFT) / rows.length;
  const bar = Math.min(step * .7, 56);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most);
  const lines = [0, .5, 1].map((part) => [svg('line', { x1: LEFT, x2: width, y1: y(most * part), y2: y(most * part), class: 'lane' }),
    svg('text', { x: LEFT - 8, y: y(most * part) + 4, 'text-anchor': 'end', class: 'tick' }, bytes(most * part))]);
  const every = Math.ceil(100 / step);
  const bars = rows.map(({ month, values }, at) => {
    const x = LEFT + step * (at + .5) - bar / 2;
    let below = 0;
    const parts = values.map((value, band) => {
      const top = y(below + value);
      const part = value > 0 && svg('rect', { x, y: top, width: bar, height: y(below) - top, fill: `url(#band-${band})`, class: 'band' },
        svg('title', {}, `${monthOf(month)}, ${bands[band][0]}: ${bytes(value)}`));
      below += value;
      return part;
    });
    // The last one would be cut off at the edge.
    const middle = at < rows.length - 1 || step >= 100;
    const spot = middle ? { x: x + bar / 2, 'text-anchor': 'middle' } : { x: width, 'text-anchor': 'end' };
    const tick = (rows.length - 1 - at) % every === 0 && svg('text', { ...spot, y: HEIGHT - 6, class: 'tick' }, monthOf(month));
    return [parts, tick];
  });
  const patterns = bands.map((_, at) => svg('pattern', { id: `band-${at}`, width: 8, height: 8, patternUnits: 'userSpaceOnUse', class: `band-${at}` },
    svg('rect', { width: 8, height: 8 }), svg('path', { d: STROKES[at] })));
  const [first, last] = [all[0], all.at(-1)];
  const sum = ({ month, values }) => `${bytes(total(values))} in ${monthOf(month)}`;
  const told = `Bytes by category at the end of each month: ${sum(first)}, ${sum(last)}. The table below has all of it.`;
  return svg('svg', { width, height: HEIGHT, role: 'img', 'aria-label': told }, svg('defs', {}, patterns), lines, bars);
}
