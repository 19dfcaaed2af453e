// What is selected. Only ids are kept, so that it outlives what the list does.

/** Events: `change`. */
export class Selection extends EventTarget {
  ids = new Set();
  /** From where a range is selected. */
  anchor = 0;

  get size() { return this.ids.size; }
  has(id) { return this.ids.has(id); }

  toggle(id, index) {
    if (!this.ids.delete(id)) this.ids.add(id);
    this.anchor = index;
    this.#changed();
  }

  /** Selects everything from the anchor to `index`. */
  range(items, index) {
    const [from, to] = [Math.min(this.anchor, index), Math.max(this.anchor, index)];
    this.add(items.slice(from, to + 1));
  }

  add(items) {
    for (const { id } of items) this.ids.add(id);
    this.#changed();
  }

  drop(ids) {
    for (const id of ids) this.ids.delete(id);
    this.#changed();
  }

  clear() {
    if (!this.ids.size) return;
    this.ids.clear();
    this.#changed();
  }

  #changed() { this.dispatchEvent(new Event('change')); }
}
