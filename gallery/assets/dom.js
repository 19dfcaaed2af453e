// Making elements. Text is always text: nothing here or elsewhere reads a string as HTML.

/** An element. `props`: `class`, `text`, `on: {event: handler}`, `data: {…}`; anything else is an attribute (true: empty; false, null: none). */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'class') element.className = value;
    else if (name === 'text') element.textContent = value;
    else if (name === 'on') for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    else if (name === 'data') Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** Text of the server's for people, with what stands between backticks as code. */
export function readable(text) {
  const parts = (text ?? '').split('`');
  if (parts.length % 2 === 0) return [text];
  return parts.map((part, at) => (at % 2 ? h('code', { text: part }) : part)).filter((part) => part !== '');
}

export const $ = (selector, root = document) => root.querySelector(selector);

/** Replaces what is in an element. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB'];
/** Bytes for people: 1.5 MB. */
export function bytes(count) {
  let unit = 0;
  let value = count;
  while (value >= 999.5 && unit < UNITS.length - 1) { value /= 1000; unit += 1; }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });
/** A time of the API for people, in their own time zone. */
export const when = (time) => (time ? DATE.format(new Date(time)) : 'unknown');
export const number = (count) => new Intl.NumberFormat().format(count);
/** "1 image", "2 images". */
export const count = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;

/** Shows a message for some seconds, read out by screen readers; with `action`, a button: `{label, run}`. It stays while the pointer or the
 * focus is on it. `gone` is called when it went away without its action. Returns what takes it away. */
export function toast(text, { action, seconds = 6, gone } = {}) {
  let timer = null;
  const close = (acted = false) => {
    clearTimeout(timer);
    if (!element.isConnected) return;
    element.remove();
    if (!acted) gone?.();
  };
  const wait = () => { timer = setTimeout(close, seconds * 1000); };
  const stay = () => clearTimeout(timer);
  const button = action && h('button', { type: 'button', text: action.label, on: { click: () => { close(true); action.run(); } } });
  const on = { pointerenter: stay, pointerleave: wait, focusin: stay, focusout: wait };
  const element = h('div', { class: 'toast', on: action ? on : {} }, h('span', { text }), button);
  $('#toasts').append(element);
  wait();
  return close;
}

/** Has screen readers say something that the page shows in other ways. */
export function announce(text) {
  const place = $('#announce');
  place.textContent = '';
  setTimeout(() => { place.textContent = text; }, 50);
}
