// axe over every view in every theme, on the harness (`npm run harness` first). Exits with 1 if it finds a violation.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

import { launch } from './browser.mjs';

const require = createRequire(import.meta.url);
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const out = new URL('../dev/out/', import.meta.url);
const PHASES = [
  'no-kernel',
  'other-language',
  'not-loaded',
  'connecting',
  'not-a-node',
  'restarting',
  'dead'
];
const VIEWS = [
  'wide',
  'wide&run&joined&draft=24',
  'run&width=250px',
  'lost&run&done&width=330px',
  'wide&draft=24&card',
  'wide&table',
  ...PHASES.map(phase => `empty=${phase}`)
];

const browser = await launch();
let bad = 0;
for (const theme of ['light', 'dark']) {
  for (const view of VIEWS) {
    const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
    await page.goto(new URL(`${theme}.html?${view}`, out).href);
    if (view.includes('card')) {
      await page.locator('.jp-ExoLab-device').first().click();
    }
    if (view.includes('table')) {
      await page.getByText('Show as a table').click();
    }
    await page.waitForTimeout(700); // what appears has appeared: axe judges colours as they are
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run());
    for (const { id, help, nodes } of violations) {
      bad += 1;
      console.log(`${theme} ${view}: ${id}: ${help}`);
      for (const node of nodes.slice(0, 3)) {
        console.log(
          `    ${node.html.slice(0, 160)}\n    ${node.failureSummary.replaceAll('\n', ' ').slice(0, 300)}`
        );
      }
    }
    await page.close();
  }
}
await browser.close();
console.log(`axe: ${2 * VIEWS.length} pages, ${bad} violations`);
process.exit(bad === 0 ? 0 : 1);
