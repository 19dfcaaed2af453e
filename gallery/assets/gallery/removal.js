// Deleting, which can be undone for some seconds: so long nothing is sent.
import { api } from '../api.js';
import { count, toast } from '../dom.js';
import { allow } from '../session.js';

const SECONDS = 8;
const AT_ONCE = 3;
/** What is yet to be deleted: each a function that does it now. */
const pending = new Set();

const path = (item) => (item.type === 'group' ? `/api/groups/${encodeURIComponent(item.id)}` : `/api/images/${encodeURIComponent(item.id)}`);

/** Takes items out of `list`, and deletes them if nobody undoes it. `undone` is called when they are back. */
export async function remove(items, list, { undone, done } = {}) {
  if (!items.length || !await allow('admin')) return false;
  const taken = list.take(new Set(items.map(({ id }) => id)));
  const images = items.reduce((sum, item) => sum + (item.type === 'group' ? item.fileCount ?? 1 : 1), 0);
  const back = (which) => {
    list.restore(taken, which);
    undone?.();
  };
  const commit = async (keepalive = false) => {
    if (!pending.delete(commit)) return;
    removeEventListener('keydown', key);
    const failed = await each(items, (item) => api('DELETE', path(item), { keepalive }), keepalive);
    if (failed.size) {
      back(new Set(failed.keys()));
      toast(`${count(failed.size, 'item')} could not be deleted: ${[...failed.values()][0].message}`, { seconds: 12 });
    }
    done?.();
  };
  const undo = () => {
    pending.delete(commit);
    removeEventListener('keydown', key);
    back(new Set(items.map(({ id }) => id)));
    toast('Nothing was deleted.');
  };
  const key = (event) => {
    if (event.key !== 'z' || !(event.ctrlKey || event.metaKey) || event.target.closest('input, textarea')) return;
    event.preventDefault();
    close(true);
    undo();
  };
  pending.add(commit);
  addEventListener('keydown', key);
  const close = toast(`${count(images, 'image')} deleted.`, { action: { label: 'Undo', run: undo }, seconds: SECONDS, gone: commit });
  return true;
}

/** Does `work` for each item, some at once; returns the problems by id. What is gone already counts as done. */
export async function each(items, work, allAtOnce = false) {
  const failed = new Map();
  const queue = [...items];
  const worker = async () => {
    for (let item = queue.shift(); item; item = queue.shift()) {
      try {
        await work(item);
      } catch (problem) {
        if (problem.status !== 404) failed.set(item.id, problem);
      }
    }
  };
  await Promise.all(Array.from({ length: allAtOnce ? items.length : AT_ONCE }, worker));
  return failed;
}

// Whoever leaves the page meant what they deleted.
addEventListener('pagehide', () => { for (const commit of pending) commit(true); });
