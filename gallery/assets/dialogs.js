// Dialogs: the browser's own, which keep the focus in and give it back.
import { h } from './dom.js';

let dialogs = 0;

/** Opens a dialog around `content`, named `title`; `buttons`: `[{label, value, kind}]`, the first submits. Resolves to the value of
 * the button that closed it, or null where it was dismissed. `check(value)`, where given, may keep it open by returning a sentence. */
export function ask(title, content, buttons, { check } = {}) {
  return new Promise((resolve) => {
    const id = `dialog-${dialogs += 1}`;
    const error = h('p', { class: 'error', role: 'alert', hidden: true });
    const actions = buttons.map(({ label, value, kind }, at) =>
      h('button', { type: at === 0 ? 'submit' : 'button', class: kind, text: label, value, on: at === 0 ? {} : { click: () => close(value) } }));
    const form = h('form', { method: 'dialog' }, h('h2', { id, text: title }), content, error, h('div', { class: 'actions' }, actions.toReversed()));
    const dialog = h('dialog', { 'aria-labelledby': id }, form);
    let result = null;
    const close = (value) => { result = value; dialog.close(); };
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      const wrong = check ? await busy(actions[0], () => check(buttons[0].value)) : null;
      if (!wrong) return close(buttons[0].value);
      error.textContent = wrong;
      error.hidden = false;
    });
    dialog.addEventListener('close', () => { dialog.remove(); resolve(result); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Asks whether to do something; true only where its button was pressed. */
export async function confirm(title, text, { label = 'Yes', kind = 'primary' } = {}) {
  const content = typeof text === 'string' ? h('p', { text }) : text;
  return (await ask(title, content, [{ label, value: 'yes', kind }, { label: 'Cancel', value: null }])) === 'yes';
}

/** Keeps a button from being pressed twice while `work` goes on. It has the focus again afterwards, if it had it. */
export async function busy(button, work) {
  const hadFocus = button === document.activeElement;
  button.disabled = true;
  button.setAttribute('aria-busy', 'true');
  try {
    return await work();
  } finally {
    button.disabled = false;
    button.removeAttribute('aria-busy');
    if (hadFocus && document.activeElement === document.body) button.focus();
  }
}
