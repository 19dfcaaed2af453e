// The gallery: what its parts do with each other.
import { api, network } from '../api.js';
import { $, announce, count, h, toast } from '../dom.js';
import { allow, onSession, start } from '../session.js';
import { Chosen } from './chosen.js';
import { Filters } from './filters.js';
import { askForBatch, askForLink, askToDescribe } from './forms.js';
import { Grid } from './grid.js';
import { asSeen, attempt, groupPath, heading, makeGroup, newGroupId, Order } from './groups.js';
import { List } from './list.js';
import { Panel } from './panel.js';
import { go, leave, moves, place, UNFILTERED } from './place.js';
import { Queue } from './queue.js';
import { each, remove } from './removal.js';
import { Selection } from './selection.js';
import { listen } from './sources.js';
import { showState } from './state.js';
import { fetching, nameOf } from './tile.js';
import { Viewer } from './viewer.js';

/** The most items that "Select all" loads and selects. */
const MOST_SELECTED = 10_000;
/** The most items that a list gets at once. */
const MOST_NEW = 1000;

const selection = new Selection();
const queue = new Queue();
const filters = new Filters();
const order = new Order();
/** The lists that were shown last, by what they show, with where one was in them. */
const lists = new Map();
let list = null;
let shown = null;

const grid = new Grid($('#grid'), selection, { open, remove: removeSelected, all: selectAll, move: moveTile, drop: (from, to) => moveTile(from, to - from) });
const viewer = new Viewer({
  moved: (item) => go({ image: item.id }, { replace: true }),
  closed: async () => { if (await viewer.mayLeave()) leave({ image: '' }); },
  remove: removeViewed,
  changed: put,
  openGroup: (group) => go({ ...UNFILTERED, group, image: '' }, { replace: true }),
});
const chosen = new Chosen(selection, {
  group: () => makeGroup(selected(), (group) => { grouped(group); selection.clear(); grid.focus(list.index(group.id)); }),
  describe: describeSelected, remove: removeSelected, all: selectAll, clear: () => { selection.clear(); grid.focus(); },
  earlier: () => moveSelected(-1), later: () => moveSelected(1), title: makeTitle, ungroup: takeOut,
});
new Panel(queue);

const selected = () => list.items.filter(({ id }) => selection.has(id));

// Where one is.

function keyOf({ q, category, withoutCategory, type, group }) { return JSON.stringify(group ? { group } : { q, category, withoutCategory, type }); }

async function route() {
  const here = place();
  const key = keyOf(here);
  if (key !== shown) show(key, here);
  if (here.image) {
    await list.need(grid.active);
    await attempt(async () => viewer.show(here.image, list)) || go({ image: '' }, { replace: true });
  } else if (viewer.isOpen) {
    const { index } = viewer;
    viewer.close();
    grid.focus(index >= 0 ? index : grid.active);
  }
}

function show(key, here) {
  const first = shown === null;
  const { group: cameFrom } = first ? {} : JSON.parse(shown);
  if (!first) lists.set(shown, { list, top: scrollY, active: grid.active });
  // The whole list and the last few others are kept; groups are small and come anew.
  for (const old of [...lists.keys()].slice(0, -4)) forget(old);
  const kept = here.group ? null : lists.get(key);
  if (here.group) forget(key);
  shown = key;
  selection.clear();
  list = kept?.list ?? new List(JSON.parse(key));
  lists.set(key, { list, top: 0, active: 0 });
  if (!kept) list.addEventListener('change', changed);
  filters.show(here);
  heading(list.group, here.group, onHeading);
  grid.show(list, { name: here.group ? 'Images of the group' : 'Images', movable: Boolean(here.group), active: kept?.active ?? 0 });
  changed({ target: list });
  list.need(0);
  if (!first) scrollTo({ top: kept?.top ?? 0 });
  if (kept && cameFrom) grid.focus(Math.max(0, list.index(cameFrom)));
  else if (!first && (here.group || cameFrom)) $('#main').focus({ preventScroll: true });
}

function forget(key) {
  lists.get(key)?.list.close();
  lists.delete(key);
}

/** What others show may be wrong now: they come anew when they are shown. */
function forgetOthers() { for (const key of [...lists.keys()]) if (key !== shown) forget(key); }

function reload() {
  forgetOthers();
  forget(shown);
  shown = null;
  route();
}

let told = null;
function changed({ target }) {
  if (target !== list) return;
  const here = place();
  grid.update();
  heading(list.group, here.group, onHeading);
  document.title = [list.group?.title, 'Keepsake'].filter(Boolean).join(' · ');
  const filtered = Boolean(here.q || here.category || here.withoutCategory || here.type);
  showState(list, filtered, { pick: pickFiles, clear: () => go({ ...UNFILTERED, group: '' }), retry: () => list.retry() });
  chosen.draw(list);
  filters.learn(list.items.slice(-MOST_NEW));
  if (filtered && told !== shown && (list.complete || list.items.length)) {
    told = shown;
    announce(`${count(list.length, 'result')}.`);
  }
}

function open(index) {
  const item = list.items[index];
  if (item.type === 'group') go({ ...UNFILTERED, group: item.groupId ?? item.id, image: '' });
  else go({ image: item.id });
}

// Changes.

/** Shows an item that has changed, in every list. */
function put(item) {
  if (item.groupId) return syncGroup(item.groupId);
  for (const other of lists.values()) other.list.put(item);
  return undefined;
}

function grouped(group) {
  for (const other of lists.values()) other.list.absorb(group);
  heading(list.group, place().group, onHeading);
}

async function syncGroup(id) {
  try {
    grouped(await api('GET', groupPath(id)));
  } catch (problem) {
    if (problem.status !== 404) return;
    forgetOthers();
    if (place().group === id) leave({ group: '', image: '' });
    else reload();
  }
}

async function removeSelected() {
  const items = selected();
  const at = grid.active;
  const { group } = place();
  if (await removeItems(items, group)) {
    selection.drop(items.map(({ id }) => id));
    grid.focus(Math.min(at, list.length - 1));
  }
}

const removeItems = (items, group) => remove(items, list, {
  undone: () => viewer.isOpen || grid.focus(list.index(items[0].id)),
  stale: ({ id }) => syncGroup(id),
  done: () => {
    filters.refresh();
    if (group) syncGroup(group);
  },
});

async function removeViewed(item) {
  const next = viewer.neighbour(1) ?? viewer.neighbour(-1);
  if (!await removeItems([item], item.groupId)) return;
  if (next) go({ image: next.id }, { replace: true });
  else leave({ image: '' });
}

async function describeSelected() {
  if (!await allow('upload')) return;
  const items = selected().flatMap((item) => (item.type === 'group' ? item.files : [item]));
  const json = await askToDescribe(items);
  if (!json) return;
  const groups = new Set();
  const failed = await each(items, async (item) => {
    const now = await api('PATCH', `/api/images/${encodeURIComponent(item.id)}`, { json });
    if (now.groupId) groups.add(now.groupId);
    else put(now);
  });
  for (const id of groups) await syncGroup(id);
  const problem = [...failed.values()][0];
  toast(problem ? `${count(failed.size, 'item')} could not be changed: ${problem.message}` : `${count(items.length, 'item')} changed.`, { seconds: problem ? 12 : 6 });
  if (!failed.size) selection.clear();
}

async function selectAll() {
  await list.all(MOST_SELECTED);
  selection.add(list.items.slice(0, MOST_SELECTED));
  if (!list.complete) toast(`Only the first ${count(selection.size, 'item')} are selected.`);
}

// Groups.

const onHeading = {
  back: () => leave({ group: '', image: '' }),
  changed: grouped,
  gone: () => { forgetOthers(); leave({ group: '', image: '' }); },
  stale: syncGroup,
  add: () => pickFiles(),
  remove: async () => {
    const { group } = list;
    if (!await allow('admin')) return;
    await leave({ group: '', image: '' });
    await remove([group], list, {
      // The list need not have come as far as the group.
      undone: () => { grouped(group); grid.focus(list.index(group.id)); },
      stale: ({ id }) => syncGroup(id),
      done: () => { filters.refresh(); if (place().group === group.id) syncGroup(group.id); },
    });
  },
};

function moveTile(from, by) {
  const item = list.items[from];
  arrange(new Set([item.id]), from + by);
  grid.focus(list.index(item.id));
}

function moveSelected(by) {
  const at = selected().map(({ id }) => list.index(id));
  arrange(new Set(selection.ids), by < 0 ? Math.min(...at) - 1 : Math.max(...at) + 2 - at.length);
}

async function arrange(ids, to) {
  if (!await allow('upload')) return;
  list.move(ids, to);
  const { group } = list;
  const first = list.items.findIndex(({ id }) => ids.has(id));
  announce(`${ids.size === 1 ? nameOf(list.items[first]) : count(ids.size, 'image')}: place ${first + 1} of ${list.length}.`);
  order.soon(group, list.items.map(({ id }) => id), { took: grouped, failed: () => syncGroup(group.id) });
}

/** Changes the group that is open as it is shown; what it is then is shown, whether or not that was done. Returns whether it was. */
async function changeGroup(rest, json) {
  const { group } = list;
  if (await attempt(async () => grouped(await api('PUT', groupPath(group.id, rest), { json, headers: asSeen(group) })))) return true;
  await syncGroup(group.id);
  return false;
}

async function makeTitle() {
  const [titleImage] = selection.ids;
  if (await allow('upload') && await changeGroup('/title', { titleImage })) toast('It is the title image now.');
}

async function takeOut() {
  if (!await allow('upload')) return;
  const files = list.group.files.map(({ id }) => id).filter((id) => !selection.has(id));
  if (!files.length) return void toast('To take all of them out, dissolve the group.');
  if (!await changeGroup('', { files })) return;
  selection.clear();
  forgetOthers();
}

// Uploads.

const titles = new Map();
const waiting = new Map();

async function take(files) {
  if (!files.length || $('dialog[open]') || !await allow('upload')) return;
  const { category, withoutCategory, group } = place();
  const batch = await askForBatch(files, { category: withoutCategory ? '' : category || undefined, group: group && list.group });
  if (!batch) return;
  const groupId = !batch.asGroup ? undefined : group || newGroupId();
  if (groupId && !group && batch.title) titles.set(groupId, batch.title);
  const start = 1 + Math.max(0, ...(groupId && list.group?.files || []).map((file, at) => Math.max(at + 1, Number(file.order) || 0)));
  queue.add(files, { category: batch.category, description: batch.description, groupId, order: start });
}

queue.addEventListener('stored', ({ detail: item }) => {
  filters.learn([item]);
  if (!item.groupId) return put(item);
  // A group is fetched once for all that comes at about the same time.
  clearTimeout(waiting.get(item.groupId));
  waiting.set(item.groupId, setTimeout(async () => {
    const title = titles.get(item.groupId);
    titles.delete(item.groupId);
    if (title) await attempt(() => api('PUT', groupPath(item.groupId, '/title'), { json: { title } }));
    await syncGroup(item.groupId);
  }, 400));
  return undefined;
});

queue.addEventListener('change', () => { fetching.most = queue.isBusy ? 2 : 4; });

const pick = listen(take);
async function pickFiles() { if (await allow('upload')) pick(); }

$('#link').addEventListener('click', async () => {
  if (!await allow('upload')) return;
  const { category, group } = place();
  const item = await askForLink(category, (json) => api('POST', '/api/upload-link', { json: { ...json, groupId: group || undefined } }));
  if (item) put(item);
});

// The page.

addEventListener('keydown', (event) => {
  if (event.target.closest('input, textarea, select, dialog') || viewer.isOpen) return;
  if (event.key === '/') $('#find [name=q]').focus();
  else if (event.key === 'Escape' && selection.size) {
    selection.clear();
    grid.focus();
  } else return;
  event.preventDefault();
});
let wasUnreached = false;
network.addEventListener('unreached', () => { wasUnreached = true; });
network.addEventListener('reached', () => {
  if (list?.problem?.isOffline) list.retry();
  if (wasUnreached) grid.repair();
  wasUnreached = false;
});
document.body.append(h('datalist', { id: 'categories' }));
history.scrollRestoration = 'manual';
moves.addEventListener('moved', route);
let session = null;
onSession(({ scopes }, moved) => {
  // The list may have been asked for by whoever had not signed in yet.
  if (session === null ? moved : session !== scopes.join()) reload();
  session = scopes.join();
});
route();
start().catch((problem) => toast(problem.message));
