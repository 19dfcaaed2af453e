// The search, and the choices of category and type.
import { api } from '../api.js';
import { $, fill, h } from '../dom.js';
import { onSession } from '../session.js';
import { go, place } from './place.js';

const PAUSE = 300;
/** The choice of images without a category. No category has white space around it. */
const NONE = ' ';

export class Filters {
  #form = $('#find');
  #categories = new Set();
  #timer = null;

  constructor() {
    const { q, category, type } = this.#form.elements;
    const search = (replace) => {
      clearTimeout(this.#timer);
      go({ q: q.value.trim(), group: '' }, { replace });
    };
    q.addEventListener('input', () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => search(Boolean(place().q)), PAUSE);
    });
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      search(Boolean(place().q));
    });
    type.addEventListener('change', () => go({ type: type.value, group: '' }));
    category.addEventListener('change', () => {
      const none = category.value === NONE;
      go({ category: none ? '' : category.value, withoutCategory: none ? 'true' : '', group: '' });
    });
    onSession(() => this.refresh());
  }

  /** Shows what the address asks for. */
  show(here) {
    const { q, category, type } = this.#form.elements;
    if (q !== document.activeElement || q.value.trim() !== here.q) q.value = here.q;
    if (here.category) this.#add([here.category]);
    if (here.withoutCategory) this.#add(['']);
    category.value = here.withoutCategory ? NONE : here.category;
    type.value = here.type;
  }

  /** Asks which categories there are. */
  async refresh() {
    const storage = await api('GET', '/api/storage').catch(() => null);
    this.#add((storage?.byCategory ?? []).map(({ category }) => category));
  }

  /** Takes up the categories of these items. */
  learn(items) { this.#add(items.map(({ category }) => category ?? '')); }

  #add(names) {
    const before = this.#categories.size;
    for (const name of names) this.#categories.add(name);
    if (this.#categories.size === before) return;
    const sorted = [...this.#categories].filter(Boolean).sort((a, b) => a.localeCompare(b));
    const none = this.#categories.has('') && h('option', { value: NONE, text: 'Without a category' });
    const { category } = this.#form.elements;
    const { value } = category;
    fill(category, h('option', { value: '', text: 'All categories' }), none, sorted.map((name) => h('option', { value: name, text: name })));
    category.value = value;
    fill($('#categories'), sorted.map((name) => h('option', { value: name })));
  }
}
