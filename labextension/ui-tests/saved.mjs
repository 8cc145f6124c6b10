// A saved notebook as HTML, for somebody who has no kernel, no widget manager and no network: is there something to see?
//
//   node ui-tests/saved.mjs FILE.html FOLDER FOR PICTURES
//
// Prints, as JSON, what each output shows: its text, its height in pixels, whether it has a drawing; and what axe says.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { launch } from './browser.mjs';

const [file, pictures] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1200, height: 1000 } });
await page.route(/^https?:/, route => route.abort());
await page.goto(pathToFileURL(file).href);
const outputs = await page.locator('.jp-OutputArea-output').evaluateAll(all =>
  all.map(one => ({
    text: one.innerText,
    height: one.getBoundingClientRect().height,
    drawn: one.querySelector('svg') !== null
  }))
);
await page.screenshot({ path: join(pictures, `${basename(file, '.html')}.png`), fullPage: true });
await page.evaluate(axe);
const { violations } = await page.evaluate(() =>
  window.axe.run(
    { include: [['.jp-OutputArea-output']] },
    { rules: { 'scrollable-region-focusable': { enabled: false } } }
  )
);
await browser.close();
const said = violations.flatMap(({ id, nodes }) =>
  nodes.map(node => `${id}: ${node.html.slice(0, 120)}: ${node.failureSummary}`)
);
console.log(JSON.stringify({ outputs, violations: said }));
