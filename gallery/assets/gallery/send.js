// Sending one file: in one request, or by a ticket where it is too long for one.
import { api, network, Problem, problemOf } from '../api.js';

/** Whether this server has shown that it wants tickets for what is longer than `longest` bytes. */
let longest = Infinity;

/** A key that no other upload has. (`crypto.randomUUID` is only there under https.) */
export function key() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Uploads what a task describes: `file`, `key`, `fields`. However often it is called, the file is stored once. Returns the item. */
export async function send(task, { signal, progress }) {
  if (task.file.size <= longest) {
    try {
      return await direct(task, signal, progress);
    } catch (problem) {
      const byTicket = problem.status === 413 && problem.message.includes('/api/upload/tickets');
      if (!byTicket && !(problem.status === 413 && problem.type === '')) throw problem;
      longest = Math.min(longest, task.file.size - 1);
    }
  }
  return byTicket(task, signal, progress);
}

async function direct({ file, fields, key }, signal, progress) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value !== null && value !== undefined && value !== '') form.append(name, value);
  form.append('image', file, file.name);
  return request('POST', '/api/upload', form, { 'idempotency-key': key }, signal, progress);
}

async function byTicket(task, signal, progress) {
  const { file, fields } = task;
  if (!crypto.subtle) throw new Problem(413, 'too-large', 'A file of this size can only be sent over https.');
  if (!task.ticket || Date.parse(task.ticket.expires) < Date.now()) {
    const digest = await crypto.subtle.digest('SHA-256', await file.arrayBuffer());
    signal.throwIfAborted();
    const sha256 = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    const json = { filename: file.name, contentType: file.type, size: file.size, sha256, ...fields };
    task.ticket = await api('POST', '/api/upload/tickets', { json, signal });
  }
  const { uploadUrl, method, headers, completeUrl } = task.ticket;
  try {
    await request(method, uploadUrl, file, headers, signal, progress);
  } catch (problem) {
    // The bytes came at an earlier try, whose answer was lost.
    if (problem.status !== 412) throw problem;
  }
  try {
    return await api('POST', completeUrl, { signal });
  } catch (problem) {
    if (problem.status === 404) task.ticket = null;
    throw problem;
  }
}

/** `fetch` tells nobody how much it has sent, so this is an XMLHttpRequest. */
function request(method, url, body, headers, signal, progress) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    const abort = () => xhr.abort();
    xhr.open(method, url);
    for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value);
    xhr.upload.addEventListener('progress', ({ loaded, total }) => progress(total ? loaded / total : 0));
    xhr.addEventListener('load', () => {
      network.dispatchEvent(new Event('reached'));
      let answer = null;
      try { answer = JSON.parse(xhr.responseText); } catch { /* A bucket answers without a body, a proxy with a page. */ }
      if (xhr.status >= 200 && xhr.status < 300) resolve(answer);
      else reject(problemOf(xhr.status, answer, xhr.getResponseHeader('retry-after')));
    });
    xhr.addEventListener('error', () => {
      network.dispatchEvent(new Event('unreached'));
      reject(new Problem(0, 'offline', 'The server cannot be reached.'));
    });
    xhr.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')));
    xhr.addEventListener('loadend', () => signal.removeEventListener('abort', abort));
    signal.throwIfAborted();
    signal.addEventListener('abort', abort);
    xhr.send(body);
  });
}
