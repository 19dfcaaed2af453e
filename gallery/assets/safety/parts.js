// What the parts of this page share.
import { ask } from '../dialogs.js';
import { count, h, number, when } from '../dom.js';
import { may, signIn } from '../session.js';

/** An element of SVG. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.flat(Infinity).filter(Boolean));
  return element;
}

/** A part of the page with a heading. */
export const section = (id, title, ...children) =>
  h('section', { class: 'card', 'aria-labelledby': id }, h('h2', { id, text: title }), children);

export const button = (text, click, props = {}) => h('button', { type: 'button', text, on: { click }, ...props });

/** Terms and what is said of them: `[[term, text or element], …]`; those without a text are left out. */
export const facts = (pairs) => h('dl', { class: 'facts' }, pairs.filter(([, value]) => value).map(([term, value]) =>
  h('div', {}, h('dt', { text: term }), h('dd', {}, value))));

/** When the backup of this name was made. */
export function momentOf(name) {
  const parts = /^backup-(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d)-(\d{3})Z$/.exec(name ?? '');
  return parts && `${parts[1]}T${parts[2]}:${parts[3]}:${parts[4]}.${parts[5]}Z`;
}

/** A time as text that machines can read as well. */
export const time = (moment) => h('time', { datetime: moment, text: when(moment) });

/** Times that stand in a sentence of the server, as people write them. */
export const readable = (text) => text?.replaceAll(/\b\d{4}-\d\d-\d\dT[\d:.]+Z/g, when);

/** "12 seconds", "3 minutes", … */
export function span(seconds) {
  for (const [unit, length] of [['day', 86_400], ['hour', 3_600], ['minute', 60]]) {
    if (seconds >= 2 * length) return count(Math.floor(seconds / length), unit);
  }
  return count(Math.round(seconds), 'second');
}

const MOST_NAMES = 500;
/** A list of images or backups that can be opened; nothing where there are none. `called`: what people know them by. With
 * `pictures`, images that live are shown. */
export function names(title, ids, { called = {}, pictures = false } = {}) {
  if (!ids?.length) return null;
  const list = h('ul', { class: 'names' });
  const item = (id) => h('li', {}, pictures && picture(id), h('span', {}, called[id] ?? id, called[id] && h('span', { class: 'muted name', text: id })));
  const opened = h('details', {}, h('summary', { text: `${title} (${number(ids.length)})` }), list);
  opened.addEventListener('toggle', () => {
    list.append(...ids.slice(0, MOST_NAMES).map(item));
    if (ids.length > MOST_NAMES) list.append(h('li', { class: 'muted', text: `and ${number(ids.length - MOST_NAMES)} more` }));
  }, { once: true });
  return opened;
}

function picture(id) {
  const image = h('img', { src: `/uploads/${encodeURIComponent(id)}?w=160&format=webp`, alt: '', width: 40, height: 40, loading: 'lazy' });
  image.addEventListener('error', () => image.remove());
  return image;
}

/** Makes sure that whoever uses the page may change what is kept; asks for a token where it is needed. */
export async function allowed() {
  if (may('admin')) return true;
  const text = 'Backups can be made, fetched, restored and deleted only with a token of the scope "admin". Sign in with one to go on.';
  if (!await ask('This needs an admin token', h('p', { text }), [
    { label: 'Sign in', value: 'in', kind: 'primary' }, { label: 'Cancel', value: null },
  ])) return false;
  return await signIn() && may('admin');
}

/** What to say of a problem. */
export function sentence(problem) {
  if (problem.isOffline) {
    return 'The connection to the server broke off. What it has begun it finishes: look at the list below once it can be reached again.';
  }
  if (problem.status === 403) return `${problem.message} Sign in with an admin token.`;
  return problem.retryAfter ? `${problem.message} It may work in ${span(Number(problem.retryAfter) || 5)}.` : problem.message;
}
