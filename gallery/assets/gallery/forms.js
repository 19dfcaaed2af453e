// The dialogs in which a person says something of images.
import { ask } from '../dialogs.js';
import { count, h } from '../dom.js';

/** The category that was given last, which is likely the next one too. */
let last = '';
const categoryInput = (props = {}) => h('input', { name: 'category', list: 'categories', autocomplete: 'off', maxlength: 200, ...props });

/** What the files that are to be uploaded have in common; null where it was dismissed. `category`: the one that is shown, undefined
 * where all are; `group`: one that is open. */
export async function askForBatch(files, { category, group }) {
  const name = categoryInput();
  name.value = category ?? last;
  const description = h('input', { name: 'description', autocomplete: 'off', maxlength: 10_000 });
  const asGroup = h('input', { type: 'checkbox', name: 'group' });
  const title = h('input', { name: 'title', autocomplete: 'off', maxlength: 200 });
  const titled = h('label', { hidden: true }, 'Title of the group', title);
  asGroup.checked = Boolean(group);
  asGroup.addEventListener('change', () => { titled.hidden = Boolean(group) || !asGroup.checked; });
  const into = group ? `Into the group ${group.title || ''}`.trim() : 'As a group, shown as one';
  const content = h('div', { class: 'fields' }, h('label', {}, 'Category', name), h('label', {}, 'Description', description),
    (group || files.length > 1) && h('label', { class: 'inline' }, asGroup, into), titled);
  const pressed = await ask(files.length === 1 ? `Upload ${files[0].name || 'the image'}` : `Upload ${count(files.length, 'file')}`, content,
    [{ label: 'Upload', value: 'yes', kind: 'primary' }, { label: 'Cancel', value: null }]);
  if (pressed !== 'yes') return null;
  last = name.value.trim();
  return { category: name.value.trim(), description: description.value.trim(), asGroup: asGroup.checked, title: title.value.trim() };
}

/** What to say of many images at once: only what was filled in. What of theirs it would replace stands in the dialog before. */
export async function askToDescribe(items) {
  const said = { category: replaced(items, 'category'), description: replaced(items, 'description') };
  const category = categoryInput({ 'aria-describedby': said.category?.id });
  const description = h('textarea', { name: 'description', rows: 3, maxlength: 10_000, 'aria-describedby': said.description?.id });
  const none = h('input', { type: 'checkbox', name: 'without' });
  none.addEventListener('change', () => { category.disabled = none.checked; });
  const content = h('div', { class: 'fields' }, h('p', { class: 'muted', text: 'What is left empty stays as it is.' }),
    h('label', {}, 'Category', category), h('label', { class: 'inline' }, none, 'Remove the category'), said.category,
    h('label', {}, 'Description', description), said.description);
  const check = () => (none.checked || category.value.trim() || description.value.trim() ? null : 'Write something, or cancel.');
  if (await ask(`Describe ${count(items.length, 'item')}`, content, [{ label: 'Save', value: 'yes', kind: 'primary' }, { label: 'Cancel', value: null }], { check }) !== 'yes') return null;
  const written = none.checked ? '' : category.value.trim();
  return { ...(none.checked || written) && { category: written }, ...description.value.trim() && { description: description.value.trim() } };
}

/** How many of the images have this field already, which would be replaced; null where none has. */
function replaced(items, field) {
  const number = items.filter((item) => item[field]).length;
  if (!number) return null;
  const all = number === items.length;
  const which = all ? (number === 1 ? 'It has' : 'All of these have') : count(number, 'of these has', 'of these have');
  return h('p', { id: `replaced-${field}`, text: `${which} a ${field}, which is replaced if you write one.` });
}

/** Keeps a dialog open as long as `send` fails, and says why; returns what `send` returned, or null where it was dismissed. */
async function sending(title, content, label, send) {
  let answer = null;
  const check = async () => {
    try {
      answer = await send();
      return null;
    } catch (problem) {
      return problem.message;
    }
  };
  await ask(title, content, [{ label, value: 'yes', kind: 'primary' }, { label: 'Cancel', value: null }], { check });
  return answer;
}

/** Asks for one line of text, and sends it. */
export function askForText(title, name, value, label, send) {
  const input = h('input', { name: 'text', autocomplete: 'off', maxlength: 200 });
  input.value = value ?? '';
  return sending(title, h('label', {}, name, input), label, () => send(input.value.trim()));
}

/** Asks for a link, and sends it. */
export function askForLink(category, send) {
  const url = h('input', { type: 'url', name: 'url', required: true, autocomplete: 'off', placeholder: 'https://', inputmode: 'url' });
  const description = h('input', { name: 'description', autocomplete: 'off', maxlength: 10_000 });
  const name = categoryInput();
  name.value = category;
  const content = h('div', { class: 'fields' }, h('label', {}, 'Address', url), h('label', {}, 'Description', description), h('label', {}, 'Category', name));
  return sending('Add a link', content, 'Add', () => send({ url: url.value.trim(), description: description.value.trim() || undefined, category: name.value.trim() }));
}
