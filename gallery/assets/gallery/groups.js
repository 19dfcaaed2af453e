// What is done with groups: the requests, and the heading of the one that is open.
import { api } from '../api.js';
import { confirm } from '../dialogs.js';
import { $, count, fill, h, toast } from '../dom.js';
import { allow } from '../session.js';
import { askForText } from './forms.js';
import { iconButton } from './icons.js';
import { key } from './send.js';

export const groupPath = (id, rest = '') => `/api/groups/${encodeURIComponent(id)}${rest}`;
export const newGroupId = () => `group-${key()}`;

/** Says why something did not work, instead of failing. Returns whether it did. */
export async function attempt(work) {
  try {
    await work();
    return true;
  } catch (problem) {
    toast(problem.message, { seconds: 10 });
    return false;
  }
}

/** Makes one group of items; where a group is among them, the others join it. `made(group)` is called with it. */
export async function makeGroup(items, made) {
  if (!await allow('upload')) return;
  const files = items.flatMap((item) => (item.type === 'group' ? item.files : [item])).map(({ id }) => id);
  const old = items.find(({ type }) => type === 'group');
  const json = (title) => ({ files, title: title || null });
  const group = await askForText(`Group ${count(files.length, 'image')}`, 'Title', old?.title, 'Group', (title) => api('PUT', groupPath(old?.id ?? newGroupId()), { json: json(title) }));
  if (group) made(group);
}

/** Shows which list this is. `on`: `back()`, `changed(group)`, `gone()`, `add()`, `remove()`. */
export function heading(group, id, on) {
  const place = $('#heading');
  if (!id) {
    if (place.dataset.shown) fill(place, h('h1', { class: 'hidden-visually', text: 'All images' }));
    delete place.dataset.shown;
    return;
  }
  const title = group?.title || (group ? 'Group without a title' : 'Group');
  const shown = `${id} ${title} ${group?.files.length}`;
  if (place.dataset.shown === shown) return;
  const had = place.contains(document.activeElement) && document.activeElement.textContent;
  place.dataset.shown = shown;
  const button = (text, click, props = {}) => h('button', { type: 'button', text, on: { click }, ...props });
  fill(place, iconButton('previous', 'Back to all images', on.back), h('h1', { text: title }),
    group && h('span', { class: 'muted', text: count(group.files.length, 'image') }),
    group && h('div', { class: 'what' }, button('Add images', on.add), button('Rename', () => rename(group, on.changed)),
      h('a', { class: 'button', href: groupPath(id, '/download'), download: '', text: 'Download as zip' }),
      button('Dissolve', () => dissolve(group, on.gone)), button('Delete group', on.remove, { class: 'danger' })));
  if (had) [...place.querySelectorAll('button')].find(({ textContent }) => textContent === had)?.focus();
}

async function rename(group, changed) {
  if (!await allow('upload')) return;
  const now = await askForText('Rename the group', 'Title', group.title, 'Save', (title) => api('PUT', groupPath(group.id, '/title'), { json: { title: title || null } }));
  if (now) changed(now);
}

async function dissolve(group, gone) {
  if (!await allow('admin')) return;
  const text = `Its ${count(group.files.length, 'image')} stay, each by itself.`;
  if (!await confirm('Dissolve the group?', text, { label: 'Dissolve' })) return;
  if (await attempt(() => api('DELETE', groupPath(group.id), { query: { keepImages: true } }))) gone();
}

/** Sends the order of a group a moment after the last change of it. */
export class Order {
  #timer = null; #send = null; #group = null;
  constructor() { addEventListener('pagehide', () => this.#send?.(true)); }

  /** `failed` is called where it was not taken. */
  soon(group, ids, failed) {
    if (this.#group !== group.id) this.#send?.();
    this.#group = group.id;
    clearTimeout(this.#timer);
    const files = [...ids, ...group.files.map(({ id }) => id).filter((id) => !ids.includes(id))];
    this.#send = async (keepalive = false) => {
      this.#send = null;
      clearTimeout(this.#timer);
      if (!await attempt(() => api('PUT', groupPath(group.id, '/order'), { json: { files }, keepalive }))) failed();
    };
    this.#timer = setTimeout(this.#send, 600);
  }
}
