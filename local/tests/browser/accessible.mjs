// The rules for accessible pages, as axe-core knows them.
import { axe } from './tools.mjs';

const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];

/** What WCAG 2.2 AA has against a page as it is now: a sentence for each element. */
export async function amiss(page) {
  // Not a script of the page: the policy would not let it run.
  await page.evaluate(axe.source);
  const violations = await page.evaluate(async (values) => {
    const { violations } = await window.axe.run(document, { runOnly: { type: 'tag', values } });
    return violations.map(({ id, nodes }) => nodes.map(({ html, failureSummary }) => ({ id, html, failureSummary })));
  }, RULES);
  return violations.flat().map(({ id, html, failureSummary }) => `${id}: ${html}: ${failureSummary.split('\n').at(-1).trim()}`);
}
