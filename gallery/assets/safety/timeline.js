// When backups were made, as a picture. What it shows stands in the list below it as well.
import { count, h, when } from '../dom.js';
import { svg } from './parts.js';

export const KINDS = { auto: 'By itself', manual: 'By hand', safety: 'Before a change' };
const LANES = Object.keys(KINDS);
const LANE = 34;
const LEFT = 118;
const RIGHT = 16;
const DAY = 86_400_000;

/** A picture that fits its place, whatever the width. */
export function timeline(backups) {
  const place = h('div', { class: 'timeline' });
  let width = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (Math.abs(contentRect.width - width) < 2) return;
    width = contentRect.width;
    place.replaceChildren(draw(backups, width));
  }).observe(place);
  return place;
}

function draw(backups, width) {
  const moments = backups.map((backup) => Date.parse(backup.created));
  const to = Date.now();
  const from = Math.min(...moments, to - 60_000);
  const x = (moment) => LEFT + (moment - from) / (to - from) * (width - LEFT - RIGHT);
  const most = Math.max(...backups.map((backup) => backup.fileCount), 1);
  const height = LANES.length * LANE + 30;
  const lanes = LANES.map((kind, at) => [
    svg('text', { x: 0, y: at * LANE + LANE / 2 + 4 }, KINDS[kind]),
    svg('line', { x1: LEFT, x2: width - RIGHT, y1: at * LANE + LANE / 2, y2: at * LANE + LANE / 2, class: 'lane' }),
  ]);
  const marks = backups.map((backup, at) => {
    const size = 4 + 6 * Math.sqrt(backup.fileCount / most);
    const y = Math.max(LANES.indexOf(backup.kind), 0) * LANE + LANE / 2;
    return mark(backup.kind, x(moments[at]), y, size, `${when(backup.created)}: ${count(backup.fileCount, 'image')}`);
  });
  return svg('svg', { width, height, role: 'img', 'aria-label': told(backups) }, lanes, marks, ticks(from, to, x, width, height));
}

/** Kinds differ by lane and by shape, not by colour alone. */
function mark(kind, x, y, size, title) {
  const about = svg('title', {}, title);
  if (kind === 'manual') return svg('rect', { class: 'mark', x: x - size * .85, y: y - size * .85, width: size * 1.7, height: size * 1.7 }, about);
  const tall = size * 1.2;
  if (kind === 'safety') return svg('path', { class: 'mark', d: `M${x} ${y - tall}l${tall} ${tall}l${-tall} ${tall}l${-tall} ${-tall}z` }, about);
  return svg('circle', { class: 'mark', cx: x, cy: y, r: size }, about);
}

function ticks(from, to, x, width, height) {
  const style = to - from < DAY ? { timeStyle: 'short' } : to - from < 300 * DAY ? { day: 'numeric', month: 'short' } : { month: 'short', year: 'numeric' };
  const format = new Intl.DateTimeFormat(undefined, style);
  const many = Math.max(1, Math.min(5, Math.floor((width - LEFT) / 110)));
  let before = '';
  return Array.from({ length: many + 1 }, (_, at) => {
    const moment = from + (to - from) * at / many;
    const text = at === many ? 'now' : format.format(moment);
    if (text === before) return null;
    before = text;
    const anchor = at === 0 ? 'start' : at === many ? 'end' : 'middle';
    return svg('text', { x: x(moment) + (at === many ? RIGHT : 0), y: height - 6, 'text-anchor': anchor, class: 'tick' }, text);
  });
}

function told(backups) {
  const kinds = LANES.map((kind) => [KINDS[kind].toLowerCase(), backups.filter((backup) => backup.kind === kind).length]);
  const parts = kinds.filter(([, n]) => n).map(([words, n]) => `${n} ${words}`);
  const [first, last] = [backups.at(-1), backups[0]];
  const ends = `the oldest of ${when(first.created)}, the newest of ${when(last.created)}`;
  return `Timeline of ${count(backups.length, 'backup')}: ${parts.join(', ')}; ${ends}. The list below has all of it.`;
}
