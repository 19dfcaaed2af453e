// The safety page: whether the images stay, the backups, and what to do about either.
import { api, network } from '../api.js';
import { $, fill, h } from '../dom.js';
import { look, may, onSession, start } from '../session.js';
import { part as backups } from './backups.js';
import { section, sentence } from './parts.js';
import { storage } from './storage.js';
import { takeout } from './takeout.js';
import { upkeep } from './upkeep.js';
import { verdict } from './verdict.js';

const all = () => Promise.all([health(), stored(), listed()]);
const state = h('div', { class: 'part' });
const room = h('div', { class: 'part' });
const list = backups(upkeep(() => all()), () => all());
const drawn = {};
let unasked = false;

/** Draws a part anew, but only where it is about something else than before, and what nobody asked for not under someone's focus. */
function draw(key, place, about, show) {
  const now = JSON.stringify(about);
  if (drawn[key] === now || (unasked && place.contains(document.activeElement))) return;
  drawn[key] = now;
  show();
}

async function health() {
  const found = await look();
  if (!found) return;
  // These change all the time, and say nothing new.
  const about = { ...found, timestamp: null, uptime: null, storage: { ...found.storage, freeBytes: null } };
  draw('health', state, about, () => fill(state, verdict(found, all)));
}

async function stored() {
  if (!may('read')) return draw('room', room, null, () => fill(room));
  try {
    const is = await api('GET', '/api/storage');
    // Another program that writes to the disk is no reason to draw anew.
    draw('room', room, { ...is, available: Math.round(is.available / 1e7) }, () => fill(room, storage(is)));
  } catch (problem) {
    if (!drawn.room) fill(room, section('storage', 'Storage', h('p', { class: 'error', text: sentence(problem) })));
  }
}

async function listed() {
  if (!may('read')) return draw('backups', list.place, null, () => fill(list.place));
  try {
    const { backups } = await api('GET', '/api/backups');
    draw('backups', list.place, backups, () => list.show(backups));
  } catch (problem) {
    if (!drawn.backups) list.fail(problem);
  }
}

fill($('#main'), h('div', { class: 'page' }, h('h1', { text: 'Will the images still be here tomorrow?' }), state, list.element, room, takeout(() => all())));
await start();
await all();
onSession(all);
network.addEventListener('reached', () => drawn.health || health());
setInterval(async () => {
  if (document.hidden || $('dialog[open]')) return;
  unasked = true;
  await all().finally(() => { unasked = false; });
}, 20_000);
