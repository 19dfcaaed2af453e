// The items of one list, which come from the API page by page as far as they are looked at.
import { api } from '../api.js';

const PAGE = 200;
const LARGE_PAGE = 1000;

/** Where an item stands among others, newest first, in milliseconds since 1970. */
const moment = ({ queuedAt, uploadDate }) => Date.parse(queuedAt ?? uploadDate ?? '') || 0;

/** Events: `change` (other items, another length, a failure or its end). */
export class List extends EventTarget {
  items = [];
  /** Whether everything has come. */
  complete = false;
  /** Why the next page could not be had. */
  problem = null;
  /** The group that is listed, where it is one. */
  group = null;
  #query;
  #total = null;
  /** Where the server has not counted all. */
  #atLeast = 0;
  #next = null;
  #wanted = 0;
  #loading = null;
  #stop = new AbortController();
  #known = new Set();
  /** Items that were taken out here, and may still come from the server. */
  #hidden = new Set();

  /** `query`: `q`, `category`, `withoutCategory`, `type`, or a `group`, which is listed in its own order. */
  constructor(query) {
    super();
    this.#query = query;
  }

  /** How many items there are, as far as is known: those that are to come count too. */
  get length() {
    if (this.complete || this.problem) return this.items.length;
    return Math.max(this.#total ?? this.#atLeast, this.items.length + (this.#total === null && this.items.length ? PAGE / 4 : 0));
  }

  get isLoading() { return this.#loading !== null; }

  /** Sees to it that the item at this place, and those after it, are here soon. Only what was asked for last counts. */
  need(index) {
    this.#wanted = index;
    if (!this.#loading && !this.complete && !this.problem && index + PAGE > this.items.length) this.#load();
    return this.#loading;
  }

  /** Loads everything there is, of at most so many. */
  async all(most) {
    while (!this.complete && !this.problem && this.items.length < most) await this.need(Math.min(this.length, most));
  }

  retry() {
    this.problem = null;
    return this.need(this.#wanted);
  }

  close() { this.#stop.abort(); }

  async #load() {
    let done;
    this.#loading = new Promise((resolve) => { done = resolve; });
    try {
      while (!this.complete && this.#wanted + PAGE > this.items.length) {
        await this.#page();
        this.#changed();
      }
    } catch (problem) {
      if (problem.name !== 'AbortError') this.problem = problem;
    }
    this.#loading = null;
    done();
    if (!this.#stop.signal.aborted) this.#changed();
  }

  async #page() {
    const { signal } = this.#stop;
    if (this.#query.group) {
      this.group = await api('GET', `/api/groups/${encodeURIComponent(this.#query.group)}`, { signal });
      this.#add(this.group.files);
      this.complete = true;
      return;
    }
    const limit = this.#wanted > this.items.length + 2 * PAGE ? LARGE_PAGE : PAGE;
    const page = await api('GET', '/api/images', { query: { ...this.#query, limit, cursor: this.#next }, signal });
    this.#add(page.images);
    this.#next = page.next ?? null;
    this.complete = !page.next;
    if (typeof page.total === 'number') this.#total = page.total - this.#hidden.size;
    if (typeof page.totalAtLeast === 'number') this.#atLeast = page.totalAtLeast - this.#hidden.size;
  }

  #add(items) {
    for (const item of items) {
      if (this.#known.has(item.id) || this.#hidden.has(item.id)) continue;
      this.#known.add(item.id);
      this.items.push(item);
    }
  }

  #changed() { this.dispatchEvent(new Event('change')); }

  index(id) { return this.items.findIndex((item) => item.id === id); }

  /** Whether an item belongs into this list, as the server would judge. */
  #takes({ groupId, category, type, description, originalName, title, url }) {
    const { q, category: wanted, withoutCategory, type: kind, group } = this.#query;
    const words = (q ?? '').toLowerCase().split(/\s+/).filter(Boolean);
    const fields = [description, originalName, category, title, !url?.startsWith('/') && url].filter(Boolean).map((field) => field.toLowerCase());
    return (group ? groupId === group : (!wanted || wanted === category) && (!withoutCategory || !category)) && (!kind || kind === type)
      && words.every((word) => fields.some((field) => field.includes(word)));
  }

  /** Puts an item that is new or has changed where it belongs: where it was, else before what is older, in a group at the end. */
  put(item) {
    this.#hidden.delete(item.id);
    const at = this.index(item.id);
    if (at >= 0) this.items[at] = item;
    else if (this.#takes(item)) {
      this.#known.add(item.id);
      const older = this.#query.group ? -1 : this.items.findIndex((other) => moment(other) <= moment(item));
      this.items.splice(older < 0 ? this.items.length : older, 0, item);
      if (this.#total !== null) this.#total += 1;
    }
    this.#changed();
  }

  /** Shows what is in the group, in its order. */
  #arrange(group) {
    this.group = group;
    this.items = group.files.filter(({ id }) => !this.#hidden.has(id));
    this.#known = new Set(this.items.map(({ id }) => id));
    this.#changed();
  }

  /** Takes items out; returns what `restore` wants. */
  take(ids) {
    const taken = [];
    this.items = this.items.filter((item, at) => {
      if (!ids.has(item.id)) return true;
      taken.push([at, item]);
      this.#known.delete(item.id);
      return false;
    });
    for (const id of ids) this.#hidden.add(id);
    if (this.#total !== null) this.#total -= taken.length;
    this.#changed();
    return taken;
  }

  /** Puts items back where they were taken. */
  restore(taken, ids) {
    for (const id of ids) this.#hidden.delete(id);
    for (const [at, item] of taken) {
      if (!ids.has(item.id) || this.#known.has(item.id)) continue;
      this.#known.add(item.id);
      this.items.splice(Math.min(at, this.items.length), 0, item);
      if (this.#total !== null) this.#total += 1;
    }
    this.#changed();
  }

  /** Moves items to where the one at `to` is, in the order they have. */
  move(ids, to) {
    const moved = this.items.filter(({ id }) => ids.has(id));
    this.items = this.items.filter(({ id }) => !ids.has(id));
    this.items.splice(Math.max(0, Math.min(to, this.items.length)), 0, ...moved);
    this.#changed();
  }

  hides(id) { return this.#hidden.has(id); }

  /** Puts a group where it, or the first of its images, was, in place of them all; in its own list it is the list. */
  absorb(group) {
    if (this.#query.group === group.id) return this.#arrange(group);
    if (this.#query.group) return undefined;
    const members = new Set(group.files.map(({ id }) => id));
    const first = this.items.findIndex(({ id }) => members.has(id));
    if (first >= 0 && this.index(group.id) < 0) {
      this.items[first] = group;
      this.#known.add(group.id);
    }
    const before = this.items.length;
    this.items = this.items.filter(({ id }) => !members.has(id));
    if (this.#total !== null) this.#total -= before - this.items.length;
    return this.put(group);
  }
}
