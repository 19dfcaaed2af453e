// Symbols for buttons, drawn here: a font may lack them.
import { h } from '../dom.js';

const SPACE = 'http://www.w3.org/2000/svg';
const PATHS = {
  close: 'M6 6l12 12M18 6L6 18',
  previous: 'M15 5l-7 7 7 7',
  next: 'M9 5l7 7-7 7',
  larger: 'M12 5v14M5 12h14',
  smaller: 'M5 12h14',
  download: 'M12 4v11M7 11l5 5 5-5M5 20h14',
  details: 'M12 11v6M12 7v.5M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18',
  remove: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13',
  fold: 'M6 9l6 6 6-6',
  unfold: 'M6 15l6-6 6 6',
};

/** A symbol of 24 pixels; it is nothing to read out. */
export function icon(name) {
  const make = (tag, attributes) => {
    const element = document.createElementNS(SPACE, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const svg = make('svg', { viewBox: '0 0 24 24', width: 24, height: 24, 'aria-hidden': 'true', class: 'drawn' });
  svg.append(make('path', { d: PATHS[name] }));
  return svg;
}

/** A button that shows a symbol and is called `label`. */
export function iconButton(name, label, click, props = {}) {
  return h('button', { type: 'button', class: 'icon', 'aria-label': label, title: label, on: { click }, ...props }, icon(name));
}
