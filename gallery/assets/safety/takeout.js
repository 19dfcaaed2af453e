// Taking everything out and in, and who may do what here.
import { run } from './activity.js';
import { api } from '../api.js';
import { ask } from '../dialogs.js';
import { h } from '../dom.js';
import { create, download } from './backups.js';
import { allowed, button, names, section } from './parts.js';
import { undo } from './restore.js';

/** The part of the page; `changed` is called when the store is another. */
export function takeout(changed) {
  const file = h('input', { type: 'file', accept: '.zip,application/zip', hidden: true, 'aria-label': 'A zip of images', on: { change: async () => {
    const [zip] = file.files;
    if (zip) await takeIn(zip, changed);
    file.value = '';
  } } });
  return [
    section('takeout', 'Take everything with you',
      h('p', { text: 'You get a zip of plain files: every image as it was sent, what is said of them in image-metadata.json, and '
        + 'SHA256SUMS to compare them by. A server can be started on the unpacked folder.' }),
      h('div', { class: 'tools' }, button('Download everything', async () => {
        const made = await create(changed);
        if (made) await download(made.backupName);
      }), button('Take in a zip', async () => await allowed() && file.click()), file),
      h('p', { class: 'muted' }, 'Too much for a browser? ', h('code', { text: 'keepsake export photos.zip' }), ' on the machine of the server does the same, also into a folder, and ',
        h('code', { text: 'keepsake migrate' }), ' moves everything to another disk or bucket.')),
    section('tokens', 'Who may change what',
      h('p', {}, 'Tokens for people and programs are made where the server runs: ', h('code', { text: 'keepsake token new phone --scope upload' }), ' makes one for a phone that may only upload (or ', h('code', { text: 'read' }), ', or ', h('code', { text: 'admin' }), '), ',
        h('code', { text: 'keepsake token list' }), ' shows which there are, and ', h('code', { text: 'keepsake token revoke' }), ' ends one.')),
  ];
}

/** First what a zip would bring, then the deed. */
async function takeIn(zip, changed) {
  const send = (query) => api('POST', '/api/backups', { body: zip, query, headers: { 'content-type': 'application/zip' } });
  const lists = (found) => [names('Without bytes', found.missingImages), names('Damaged, set aside', found.damagedFiles),
    names('Names without a record', found.unusableNames), names('Not taken in', found.skippedFiles),
    names('Taken under another name', found.renamedFiles?.map(({ from, to }) => `${from} → ${to}`)),
    names('Dated in the future, now of today', found.redatedFiles)];
  const plan = await run('Looking at what the zip holds', () => send({ dryRun: 'true' }), (plan) => ({ text: plan.message, more: lists(plan) }));
  if (!plan) return;
  const content = h('div', {}, h('p', { text: plan.message }), h('p', { class: 'muted', text: 'Images that are here stay as they are.' }), lists(plan));
  if (await ask('Take in this zip', content, [{ label: 'Take in', value: 'go', kind: 'primary' }, { label: 'Cancel', value: null }]) !== 'go') return;
  await run('Taking in the zip', () => send(), (done) => ({ text: done.message, more: lists(done), actions: [undo(done.safetyBackup, changed)] }));
  changed();
}
