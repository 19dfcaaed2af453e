// What is done now and then: removing old backups, and reading everything through.
import { run } from './activity.js';
import { api } from '../api.js';
import { ask } from '../dialogs.js';
import { bytes, count, h, number } from '../dom.js';
import { allowed, button, facts, names } from './parts.js';

/** The buttons for it. */
export const upkeep = (changed) => [
  button('Remove old backups', () => prune(changed)),
  button('Check everything', () => verify(changed)),
];

async function prune(changed) {
  if (!await allowed()) return;
  const plan = await run('Looking at what could go', () => api('POST', '/api/prune', { query: { dryRun: 'true' } }), (plan) => {
    const empty = nothing(plan);
    return { text: plan.heldBack ?? (empty ? `Nothing can go now. Backups that stay: ${number(plan.kept.length)}.` : `${total(plan)} can go.`) };
  });
  if (!plan || plan.heldBack || nothing(plan)) return;
  const content = h('div', {}, h('p', { text: `${total(plan)} would go, which frees ${bytes(plan.bytes)}. ${count(plan.kept.length, 'backup stays', 'backups stay')}.` }),
    h('p', { class: 'muted', text: 'Backups made by hand always stay; of the others the newest stay, and then one a day, a week and a month. '
      + 'No image goes that is there or that a kept backup holds.' }),
    names('Going', plan.removed), names('Staying', plan.kept));
  if (await ask('Remove old backups', content, [{ label: 'Remove', value: 'go', kind: 'danger' }, { label: 'Cancel', value: null }]) !== 'go') return;
  const done = await run('Removing old backups', () => api('POST', '/api/prune'), (done) => ({
    text: `Removed: ${total(done)}, ${bytes(done.bytes)}. ${done.heldBack ?? ''}`, bad: Boolean(done.heldBack), more: [names('Removed', done.removed)],
  }));
  if (done) changed();
}

const nothing = (plan) => plan.removed.length === 0 && plan.objects === 0;
const total = (plan) => `${count(plan.removed.length, 'backup')} and ${count(plan.objects, 'object')} that nothing needs`;

/** Reads everything through, and makes damaged or missing copies anew from the other one; with a `title` and `label` of its own
 * it is asked for just that. */
export async function verify(changed, { title, label } = {}) {
  if (!await allowed()) return;
  const repair = h('input', { type: 'checkbox', name: 'repair', checked: true });
  const content = h('div', {}, h('p', { text: 'Both copies of every image and every part of the backups are read and compared with their '
    + 'digests. That takes a while where there is much.' }),
    title ? h('p', { text: 'What is missing or damaged is made anew from the other copy.' })
      : h('label', { class: 'inline' }, repair, 'Repair what is damaged from the other copy'));
  if (await ask(title ?? 'Check everything', content, [{ label: label ?? 'Check', value: 'go', kind: 'primary' }, { label: 'Cancel', value: null }]) !== 'go') return;
  await run('Reading everything through', () => api('POST', '/api/verify', { query: { repair: repair.checked ? 'true' : '' } }), (found) => {
    const repaired = found.repaired.length + found.copied.length + found.rewritten;
    const after = repaired ? `, after ${count(repaired, 'repair')}` : '';
    const text = found.ok ? `Everything was read through and is right${after}.` : 'Something is damaged, and still is.';
    return { text, bad: !found.ok, more: [facts([
      ['Read', `${count(found.images, 'image')}, ${bytes(found.bytes)}`],
      ['Of deleted images', count(found.deleted, 'second copy', 'second copies')],
      ['Of backups', count(found.pieces, 'part')],
      ['Parts of backups written anew', found.rewritten && number(found.rewritten)],
    ]),
    names('Repaired from the second copy', found.repaired, { pictures: true }), names('Second copy made anew', found.copied, { pictures: true }),
    names('One copy is damaged', found.damaged, { pictures: true }), names('Right in no place', found.lost),
    names('Deleted images that can no longer be brought back', found.lostCopies), names('Damaged backups', found.damagedBackups)] };
  });
  changed();
}
