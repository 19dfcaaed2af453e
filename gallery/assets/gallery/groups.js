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

/** What a request says that is to change a group only as it was seen here. */
export const asSeen = ({ etag }) => ({ 'if-match': etag });
/** Whether that was refused, as the group is another by now. */
export const isStale = ({ status }) => status === 412;
const stale = (what) => `The group changed meanwhile, so nothing was ${what}. It is shown as it is now.`;

/** Says why something did not work, instead of failing. Returns whether it did. `what` it would have been, such as "deleted". */
export async function attempt(work, what = 'changed') {
  try {
    await work();
    return true;
  } catch (problem) {
    toast(isStale(problem) ? stale(what) : problem.message, { seconds: 10 });
    return false;
  }
}

/** Makes one group of items; where a group is among them, the others join it. `made(group)` is called with it. */
export async function makeGroup(items, made) {
  if (!await allow('upload')) return;
  let old = items.find(({ type }) => type === 'group');
  const id = old?.id ?? newGroupId();
  const files = () => items.flatMap((item) => (item.id === id ? old : item).files ?? [item]).map((file) => file.id);
  const send = async (title) => {
    try {
      return await api('PUT', groupPath(id), { json: { files: files(), title: title || null }, headers: old && asSeen(old) });
    } catch (problem) {
      if (!old || !isStale(problem)) throw problem;
      old = await api('GET', groupPath(id));
      throw new Error(`The group changed meanwhile, and has ${count(old.files.length, 'image')} now. Press "Group" again to add to these.`);
    }
  };
  const group = await askForText(`Group ${count(files().length, 'image')}`, 'Title', old?.title, 'Group', send);
  if (group) made(group);
}

/** The group that the heading is of, as it is now known: its buttons stay while that changes. */
let open = null;

/** Shows which list this is. `on`: `back()`, `changed(group)`, `gone()`, `stale(id)`, `add()`, `remove()`. */
export function heading(group, id, on) {
  const place = $('#heading');
  open = group;
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
    group && h('div', { class: 'what' }, button('Add images', on.add), button('Rename', () => rename(open, on.changed)),
      h('a', { class: 'button', href: groupPath(id, '/download'), download: '', text: 'Download as zip' }),
      button('Dissolve', () => dissolve(open, on)), button('Delete group', on.remove, { class: 'danger' })));
  if (had) [...place.querySelectorAll('button')].find(({ textContent }) => textContent === had)?.focus();
}

async function rename(group, changed) {
  if (!await allow('upload')) return;
  let seen = group;
  const send = async (title) => {
    try {
      return await api('PUT', groupPath(group.id, '/title'), { json: { title: title || null }, headers: asSeen(seen) });
    } catch (problem) {
      if (!isStale(problem)) throw problem;
      seen = await api('GET', groupPath(group.id));
      changed(seen);
      throw new Error(`The group changed meanwhile. Its title is ${seen.title ? `"${seen.title}"` : 'empty'} now. Press "Save" again to change it.`);
    }
  };
  const now = await askForText('Rename the group', 'Title', group.title, 'Save', send);
  if (now) changed(now);
}

async function dissolve(group, on) {
  if (!await allow('admin')) return;
  const text = `Its ${count(group.files.length, 'image')} stay, each by itself.`;
  if (!await confirm('Dissolve the group?', text, { label: 'Dissolve' })) return;
  if (await attempt(() => api('DELETE', groupPath(group.id), { query: { keepImages: true }, headers: asSeen(group) }))) on.gone();
  else on.stale(group.id);
}

/** Sends the order of a group a moment after the last change of it. */
export class Order {
  #timer = null;
  #send = null;
  /** The group as it is known to be, and the request that is under way. */
  #seen = null;

  constructor() { addEventListener('pagehide', () => this.#send?.(true)); }

  /** `took` is called with the group once it stands so, `failed` where it was not taken. */
  soon(group, ids, { took, failed }) {
    const isOther = this.#seen?.id !== group.id;
    if (isOther) this.#send?.();
    if (isOther || !this.#send && !this.#seen.sending) this.#seen = { id: group.id, etag: group.etag, sending: null };
    const seen = this.#seen;
    const files = [...ids, ...group.files.map(({ id }) => id).filter((id) => !ids.includes(id))];
    const put = async (leaving, before) => {
      if (!leaving) await before;
      // Whoever leaves cannot wait for the answer before, and so cannot say what it will be. An order alone takes no image out.
      const headers = leaving && before ? {} : asSeen(seen);
      let now = null;
      const done = await attempt(async () => { now = await api('PUT', groupPath(group.id, '/order'), { json: { files }, headers, keepalive: leaving }); });
      if (done) seen.etag = now.etag;
      const isLast = this.#seen === seen && !this.#send;
      if (done && isLast) took(now);
      if (done) return;
      if (this.#seen === seen) this.#drop();
      failed();
    };
    this.#drop();
    this.#send = (leaving = false) => {
      this.#drop();
      const sending = put(leaving, seen.sending).finally(() => { if (seen.sending === sending) seen.sending = null; });
      seen.sending = sending;
    };
    this.#timer = setTimeout(this.#send, 600);
  }

  #drop() {
    clearTimeout(this.#timer);
    this.#send = null;
  }
}
