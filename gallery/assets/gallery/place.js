// Where one is in the gallery: all of it is in the address, so that it can be shared and the back button works.
const NAMES = ['q', 'category', 'withoutCategory', 'type', 'group', 'image'];
/** What shows everything. */
export const UNFILTERED = { q: '', category: '', withoutCategory: '', type: '' };
export const moves = new EventTarget();

/** What the address asks for; what it does not name is empty. */
export function place() {
  const query = new URLSearchParams(location.search);
  return Object.fromEntries(NAMES.map((name) => [name, query.get(name) ?? '']));
}

/** Goes to another place; names that are not given stay as they are. `replace`: without a step in the history. */
export function go(change, { replace = false } = {}) {
  const query = new URLSearchParams();
  const next = { ...place(), ...change };
  for (const name of NAMES) if (next[name]) query.set(name, next[name]);
  const address = `${location.pathname}${query.size ? `?${query}` : ''}`;
  if (address === location.pathname + location.search) return;
  history[replace ? 'replaceState' : 'pushState']({ inside: !replace || history.state?.inside }, '', address);
  moves.dispatchEvent(new Event('moved'));
}

/** Leaves a place that `go` led to, as the back button would; where one came from elsewhere, goes to `change` instead. Resolves
 * once one is there. */
export function leave(change) {
  const there = new Promise((resolve) => moves.addEventListener('moved', resolve, { once: true }));
  if (history.state?.inside) history.back();
  else go(change, { replace: true });
  return there;
}

addEventListener('popstate', () => moves.dispatchEvent(new Event('moved')));
