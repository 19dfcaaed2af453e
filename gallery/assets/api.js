// Asking the API. Every failure is a Problem, with a sentence for people.

/** What the API refused (RFC 9457), or `status` 0 and `type` "offline" where it could not be reached. */
export class Problem extends Error {
  /** `limitBytes` (the most bytes of a request), `ticketsUrl` (the way for what cannot come in one) and `retryAfter` (in seconds)
   * are null where the answer does not have them. */
  constructor(status, type, detail, { limitBytes = null, ticketsUrl = null, retryAfter = null } = {}) {
    super(detail);
    Object.assign(this, { status, type, limitBytes, ticketsUrl, retryAfter });
  }

  get isOffline() { return this.status === 0; }
  get isFull() { return this.status === 507; }
  /** Whether it is not a problem of Keepsake, but what something in between says. */
  get isForeign() { return this.type === ''; }
  /** Whether the same request may succeed in a moment. */
  get isTransient() { return this.retryAfter !== null || [408, 409, 429, 502, 504].includes(this.status); }
}

/** Everyone who wants to know that the server was or was not reached, or that a token is needed: events `reached`, `unreached`, `unauthorized`. */
export const network = new EventTarget();

/** The server's clock less `performance.now()`, in milliseconds, as the last answer's `Date` told it; up to a second late. */
let clock = null;
/** The time of the server, in milliseconds since 1970; null where no answer told it. */
export const serverTime = () => (clock === null ? null : Math.floor(clock + performance.now()));

/** Asks the API and returns the parsed answer. `query`: an object, whose empty values are left out; `json`: the body;
 * `tag`: is called with the answer's `ETag`. */
export async function api(method, path, { query, json, body, headers = {}, signal, keepalive, tag } = {}) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== null && value !== '') url.searchParams.set(name, value);
  }
  if (json !== undefined) {
    body = JSON.stringify(json);
    headers = { 'content-type': 'application/json', ...headers };
  }
  let response;
  try {
    response = await fetch(url, { method, body, headers, signal, keepalive, credentials: 'same-origin' });
  } catch (error) {
    throw unreached(error);
  }
  network.dispatchEvent(new Event('reached'));
  const date = Date.parse(response.headers.get('date'));
  if (date) clock = date - performance.now();
  tag?.(response.headers.get('etag'));
  return read(response);
}

function unreached(error) {
  if (error.name === 'AbortError') return error;
  network.dispatchEvent(new Event('unreached'));
  return new Problem(0, 'offline', 'The server cannot be reached.');
}

async function read(response) {
  const type = response.headers.get('content-type') ?? '';
  let answer = null;
  try {
    if (type.includes('json')) answer = await response.json();
  } catch (error) {
    // An answer that broke off says as little as none, though what was asked for may have been done.
    if (response.ok) throw unreached(error);
  }
  if (response.ok) return answer;
  throw problemOf(response.status, answer, response.headers.get('retry-after'));
}

/** The problem that an answer describes; what is not one of ours gets a sentence of its own. */
export function problemOf(status, answer, retryAfter = null) {
  if (status === 401) network.dispatchEvent(new Event('unauthorized'));
  const type = String(answer?.type ?? '').split('/').pop();
  const { detail, error, limitBytes, ticketsUrl, retryAfterSeconds } = answer ?? {};
  return new Problem(status, type, detail ?? error ?? `The server answered ${status}.`, { limitBytes, ticketsUrl, retryAfter: retryAfterSeconds ?? retryAfter });
}

const LADDER = [160, 320, 640, 1280, 2560];
/** The address of a derivative that fits into so many CSS pixels on this screen; of the few widths that there are, so that it is kept. */
export function thumbnail(url, width) {
  const pixels = width * Math.min(devicePixelRatio || 1, 2);
  // Pinned, so that a cache that ignores Vary neither gives this page what another client asked for nor the other way round.
  return `${url}?w=${LADDER.find((step) => step >= pixels) ?? LADDER.at(-1)}&format=webp`;
}
