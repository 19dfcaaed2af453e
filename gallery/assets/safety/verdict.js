// The verdict: whether the images outlive the instance, what that rests on, and how everything else is.
import { bytes, count, h, number, readable as coded } from '../dom.js';
import { signIn } from '../session.js';
import { button, facts, momentOf, readable, section, span, time } from './parts.js';
import { verify } from './upkeep.js';

const ANSWERS = {
  proven: ['good', '✓', 'Yes.', 'They have been seen to outlive the instance that took them in.'],
  unproven: ['fair', '?', 'Most likely, though it is not shown yet.', 'Nothing speaks against it. Once images have outlived a new deployment, container or boot, it says "yes" here.'],
  ephemeral: ['bad', '!', 'Perhaps not.', 'They lie where the next deployment or restart may not find them.'],
  withheld: ['bad', '!', 'Nothing is saved at the moment.', 'A place where images or their copies should lie is not what it was, so nothing is written anywhere until that is put right.'],
  missing: ['bad', '!', null, 'Gone from where they belong. Those that have a second copy are shown from it, and can be brought back.'],
  service: ['good', '✓', 'Yes.', 'They lie in a service that stays whatever becomes of this server.'],
};
const PLATFORMS = {
  railway: 'Railway', fly: 'Fly.io', render: 'Render', heroku: 'Heroku', 'cloud-run': 'Google Cloud Run', lambda: 'AWS Lambda',
  kubernetes: 'Kubernetes', container: 'a container',
};
const CHECKS = {
  persistence: 'Persistence', primary: 'Store', archive: 'Second copies', catalog: 'Records', backups: 'Backups',
  recovery: 'Last start', verification: 'Reading through',
};
const LEVELS = { ok: ['✓', 'good'], warn: ['look at this', 'fair'], error: ['has failed', 'bad'] };
const RANK = { error: 0, warn: 1, ok: 2 };

/** What health says, as two parts of the page; `changed` is called when something was repaired. */
export function verdict(health, changed) {
  const { persistence } = health;
  if (!persistence.verdict) return [little(health)];
  const mend = health.backups.singleCopies > 0 && button('Make the other copies', () => verify(changed, { title: 'Make the other copies', label: 'Make them' }));
  return [answer(health, changed), section('copies', 'Copies', facts(copies(health)), mend, checks(health))];
}

/** What whoever has no token is told. */
function little(health) {
  const words = health.status === 'ok' ? 'The store says that it is well.' : 'The store says that something is amiss.';
  return section('verdict', words, h('p', { text: 'How the images are kept is shown to those who are signed in.' }),
    button('Sign in', () => signIn(), { class: 'primary' }));
}

function answer({ persistence, storage, checks }, changed) {
  const { missing } = storage;
  const withheld = checks.persistence?.status === 'error';
  const kept = persistence.verdict === 'proven' && storage.kind === 's3' ? 'service' : persistence.verdict;
  const known = missing ? 'missing' : kept;
  const [level, sign, words, meaning] = ANSWERS[withheld ? 'withheld' : known] ?? ANSWERS.unproven;
  const bring = missing > 0 && button('Bring them back', () => verify(changed, { title: 'Bring the images back', label: 'Bring them back' }), { class: 'primary' });
  const evidence = persistence.evidence && readable(`${persistence.evidence[0].toUpperCase()}${persistence.evidence.slice(1)}.`);
  return h('section', { class: `card verdict ${level}`, 'aria-labelledby': 'verdict' },
    h('h2', { class: 'answer', id: 'verdict' }, h('span', { class: 'sign', 'aria-hidden': 'true', text: sign }), words ?? `${count(missing, 'image is', 'images are')} missing.`),
    h('p', { text: meaning }), bring,
    persistence.warning && h('div', { class: 'remedy' }, h('h3', { text: missing ? 'What to do so that they stay' : 'What to do' }), h('p', {}, coded(persistence.warning))),
    facts([
      ['Verdict', h('strong', { text: persistence.verdict })],
      ['Evidence', evidence],
      ['Platform', PLATFORMS[persistence.platform] ?? persistence.platform ?? 'none that is known: a machine of its own'],
      ['Mounted at', persistence.mount && h('code', { text: persistence.mount })],
      ['File system', persistence.fileSystem && h('code', { text: persistence.fileSystem })],
      ['Takes changes', persistence.writable ? 'yes' : 'no: what is stored can be seen, but nothing can be saved'],
    ]));
}

function copies({ storage, backups, archive }) {
  const { singleCopies } = backups;
  const single = singleCopies === null ? 'not known yet: both places have not been compared' : singleCopies === 0
    ? 'no image: each has two' : `${count(singleCopies, 'image')}, until the other ${singleCopies === 1 ? 'copy is made or brought back' : 'copies are made or brought back'}`;
  return [
    ['Images', `${number(storage.images)}, ${bytes(storage.bytes)}`],
    ['In one copy only', single],
    ['Second copies', archiveIn(archive)],
    ['Waiting for the archive', waiting(archive)],
    ['Being brought back', archive.restoring && h('span', {}, `${number(archive.restoring.done)} of ${number(archive.restoring.total)} `,
      h('progress', { max: archive.restoring.total, value: archive.restoring.done, 'aria-label': 'Images brought back from the archive' }))],
    ['Newest backup', backups.newest ? time(momentOf(backups.newest)) : 'none yet'],
    ['Newest without a fault', backups.newestVerified && backups.newestVerified !== backups.newest && time(momentOf(backups.newestVerified))],
    ['Uploaded since then', backups.newest && (backups.notBackedUp ? count(backups.notBackedUp, 'image') : 'nothing')],
  ];
}

function archiveIn({ mode, reachable }) {
  if (!reachable) return 'the archive cannot be reached at the moment';
  return mode === 'sync' ? 'are made before an upload is answered' : 'follow a moment after an upload is answered';
}

function waiting({ behindImages, behindSeconds }) {
  if (behindImages === null) return 'not known yet';
  return behindImages ? `${count(behindImages, 'image')}, the oldest for ${span(behindSeconds)}` : 'nothing';
}

function checks({ checks: all, persistence }) {
  const sorted = Object.entries(all).toSorted(([, a], [, b]) => RANK[a.status] - RANK[b.status]);
  const amiss = sorted.filter(([, check]) => check.status !== 'ok').length;
  const summary = amiss ? `${count(amiss, 'check')} of ${sorted.length} ${amiss === 1 ? 'needs' : 'need'} looking after` : `All ${sorted.length} checks are well`;
  return h('details', { class: 'checks', open: amiss > 0 }, h('summary', { text: summary }), h('ul', {}, sorted.map(([name, { status, message }]) => {
    const [sign, level] = LEVELS[status] ?? LEVELS.warn;
    const well = h('span', {}, h('span', { 'aria-hidden': 'true', text: sign }), h('span', { class: 'hidden-visually', text: 'well' }));
    return h('li', { class: level }, h('div', {}, h('strong', { text: CHECKS[name] ?? name }), ' ', status === 'ok' ? well : h('span', { text: sign })),
      h('p', {}, message === persistence.warning ? 'See above.' : coded(readable(message))));
  })));
}
