// The backups: when they were made, what is in them, and what can be done with one.
import { place as activity, run, say } from './activity.js';
import { api } from '../api.js';
import { ask, confirm } from '../dialogs.js';
import { bytes, count, fill, h, number, when } from '../dom.js';
import { allowed, button, facts, momentOf, names, section, sentence, time } from './parts.js';
import { restore } from './restore.js';
import { KINDS, timeline } from './timeline.js';

const FIRST = 8;
const NO_DOWNLOAD = 'A backup is larger than what this server can send. On a machine with STORE_URL and BACKUP_URL of this store, "keepsake export" takes one out.';
const NONE = 'There is no backup yet. One is made by itself after every tenth upload, or by you, now.';
let everything = false;

/** The part of the page, whose list `fill` draws anew; `changed` is called when there are other backups or images than before. */
export function part(tools, changed) {
  const place = h('div', { class: 'part' });
  const element = section('backups', 'Backups',
    h('p', { class: 'muted', text: 'A backup remembers everything as it is: the images and what is said of them. It takes room only for '
      + 'what changed since the one before.' }),
    h('div', { class: 'tools' }, button('Back up now', () => create(changed), { class: 'primary' }), tools), activity(), place);
  return { element, place, show: (list) => fill(place, list.length ? shown(list, changed) : h('p', { class: 'notice', text: NONE })), fail: (problem) =>
    fill(place, h('p', { class: 'error', text: sentence(problem) }), h('div', { class: 'tools' }, button('Try again', changed))) };
}

function shown(list, changed) {
  const rows = h('tbody');
  const more = button(`Show all ${number(list.length)} backups`, () => { everything = true; draw(); rows.children[FIRST].querySelector('button').focus(); });
  const draw = () => {
    fill(rows, (everything ? list : list.slice(0, FIRST)).map((backup) => row(backup, changed)));
    more.hidden = everything || list.length <= FIRST;
  };
  draw();
  const head = ['Made', 'Kind', 'Images', 'Size', 'Checked', 'What to do with it'].map((text) => h('th', { scope: 'col', text }));
  return [timeline(list), h('table', { class: 'backups' }, h('caption', { class: 'hidden-visually', text: 'Backups, newest first' }),
    h('thead', {}, h('tr', {}, head)), rows), more];
}

function row(backup, changed) {
  const { name, kind } = backup;
  const act = (text, click, props = {}) => button(text, click, { 'aria-label': `${text} ${name}`, ...props });
  const cell = (label, ...content) => h('td', { data: { label } }, ...content);
  return h('tr', {},
    h('th', { scope: 'row' }, time(backup.created), h('span', { class: 'muted name', text: name })),
    cell('Kind', h('span', { class: `kind ${kind}`, text: KINDS[kind] ?? kind })),
    cell('Images', number(backup.fileCount)), cell('Size', bytes(backup.bytes)), cell('Checked', time(backup.verifiedAt)),
    h('td', { class: 'acts' }, act('Restore', () => restore(backup, changed)), act('Contents', () => contents(name)),
      act('Download', () => download(name)), act('Delete', () => remove(name, changed), { class: 'danger' })));
}

export async function create(changed) {
  if (!await allowed()) return null;
  const made = await run('Making a backup and reading it back', () => api('POST', '/api/backup'), (made) => ({
    text: `The backup was made and checked. Images in it: ${number(made.fileCount)}, ${bytes(made.bytes)}.`,
    more: [names('Without bytes in any place', made.missing)], actions: [button('Download it', () => download(made.backupName))],
  }));
  if (made) changed();
  return made;
}

/** Fetches a backup as a zip. Whether it can be had is asked first: a browser says little of a download that fails. */
export async function download(name) {
  if (!await allowed()) return;
  const path = `/api/backups/${name}/download`;
  try {
    await api('HEAD', path);
    h('a', { href: path, download: `${name}.zip` }).click();
  } catch (problem) {
    say(problem.status === 501 ? NO_DOWNLOAD : problem.status === 404 ? 'There is no such backup any more.' : sentence(problem), { bad: true });
  }
}

async function contents(name) {
  const place = h('div', { 'aria-live': 'polite' }, h('p', { class: 'muted', text: 'Looking …' }));
  api('GET', `/api/backups/${name}`).then((manifest) => fill(place, facts([
    ['Name', h('code', { text: manifest.name })],
    ['Made', time(manifest.created)],
    ['Kind', KINDS[manifest.kind] ?? manifest.kind],
    ['Completed by upload', manifest.sequence && `number ${number(manifest.sequence)}`],
    ['Images', `${number(manifest.fileCount)}, ${bytes(manifest.bytes)}`],
    ['Read back and found right', time(manifest.verifiedAt)],
    ['Parts of the catalog', manifest.chunks && number(manifest.chunks.length)],
    ['Without bytes in any place', manifest.missing.length ? count(manifest.missing.length, 'image') : 'none'],
  ]), names('Images without bytes', manifest.missing)), (problem) => fill(place, h('p', { class: 'error', text: sentence(problem) })));
  await ask('What is in this backup', place, [{ label: 'Close', value: null }]);
}

async function remove(name, changed) {
  if (!await allowed()) return;
  const text = `The backup of ${when(momentOf(name))} goes, and cannot be brought back. Images that are there stay; what was deleted `
    + 'since and is in no other backup can then no longer be restored.';
  if (!await confirm('Delete this backup?', text, { label: 'Delete', kind: 'danger' })) return;
  const gone = await run('Deleting the backup', () => api('DELETE', `/api/backups/${name}`), () => ({
    text: `${name} was deleted. The room that only it took is freed when old backups are next removed.`,
  }));
  if (gone) changed();
}
