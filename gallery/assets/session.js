// Who is signed in, and what is amiss with the server: the two things that both pages show at their top.
import { api, network } from './api.js';
import { ask } from './dialogs.js';
import { $, count, fill, h, readable, toast } from './dom.js';

const OPEN = { signedIn: false, needsToken: false, read: 'open', scopes: ['read', 'upload', 'admin'], name: null };
let state = OPEN;
let asking = null;
/** How often the server was asked who is signed in. */
let asked = 0;
/** Takes away what was said at the last sign-in. */
let welcomed = () => {};
/** What the token of the server's own setting is called by the API. */
const UNNAMED = 'API_TOKEN';
const listeners = new Set();

/** Whether whoever looks at the page may do what needs this scope: "read", "upload" or "admin". */
export const may = (scope) => state.scopes.includes(scope);
/** The same, but asks for a token where that may help, and says so where it does not. */
export async function allow(scope) {
  if (!may(scope) && !state.signedIn) await signIn();
  if (!may(scope) && state.signedIn) toast('The token you signed in with does not allow this.');
  return may(scope);
}

/** Calls `listener` with the session once it is known, and after each sign-in and sign-out, of which its second argument tells. */
export const onSession = (listener) => listeners.add(listener);

/** Shows who is signed in, and keeps watching the server. Call it once. */
export async function start() {
  network.addEventListener('unauthorized', () => signIn());
  network.addEventListener('unreached', () => show('offline', 'The server cannot be reached. What you see may be old.', { bad: true }));
  network.addEventListener('reached', () => show('offline', null));
  await refresh();
  look();
  const watch = () => document.hidden || look();
  setInterval(watch, 30_000);
  for (const event of ['online', 'focus']) addEventListener(event, watch);
  document.addEventListener('visibilitychange', watch);
}

async function refresh({ moved = false } = {}) {
  asked += 1;
  const turn = asked;
  try {
    const now = await api('GET', '/api/session');
    // Somebody signed in or out while this was on its way.
    if (turn !== asked) return;
    state = now;
  } catch (problem) {
    if (!problem.isOffline && problem.status !== 404) throw problem;
  }
  draw();
  for (const listener of listeners) listener(state, moved);
}

function draw() {
  const leave = h('button', { type: 'button', class: 'plain', text: 'Sign out', on: { click: signOut } });
  const enter = h('button', { type: 'button', text: 'Sign in', on: { click: () => signIn() } });
  const name = h('span', { class: 'muted', text: !state.name || state.name === UNNAMED ? 'Signed in' : state.name });
  fill($('#session'), state.signedIn ? [name, leave] : state.needsToken && enter);
}

/** Asks for a token until it is right or the dialog is dismissed. */
export function signIn() {
  asking ??= askForToken().finally(() => { asking = null; });
  return asking;
}

async function askForToken() {
  const input = h('input', { type: 'password', name: 'token', autocomplete: 'current-password', required: true, autofocus: true });
  const content = h('div', { class: 'fields' }, h('label', {}, 'Token', input),
    h('p', { class: 'muted' }, 'The server printed one when it first started, or whoever runs it made one, as with ',
      h('code', { text: 'keepsake token new laptop --scope admin' }), '.'));
  const check = async () => {
    try {
      const answer = await fetch('/api/session', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ token: input.value.trim() }) });
      if (answer.ok) return null;
      if (answer.status === 401) return 'This token is not known here.';
      const problem = await answer.json().catch(() => ({}));
      return problem.detail ?? `The server answered ${answer.status}.`;
    } catch {
      return 'The server cannot be reached.';
    }
  };
  if (await ask('Sign in', content, [{ label: 'Sign in', value: 'in', kind: 'primary' }, { label: 'Cancel', value: null }], { check }) === 'in') {
    await refresh({ moved: true });
    welcomed();
    welcomed = toast('You are signed in.');
    return true;
  }
  return false;
}

async function signOut() {
  await api('DELETE', '/api/session');
  welcomed();
  await refresh({ moved: true });
}

let looks = 0;
/** Which of them was the last to be answered. */
let seen = 0;
/** Asks how the store is, and says at the top what is amiss. */
export async function look() {
  looks += 1;
  const turn = looks;
  let health;
  try {
    const answer = await fetch('/api/health');
    health = await answer.json();
    network.dispatchEvent(new Event('reached'));
  } catch {
    network.dispatchEvent(new Event('unreached'));
    return null;
  }
  // A later one may have been answered earlier.
  if (turn < seen) return health;
  seen = turn;
  const { writable, warning } = health.persistence ?? {};
  const why = health.checks?.persistence?.status === 'error' ? 'a place where images should lie is not there' : 'the disk is full or read-only';
  show('writable', writable === false ? `Nothing can be saved at the moment: ${why}. What is stored is safe and can be seen.` : null, { bad: true });
  const elsewhere = location.pathname !== '/safety';
  show('amiss', writable !== false && elsewhere ? amiss(health) : null, { link: ['/safety', health.storage?.missing ? 'What to do about it' : 'What it is'] });
  const passes = warning?.startsWith('Storage may be ephemeral') && 'Your images may be gone after the next restart or deployment.';
  show('persistence', elsewhere ? passes || warning : null, { more: passes && warning, link: ['/safety', 'What to do'] });
  return health;
}

/** What is amiss with how the images are kept, in a sentence; null where nothing is. */
function amiss({ checks = {}, storage: { missing } = {} }) {
  if (missing) {
    return missing === 1 ? '1 image is missing from where it belongs. You see its second copy, if there is one.'
      : `${count(missing, 'image')} are missing from where they belong. You see their second copies, as far as there are any.`;
  }
  const any = Object.entries(checks).some(([name, { status }]) => name !== 'persistence' && status !== 'ok');
  return any ? 'Something about how the images are kept needs looking after.' : null;
}

/** Shows a banner, or with a `text` of null takes it away. `more` is said after it where there is room for it. */
export function show(key, text, { bad = false, more = null, link = null } = {}) {
  const old = $(`[data-banner="${key}"]`);
  const said = JSON.stringify([text, more]);
  if (old?.dataset.said === said) return;
  old?.remove();
  if (!text) return;
  const to = link && h('a', { href: link[0], text: link[1] });
  $('#banner').append(h('div', { class: bad ? 'banner bad' : 'banner', role: bad ? 'alert' : 'status', data: { banner: key, said } },
    h('span', {}, readable(text), more && h('span', { class: 'more' }, ' ', readable(more))), ' ', to ?? ''));
}
