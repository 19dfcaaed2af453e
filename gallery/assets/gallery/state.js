// What stands where there are no images: nothing here yet, nothing found, on its way, or why it cannot be had.
import { $, fill, h } from '../dom.js';
import { may, signIn } from '../session.js';

/** `on`: `pick()`, `clear()`, `retry()`. */
export function showState(list, filtered, on) {
  const place = $('#state');
  const [key, make] = which(list, filtered, on);
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  fill(place, make());
}

function which(list, filtered, on) {
  const { problem } = list;
  // The button is about to go; what comes in its place has the focus then.
  const press = (click) => () => {
    $('#main').focus({ preventScroll: true });
    click();
  };
  const button = (text, click, kind = '') => h('button', { type: 'button', class: kind, text, on: { click: press(click) } });
  const box = (title, text, ...buttons) => h('div', { class: 'box' }, h('h2', { text: title }), text && h('p', { text }), h('div', { class: 'actions' }, buttons));
  if (problem?.status === 401) {
    return ['401', () => box('These images are private', 'Sign in to see them.', button('Sign in', () => signIn(), 'primary'))];
  }
  if (problem?.status === 404) return ['404', () => box('There is no such group', 'It may have been dissolved or deleted.', button('Show all images', on.clear))];
  if (problem) {
    return [`problem ${problem.message}`, () => box(list.items.length ? 'The rest could not be loaded' : 'The images could not be loaded', problem.message, button('Try again', on.retry, 'primary'))];
  }
  if (!list.complete && !list.items.length) return ['loading', () => h('p', { class: 'muted late', text: 'Loading…' })];
  if (list.length) return ['', () => []];
  if (filtered) return ['nothing found', () => box('Nothing matches', 'No image has these words, this category and this type.', button('Clear the search', on.clear))];
  if (!may('upload')) return ['empty', () => box('There are no images here yet', null, button('Sign in to upload', on.pick))];
  return ['empty, may upload', () => h('div', { class: 'box drop-here' }, h('h2', { text: 'Drop photos here' }), h('p', { text: 'Or paste them, or choose them. They are kept bit for bit as they are.' }),
    h('div', { class: 'actions' }, button('Choose photos', on.pick, 'primary')))];
}
