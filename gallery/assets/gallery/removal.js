// Deleting, which can be undone for some seconds: so long nothing is sent.
import { api } from '../api.js';
import { count, toast } from '../dom.js';
import { allow } from '../session.js';
import { asSeen, groupPath, isStale } from './groups.js';

const SECONDS = 8;
const AT_ONCE = 3;
/** What is yet to be deleted: each a function that does it now. */
const pending = new Set();
/** Takes away what was said of the last one that was undone. */
let told = () => {};

/** Deletes an image, or a group as it was seen: what came into it since, nobody here has meant. */
const drop = (item, keepalive) => (item.type === 'group' ? api('DELETE', groupPath(item.id), { headers: asSeen(item), keepalive })
  : api('DELETE', `/api/images/${encodeURIComponent(item.id)}`, { keepalive }));

/** Takes items out of `list`, and deletes them if nobody undoes it. `undone` is called when they are back, and `stale` with each
 * group that stays because it is another by now. */
export async function remove(items, list, { undone, done, stale } = {}) {
  if (!items.length || !await allow('admin')) return false;
  told();
  const taken = list.take(new Set(items.map(({ id }) => id)));
  const images = items.reduce((sum, item) => sum + (item.type === 'group' ? item.fileCount ?? 1 : 1), 0);
  const back = (which) => {
    list.restore(taken, which);
    undone?.();
  };
  const commit = async (keepalive = false) => {
    if (!pending.delete(commit)) return;
    removeEventListener('keydown', key);
    const failed = await each(items, (item) => drop(item, keepalive), keepalive);
    if (failed.size) {
      back(new Set(failed.keys()));
      const others = items.filter(({ id, type }) => type === 'group' && failed.has(id) && isStale(failed.get(id)));
      for (const group of others) {
        failed.delete(group.id);
        await stale?.(group);
        toast(`The group ${group.title ? `"${group.title}" ` : ''}changed meanwhile, so nothing of it was deleted. It is shown as it is now.`, { seconds: 12 });
      }
      if (failed.size) toast(`${count(failed.size, 'item')} could not be deleted: ${[...failed.values()][0].message}`, { seconds: 12 });
    }
    done?.();
  };
  const undo = () => {
    pending.delete(commit);
    removeEventListener('keydown', key);
    back(new Set(items.map(({ id }) => id)));
    told = toast('Nothing was deleted.');
  };
  const key = (event) => {
    if (event.key !== 'z' || !(event.ctrlKey || event.metaKey) || event.target.closest('input, textarea')) return;
    event.preventDefault();
    close(true);
    undo();
  };
  pending.add(commit);
  addEventListener('keydown', key);
  const close = toast(`${count(images, 'image is', 'images are')} being deleted.`, { action: { label: 'Undo', run: undo }, seconds: SECONDS, gone: commit });
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
