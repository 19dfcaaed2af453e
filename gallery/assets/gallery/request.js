// One request whose progress is known while it is sent.
import { network, Problem, problemOf } from '../api.js';

/** `fetch` tells nobody how much it has sent, so this is an XMLHttpRequest. `progress` is told the part that is sent, from 0 to 1.
 * Returns the parsed `answer`, or null, and `header`, which gives one of its headers. */
export function request(method, url, body, headers, signal, progress) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    const abort = () => xhr.abort();
    xhr.open(method, url);
    for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value);
    if (progress) xhr.upload.addEventListener('progress', ({ loaded, total }) => progress(total ? loaded / total : 0));
    xhr.addEventListener('load', () => {
      network.dispatchEvent(new Event('reached'));
      let answer = null;
      try { answer = JSON.parse(xhr.responseText); } catch { /* A bucket answers without a body, a proxy with a page. */ }
      if (xhr.status >= 200 && xhr.status < 300) resolve({ answer, header: (name) => xhr.getResponseHeader(name) });
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
