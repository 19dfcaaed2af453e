// The queue of uploads: some at once, paused and taken up again, tried again, and no file stored twice.
import { network, serverTime } from '../api.js';
import { may, onSession } from '../session.js';
import { giveUp, key, send } from './send.js';

const AT_ONCE = 3;
const TRIES = 6;

/** What one file is up to: `state` is `waiting`, `running`, `done`, `failed` or `cancelled`. */
class Task {
  state = 'waiting';
  /** From 0 to 1. */
  progress = 0;
  problem = null;
  item = null;
  key = key();
  tries = 0;
  stop = null;
  ticket = null;
  /** Where its parts go. */
  upload = null;

  constructor(file, fields) {
    this.file = file;
    this.fields = fields;
  }

  /** Puts it back among those that wait. The parts that the server has it will have then too. */
  wait() { Object.assign(this, { state: 'waiting', problem: null, progress: this.upload ? this.progress : 0 }); }
}

/** Whether sending a file again is in vain: it would have to be another file, or another server. */
export const isHopeless = ({ status, type }) => [413, 415, 422].includes(status) || type === 'empty-file';

/** Events: `change`, and `stored` with a task's `item`. */
export class Queue extends EventTarget {
  tasks = [];
  /** Whether a person paused it. */
  paused = false;
  /** Why nothing is sent at the moment, where that is not a person's wish: `offline`, `full`, `closed` (no writes) or `signedOut`. */
  held = null;
  #again = null;
  /** Where the first file of the last selection stands in lists, in milliseconds since 1970. */
  #queuedAt = 0;

  constructor() {
    super();
    const release = (...reasons) => { if (reasons.includes(this.held)) this.#release(); };
    onSession(() => may('upload') && release('signedOut'));
    network.addEventListener('reached', () => release('offline'));
    addEventListener('online', () => release('offline'));
  }

  /** Adds files with the same fields; in a group each gets its place. Elsewhere they stand in the order of `files`, whatever is sent
   * first: lists show the newest first, so each file counts as chosen a millisecond before the one in front of it. */
  add(files, fields) {
    const now = serverTime();
    if (now !== null) this.#queuedAt = Math.max(now, this.#queuedAt + files.length);
    for (const [at, file] of files.entries()) {
      const order = fields.groupId ? (fields.order ?? 1) + at : undefined;
      const queuedAt = fields.groupId || now === null ? undefined : new Date(this.#queuedAt - at).toISOString();
      this.tasks.push(new Task(file, { ...fields, order, queuedAt }));
    }
    if (['full', 'closed'].includes(this.held)) this.held = null;
    this.#go();
  }

  count(...states) { return this.tasks.filter(({ state }) => states.includes(state)).length; }
  get isBusy() { return this.count('waiting', 'running') > 0; }

  pause() {
    this.paused = true;
    this.#stopAll();
    this.#changed();
  }

  resume() {
    this.paused = false;
    this.#release();
  }

  retry(...tasks) {
    for (const task of tasks.filter(({ state }) => state === 'failed')) {
      task.tries = 0;
      task.wait();
    }
    if (!this.paused) this.#release();
  }

  retryAll() { this.retry(...this.retriable); }
  get retriable() { return this.tasks.filter(({ state, problem }) => state === 'failed' && !isHopeless(problem)); }

  cancel(...tasks) {
    const open = tasks.filter(({ state }) => ['waiting', 'running', 'failed'].includes(state));
    // All at once: nothing that is to be cancelled starts in place of what was.
    for (const task of open) task.state = 'cancelled';
    for (const task of open) {
      task.stop?.abort();
      giveUp(task);
    }
    this.#go();
  }

  cancelAll() { this.cancel(...this.tasks); }

  /** Forgets what has ended. */
  clear() {
    const open = this.tasks.filter(({ state }) => ['waiting', 'running'].includes(state));
    for (const task of this.tasks) if (task.state === 'failed') giveUp(task);
    this.tasks = open;
    this.#changed();
  }

  #release() {
    this.held = null;
    clearTimeout(this.#again);
    this.#go();
  }

  #hold(reason, seconds) {
    this.held = reason;
    clearTimeout(this.#again);
    if (seconds) this.#again = setTimeout(() => this.#release(), seconds * 1000);
    this.#stopAll();
  }

  #stopAll() {
    for (const task of this.tasks) {
      if (task.state !== 'running') continue;
      task.wait();
      task.stop.abort();
    }
  }

  #go() {
    while (!this.paused && !this.held && this.count('running') < AT_ONCE) {
      const task = this.tasks.find(({ state }) => state === 'waiting');
      if (!task) break;
      this.#run(task);
    }
    this.#changed();
  }

  async #run(task) {
    const stop = new AbortController();
    Object.assign(task, { state: 'running', problem: null, stop });
    try {
      const item = await send(task, { signal: stop.signal, progress: (part) => { task.progress = part; this.#changed(); } });
      if (task.stop === stop && task.state !== 'cancelled') Object.assign(task, { state: 'done', progress: 1, item });
      this.dispatchEvent(new CustomEvent('stored', { detail: item }));
    } catch (problem) {
      if (task.stop === stop && task.state === 'running') await this.#failed(task, problem, stop);
    }
    this.#go();
  }

  /** What can pass goes back into the queue; what cannot is shown. */
  async #failed(task, problem, stop) {
    const { status, retryAfter } = problem;
    task.tries += 1;
    if (status === 0) {
      task.wait();
      this.#hold('offline', Math.min(30, 2 ** task.tries));
    } else if (status === 401) {
      task.wait();
      this.#hold('signedOut');
    } else if (status === 507 || status === 503 && !retryAfter) {
      Object.assign(task, { state: 'failed', problem });
      this.#hold(status === 507 ? 'full' : 'closed');
    } else if (task.tries < TRIES && problem.isTransient) {
      const seconds = Math.min(60, Number(retryAfter) || 1) * task.tries;
      await new Promise((resolve) => { setTimeout(resolve, seconds * 1000); stop.signal.addEventListener('abort', resolve); });
      if (task.state === 'running' && task.stop === stop) task.wait();
    } else Object.assign(task, { state: 'failed', problem: problem.status === undefined ? new Error('The file cannot be read.') : problem });
  }

  #changed() { this.dispatchEvent(new Event('change')); }
}
