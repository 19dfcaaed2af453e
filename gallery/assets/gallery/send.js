// Sending one file: in one request, in parts where it is long, or by a ticket where it is too long for either.
import { api, Problem } from '../api.js';
import { request } from './request.js';
import { formOf, inParts, LONG, takesParts } from './resume.js';

/** The longest file in bytes that may come in one request here, as far as is known. */
let longest = Infinity;
/** Where tickets are given, unless a refusal says where else. */
let tickets = '/api/upload/tickets';

/** A key that no other upload has: a UUID of version 7, so that the names of images begin with the time.
 * (`crypto.randomUUID` makes version 4, and exists only under https.) */
export function key() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  const time = Date.now().toString(16).padStart(12, '0');
  const variant = '89ab'[bytes[8] % 4];
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20)}`;
}

/** Uploads what a task describes: `file`, `key`, `fields`. However often it is called, the file is stored once. Returns the item.
 * What a later call needs to go on from where an earlier one was, it keeps in the task. */
export async function send(task, { signal, progress }) {
  try {
    return await anyhow(task, signal, progress);
  } catch (problem) {
    // A file that is gone looks like a connection that is; then this says what it is.
    if (problem.status === 0) await task.file.slice(0, 1).arrayBuffer();
    throw problem;
  }
}

/** Tells the server that a task is given up, so that it need not keep what came of it for a day. */
export function giveUp({ upload }) {
  if (upload) fetch(upload, { method: 'DELETE' }).catch(() => {});
}

async function anyhow(task, signal, progress) {
  const { size } = task.file;
  if (task.ticket) return byTicket(task, signal, progress);
  if (takesParts() && size > Math.min(LONG, longest)) {
    try {
      const item = await inParts(task, signal, progress);
      if (item) return item;
    } catch (problem) {
      tooLong(problem, size);
      return byTicket(task, signal, progress);
    }
  }
  if (size > longest) return byTicket(task, signal, progress);
  try {
    return (await request('POST', '/api/upload', formOf(task, task.file), { 'idempotency-key': task.key }, signal, progress)).answer;
  } catch (problem) {
    tooLong(problem, size);
    return anyhow(task, signal, progress);
  }
}

/** Notes what a refusal says of how long a request may be and of tickets; any other problem is thrown on. */
function tooLong(problem, size) {
  const { status, isForeign, limitBytes, ticketsUrl } = problem;
  if (!ticketsUrl && !(status === 413 && isForeign)) throw problem;
  longest = Math.min(longest, size - 1, limitBytes ?? Infinity);
  tickets = ticketsUrl ?? tickets;
}

async function byTicket(task, signal, progress) {
  let fresh = false;
  for (let tries = 0; tries < 3; tries += 1) {
    // An earlier try may have come further than was heard of.
    const item = task.ticket && await complete(task, signal);
    if (item) return item;
    if (!task.ticket) [task.ticket, fresh] = [await announce(task, signal), true];
    const { uploadUrl, method, headers } = task.ticket;
    try {
      await request(method, uploadUrl, task.file, headers, signal, progress);
    } catch (problem) {
      // 412: the bytes came at an earlier try. 403, 404: the ticket has expired.
      if (![403, 404, 412].includes(problem.status)) throw problem;
      if (problem.status === 412) continue;
      task.ticket = null;
      if (fresh) throw problem;
    }
  }
  throw new Problem(409, 'upload-missing', 'What was sent has not arrived.');
}

async function announce({ file, fields }, signal) {
  if (!crypto.subtle) throw new Problem(413, 'too-large', 'A file of this size can only be sent over https.');
  const digest = await crypto.subtle.digest('SHA-256', await file.arrayBuffer());
  signal.throwIfAborted();
  const sha256 = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return api('POST', tickets, { json: { filename: file.name, contentType: file.type, size: file.size, sha256, ...fields }, signal });
}

/** The item that a ticket has become; null where its bytes are not there, or the ticket is not. */
async function complete(task, signal) {
  try {
    return await api('POST', task.ticket.completeUrl, { signal });
  } catch (problem) {
    if (problem.status === 404) task.ticket = null;
    else if (problem.type !== 'upload-missing') throw problem;
    return null;
  }
}
