// Restoring: first what it would do, then the deed, then the way back.
import { run } from './activity.js';
import { api } from '../api.js';
import { ask } from '../dialogs.js';
import { bytes, count, fill, h, when } from '../dom.js';
import { allowed, button, momentOf, names, sentence } from './parts.js';

const MODES = {
  merge: ['Keep what came later', 'Brings back what is gone and puts changed descriptions back. No image goes.'],
  exact: ['Make everything as it was', 'Brings back likewise, and deletes the images that came after the backup.'],
};

/** Shows the plan of a restore, and carries it out where it is wanted. `changed` is called when the store is another. */
export async function restore({ name, kind }, changed) {
  if (!await allowed()) return;
  let mode = kind === 'safety' ? 'exact' : 'merge';
  let plan = null;
  const shown = h('div', { class: 'plan', 'aria-live': 'polite' });
  const look = async () => {
    const wanted = mode;
    plan = null;
    fill(shown, h('p', { class: 'muted', text: 'Looking at what this would do …' }));
    try {
      const answer = await planOf(name, wanted);
      if (wanted !== mode) return;
      plan = answer;
      fill(shown, inWords(plan));
    } catch (problem) {
      if (wanted === mode) fill(shown, h('p', { class: 'error', text: sentence(problem) }));
    }
  };
  const choices = Object.entries(MODES).map(([value, [label, text]]) => h('label', { class: 'choice' },
    h('input', { type: 'radio', name: 'mode', value, checked: value === mode, on: { change: () => { mode = value; look(); } } }),
    h('span', {}, h('strong', { text: label }), h('span', { class: 'muted', text }))));
  look();
  const content = h('div', {}, h('p', { text: `The backup is of ${when(momentOf(name))}.` }),
    kind === 'safety' && h('p', { text: 'It was made before something was changed. Restoring it as it was undoes that.' }),
    h('fieldset', {}, h('legend', { text: 'What becomes of images that came after it?' }), choices), shown,
    h('p', { class: 'muted', text: 'Before anything changes, the present state is kept in a backup of its own, so that you can undo this.' }));
  const check = () => {
    if (!plan) return 'What this would do is not known yet.';
    return plan.restored + plan.changed + plan.removed === 0 ? 'Everything is already as in this backup: there is nothing to do.' : null;
  };
  const buttons = [{ label: 'Restore', value: 'restore', kind: 'primary' }, { label: 'Cancel', value: null }];
  if (await ask('Restore this backup', content, buttons, { check }) === 'restore') await apply(name, mode, changed);
}

const planOf = (name, mode) => api('POST', `/api/restore/${name}`, { query: { mode, dryRun: 'true' } });

/** "12 come back, 3 change, 0 go", and which. */
function inWords(plan) {
  const verb = (n, one, many) => `${count(n, 'image')} ${n === 1 ? one : many}`;
  const called = plan.originalNames;
  const list = [[verb(plan.restored, 'comes back', 'come back'), 'comes'], [verb(plan.changed, 'changes', 'change'), 'changes'],
    [verb(plan.removed, 'goes', 'go'), plan.removed ? 'goes' : ''], [verb(plan.kept, 'stays as it is', 'stay as they are'), '']];
  return [
    h('ul', { class: 'counts' }, list.map(([text, kind]) => h('li', { class: kind, text }))),
    plan.missing && h('p', { class: 'error', text: `${count(plan.missing, 'image')} of the backup cannot come back: the bytes lie in no place.` }),
    plan.lackingBytes && h('p', { class: 'error', text: `There is too little room for this: ${bytes(plan.lackingBytes)} more would have to be free.` }),
    names('Coming back', plan.restoredImages, { called }),
    names('Changing', plan.changedImages, { called, pictures: true }),
    names('Going', plan.removedImages, { called, pictures: true }),
    names('Cannot come back', plan.missingImages, { called }),
  ];
}

/** A button that makes everything as it was before a change; nothing where no backup was made before it. */
export const undo = (safetyBackup, changed, again = false) =>
  safetyBackup && button(again ? 'Do it after all' : 'Undo', () => apply(safetyBackup, 'exact', changed, !again));

async function apply(name, mode, changed, undoing = false) {
  await run(undoing ? 'Undoing' : 'Restoring', () => api('POST', `/api/restore/${name}`, { query: { mode } }), (done) => {
    const did = `${done.restored} brought back, ${done.changed} changed, ${done.removed} removed, ${done.kept} kept.`;
    const lacking = done.missing ? ` The bytes of ${count(done.missing, 'image')} lie in no place; nothing was changed there.` : '';
    const kept = done.safetyBackup && h('p', { class: 'muted', text: `The state before is kept as ${done.safetyBackup}.` });
    return { text: `${undoing ? 'Undone' : 'Restored'}: ${did}${lacking}`, more: [kept], actions: [undo(done.safetyBackup, changed, undoing)] };
  });
  changed();
}
