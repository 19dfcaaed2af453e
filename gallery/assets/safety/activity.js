// What is going on, and what came of it: one thing at a time, said where the reader is, and read out.
import { $, fill, h } from '../dom.js';
import { sentence, span } from './parts.js';

let running = false;

/** Where it is shown. */
export const place = () => h('div', { id: 'activity', class: 'activity', tabindex: -1 }, h('div', { role: 'status', id: 'told' }));

/** Does `work`, says meanwhile that it is `doing` it, and afterwards what `told(answer)` says: `{text, more, actions}`. Resolves to
 * the answer, or to null where it failed, which has been said then. */
export async function run(doing, work, told) {
  if (running) {
    say('Something else is still going on. Wait until it has ended.', { bad: true });
    return null;
  }
  running = true;
  const begun = Date.now();
  const elapsed = h('span', { class: 'muted', 'aria-hidden': 'true' });
  const clock = setInterval(() => { elapsed.textContent = span((Date.now() - begun) / 1000); }, 1000);
  document.body.dataset.busy = '';
  show(h('p', {}, `${doing} …`), h('progress', { 'aria-label': doing }), elapsed);
  try {
    const answer = await work();
    const { text, ...rest } = told(answer);
    say(text, rest);
    return answer;
  } catch (problem) {
    if (problem.status === undefined) throw problem;
    say(problem.status === 409 ? `Not now: ${sentence(problem)}` : sentence(problem), { bad: true });
    return null;
  } finally {
    clearInterval(clock);
    running = false;
    delete document.body.dataset.busy;
  }
}

/** Says something that stays until something else is said. */
export function say(text, { bad = false, more = [], actions = [] } = {}) {
  const close = h('button', { type: 'button', class: 'plain', text: 'Dismiss', on: { click: () => { fill($('#told')); $('#main').focus(); } } });
  show(h('p', { class: bad ? 'error' : 'done', text }), more, h('div', { class: 'actions' }, actions, close));
}

function show(...content) {
  fill($('#told'), ...content);
  const activity = $('#activity');
  activity.focus({ preventScroll: true });
  activity.scrollIntoView({ block: 'nearest' });
}
