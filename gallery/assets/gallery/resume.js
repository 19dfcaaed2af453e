// Sending a file in parts, so that a pause or a broken connection costs no more than what was on its way: the IETF's resumable
// uploads, interop version 8. The server counts what it has, also of a part that broke off, and is asked where to go on.
import { Problem } from '../api.js';
import { request } from './request.js';

/** A longer file is sent in parts. */
export const LONG = 8 * 2 ** 20;
/** What proxies let through whom nobody told how much. */
const SMALL = 2 ** 20;
/** How long a part is. A server that dies in the middle of one has lost it, and each is one more file to be synced. */
let most = LONG;
let taken = true;

/** Whether parts are taken here, as far as is known. */
export const takesParts = () => taken;

/** Sends what a task describes, from where the server is with it. Returns the item, or null where parts are not taken here. */
export async function inParts(task, signal, progress) {
  const { type, body } = task.form ??= await around(task.file, formOf(task, new Blob([], { type: task.file.type })));
  let [offset, refused, begun] = [null, null, 0];
  for (;;) {
    try {
      if (!task.upload) {
        const url = await begin(task.key, type, body.size, signal);
        if (!url) return notTaken();
        [task.upload, offset, begun] = [url, 0, begun + 1];
      }
      if (offset === null) {
        const { answer, header } = await request('GET', task.upload, null, {}, signal);
        if (answer) return answer;
        // It ended without an item, or is not what was sent.
        if (header('upload-complete') === '?1' || Number(header('upload-offset')) > body.size) throw new Problem(410, 'gone', 'The upload is gone.');
        if (header('upload-offset') === null) return notTaken();
        offset = Number(header('upload-offset'));
      }
      const [from, end] = [offset, Math.min(offset + most, body.size)];
      const sent = (part) => progress((from + part * (end - from)) / body.size);
      sent(0);
      const headers = {
        'content-type': 'application/partial-upload', 'upload-draft-interop-version': '8',
        'upload-offset': String(from), 'upload-complete': end === body.size ? '?1' : '?0',
      };
      const { answer } = await request('PATCH', task.upload, body.slice(from, end), headers, signal, sent);
      if (end === body.size) return answer;
      offset = end;
    } catch (problem) {
      const { status, type: reason } = problem;
      if ((status === 404 || status === 410) && begun < 3) task.upload = null;
      // It came at an earlier try, whose answer was lost.
      else if (['mismatching-upload-offset', 'completed-upload'].includes(reason) && refused !== offset) [refused, offset] = [offset, null];
      else if (status === 413 && reason === '' && most > SMALL) most = SMALL;
      else if (status === 405 || status === 501) return notTaken();
      else throw problem;
    }
  }
}

const notTaken = () => {
  taken = false;
  return null;
};

/** Begins an upload without sending any of it, so that no server takes what comes first for all of it. Returns where the parts go. */
async function begin(key, type, size, signal) {
  const headers = {
    'content-type': type, 'idempotency-key': key, 'upload-draft-interop-version': '8', 'upload-complete': '?0', 'upload-length': String(size),
  };
  try {
    return (await request('POST', '/api/upload', null, headers, signal)).answer?.uploadUrl;
  } catch (problem) {
    const { isTransient, isForeign, status, ticketsUrl, type: reason } = problem;
    // To whoever does not hear of parts, because a proxy drops the headers, this is a form without an image. A proxy may refuse it itself.
    const unheard = reason === 'no-file' || reason === 'invalid-request';
    const dropped = isForeign && !isTransient && status !== 401 && (status < 500 || status === 501);
    if (!ticketsUrl && !unheard && !dropped) throw problem;
    notTaken();
    if (ticketsUrl) throw problem;
    return null;
  }
}

/** A form with the fields of a task, and with `file` in the place of its file. An empty category is sent: it means none, where a missing
 * one means the server's default. */
export function formOf({ file: { name: filename }, fields }, file) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value !== null && value !== undefined && (value !== '' || name === 'category')) form.append(name, value);
  form.append('image', file, filename);
  return form;
}

/** What a browser makes of `form`, whose last file is empty, with `file` in its place; which is not read for that. */
async function around(file, form) {
  const packed = new Response(form);
  const type = packed.headers.get('content-type');
  const bytes = await packed.blob();
  const end = bytes.size - `\r\n--${type.split('boundary=')[1]}--\r\n`.length;
  return { type, body: new Blob([bytes.slice(0, end), file, bytes.slice(end)]) };
}
