// The bar that says how much is selected, and what can be done with it.
import { $, fill, h, number } from '../dom.js';

/** `actions`: by name what a button does; those of an order are only there in a group. */
export class Chosen {
  #selection; #actions; #root = $('#chosen');
  #text = h('strong', { role: 'status' });

  constructor(selection, actions) {
    this.#selection = selection;
    this.#actions = actions;
    selection.addEventListener('change', () => this.draw());
  }

  /** `list`: the list on the page; what was selected and is gone from it is selected no more. */
  draw(list = this.list) {
    this.list = list;
    const { size } = this.#selection;
    this.#root.hidden = size === 0;
    if (!size) return this.#root.replaceChildren();
    const text = `${number(size)} selected`;
    if (this.#text.textContent !== text) this.#text.textContent = text;
    const inGroup = Boolean(list.group);
    const state = `${inGroup} ${size > 1}`;
    // The buttons stay the same elements while they do, so that they keep the focus.
    if (this.#root.dataset.state === state && this.#root.firstChild) return undefined;
    this.#root.dataset.state = state;
    const button = (name, text, props = {}) => h('button', { type: 'button', text, ...props, on: { click: this.#actions[name] } });
    fill(this.#root, this.#text,
      h('div', { class: 'what' },
        inGroup && [button('earlier', 'Move earlier'), button('later', 'Move later'), size === 1 && button('title', 'Make title image'), button('ungroup', 'Take out of the group')],
        !inGroup && button('group', 'Group'), button('describe', 'Describe'), button('remove', 'Delete', { class: 'danger' })),
      h('div', { class: 'which' }, button('all', 'Select all'), button('clear', 'Clear selection')));
    return undefined;
  }
}
