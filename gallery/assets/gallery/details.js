// What is known of one image, and the form that changes what people say of it.
import { api } from '../api.js';
import { ask, busy } from '../dialogs.js';
import { bytes, fill, h, number, toast, when } from '../dom.js';
import { allow } from '../session.js';
import { nameOf, safe } from './tile.js';

const path = (item) => `/api/images/${encodeURIComponent(item.id)}`;

/** What is on its way to be saved, by the id of the image: it may have been left meanwhile. */
const saving = new Map();

/** Fills `place` with the details of an item; `changed(item)` is called after each change. Returns whether something is written that is
 * neither saved nor on its way. */
export function details(place, item, changed) {
  // The version of the item that the form shows: a change must not undo what somebody else did in the meantime.
  let tag = null;
  const call = async (method, options) => {
    let version;
    const now = await api(method, path(item), { ...options, tag: (value) => { version = value; } });
    return { now, version };
  };
  const description = h('textarea', { name: 'description', rows: 4, maxlength: 10_000 });
  const category = h('input', { name: 'category', list: 'categories', autocomplete: 'off', placeholder: 'none' });
  const error = h('p', { class: 'error', role: 'alert', hidden: true });
  const save = h('button', { type: 'submit', class: 'primary', text: 'Save' });
  const show = () => {
    description.value = item.description ?? '';
    category.value = item.category ?? '';
  };
  const written = () => JSON.stringify([description.value, category.value]);
  /** What of it is on its way. */
  let sent = null;
  const differs = () => description.value !== (item.description ?? '') || category.value !== (item.category ?? '');
  const know = ({ now, version }) => { [item, tag] = [now, version]; };
  const take = (answer) => {
    know(answer);
    show();
    changed(item);
  };
  // The list that the item is from may be old. The form shows what it says by now, unless words would be lost: then `tag` stays unknown.
  const look = async () => {
    await saving.get(item.id);
    const found = await call('GET');
    if (tag) return;
    if (['description', 'category'].every((name) => (found.now[name] ?? '') === (item[name] ?? ''))) know(found);
    else if (!differs()) take(found);
  };

  const send = async (headers) => {
    const json = { description: description.value || null, category: category.value.trim() };
    const before = written();
    const answer = await call('PATCH', { json, headers });
    if (written() === before) take(answer);
    else {
      // More was written meanwhile.
      know(answer);
      changed(item);
    }
    toast('Saved.');
  };
  const conflict = async () => {
    const found = await call('GET');
    const { now } = found;
    const both = h('div', {}, h('p', { text: `Somebody else changed ${save.checkVisibility() ? 'this' : nameOf(item)} while you wrote. It says now:` }),
      h('blockquote', { text: now.description || '(no description)' }), h('p', { text: `Category: ${now.category || 'none'}` }));
    const choice = await ask('Changed in the meantime', both, [
      { label: 'Keep what it says now', value: 'theirs', kind: 'primary' }, { label: 'Save mine over it', value: 'mine' }, { label: 'Cancel', value: null }]);
    if (choice === 'mine') return send({});
    if (choice === 'theirs') take(found);
    return null;
  };
  const failed = ({ message }) => {
    if (save.checkVisibility()) {
      error.textContent = message;
      error.hidden = false;
    } else toast(`What you wrote of ${nameOf(item)} was not saved: ${message}`, { seconds: 20, action: { label: 'Try again', run: submit } });
  };
  const attempt = async () => {
    try {
      if (!tag) await look();
      await (tag ? send({ 'if-match': tag }) : conflict());
    } catch (problem) {
      if (problem.status !== 412) return failed(problem);
      await conflict().catch(failed);
    }
    return undefined;
  };
  const submit = async (event) => {
    event?.preventDefault();
    if (!await allow('upload')) return;
    error.hidden = true;
    save.textContent = 'Saving…';
    sent = written();
    const { id } = item;
    const done = busy(save, attempt);
    saving.set(id, done);
    await done;
    if (saving.get(id) === done) saving.delete(id);
    sent = null;
    save.textContent = 'Save';
  };

  show();
  look().catch(() => {});
  const fact = (name, value) => value && h('div', {}, h('dt', { text: name }), h('dd', {}, value));
  const size = item.width && item.height && `${number(item.width)} × ${number(item.height)} pixels`;
  const address = item.type === 'link' && safe(item.url);
  fill(place, h('h2', { text: 'Details' }),
    h('form', { on: { submit } }, h('label', {}, 'Description', description), h('label', {}, 'Category', category), error, save),
    h('dl', {}, fact('File', item.originalName), fact('Added', when(item.uploadDate)), fact('Size', item.size && bytes(item.size)), fact('Dimensions', size),
      fact('Cut off', item.truncated && 'The file ends early. Part of the picture may be missing.'),
      fact('Kind', item.contentType), fact('Address', address && h('a', { href: address, rel: 'noopener noreferrer', target: '_blank', text: item.url }))));
  return () => differs() && written() !== sent;
}
