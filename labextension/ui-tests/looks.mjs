// axe over our views in a real JupyterLab, light and dark: the panel, outputs (Bokeh's too), the dashboard, the status bar.
//
//   node ui-tests/looks.mjs URL TOKEN [FOLDER FOR PICTURES]
//
// Prints what axe finds; exits with 1 if it is anything. JupyterLab's own frame is not ours and not looked at.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

import { person } from './person.mjs';

const [url, token, pictures = ''] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PANEL = '#exo-lab-panel ';
const OURS = ['#exo-lab-panel', '#exo-lab-dashboard', '.jp-OutputArea-output', '.jp-ExoLab-status'];
// The notebook makes its outputs scroll; only it could make them focusable.
const FOREIGN = { 'scrollable-region-focusable': { enabled: false } };
const { page, run, openNotebook, says, picture, leave } = await person({ pictures, panel: PANEL });
let bad = 0;

async function look(name) {
  await page.waitForTimeout(700); // what appears has appeared: axe judges colours as they are
  await picture(name);
  const { violations } = await page.evaluate(
    ([ours, rules]) => {
      const include = ours.filter(one => document.querySelector(one) !== null).map(one => [one]);
      return window.axe.run({ include }, { rules });
    },
    [OURS, FOREIGN]
  );
  for (const { id, help, nodes } of violations) {
    bad += 1;
    console.log(`${name}: ${id}: ${help}`);
    for (const node of nodes.slice(0, 4)) {
      console.log(`    ${node.target.join(' ')}: ${node.html.slice(0, 160)}`);
      console.log(`    ${node.failureSummary.replaceAll('\n', ' ').slice(0, 300)}`);
    }
  }
}

async function theme(name) {
  await page.keyboard.press('Escape');
  await page.keyboard.press('Control+Shift+c');
  await page.locator('.jp-ModalCommandPalette input').fill(`Theme: ${name}`);
  await page.locator('.jp-ModalCommandPalette .lm-CommandPalette-item').getByText(name).first().click();
  await page
    .locator(`body[data-jp-theme-light="${name !== 'JupyterLab Dark'}"]`)
    .waitFor({ state: 'attached' });
}

await openNotebook(url, token);
await page.evaluate(axe);
await run('%load_ext exo_lab\n%exo connect --name notebook\n%exo up 2\n%exo load smollm2-135m');
await run('%%exo --max-tokens 48 --logprobs 3\nName three rivers.');
await says('as long as was asked for');
await run('%exo topology');
await run('%exo placement');
await run('view = %exo telemetry --every 0.25\nview');
await page.getByRole('button', { name: 'Save as PNG' }).first().waitFor();
await look('outputs-telemetry-light');
await page.getByRole('button', { name: 'Show as a table' }).last().click();
await page.getByText('renewed every 5 s').waitFor();
await look('outputs-telemetry-table-light');
await page.getByRole('button', { name: 'Show as a table' }).last().click();
await run('%%exo --max-tokens 200\nTell a very long story about a river.');
await run('%exo heatmap');
await look('outputs-heatmap-light');
await page.locator(`${PANEL}[role=slider]`).first().focus();
await page.keyboard.press('ArrowLeft');
await look('panel-draft-light');
await theme('JupyterLab Dark');
await look('outputs-dark');
await page.getByRole('button', { name: 'Save as PNG' }).first().scrollIntoViewIfNeeded();
await look('outputs-telemetry-dark');
await page.locator(`${PANEL} >> text=Open the dashboard`).click();
await page.locator('#exo-lab-dashboard .jp-ExoLab-graph').waitFor();
await look('dashboard-dark');
await theme('JupyterLab Light');
await look('dashboard-light');
await leave();
console.log(`axe: ${bad} violations`);
process.exit(bad === 0 ? 0 : 1);
