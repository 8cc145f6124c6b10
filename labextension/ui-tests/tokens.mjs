// From a token's arrival at the requester to its paint in the panel, in a real JupyterLab with a real model.
//
//   node ui-tests/tokens.mjs URL TOKEN [TOKENS]
//
// Kernel and browser run on one machine and read one clock. A token is painted when the frame that shows it has been: two
// animation frames after its element came. Prints median, 95th percentile and maximum in ms as JSON.
import assert from 'node:assert/strict';

import { person } from './person.mjs';

const [url, token, tokens = '200'] = process.argv.slice(2);
const PANEL = '#exo-lab-panel ';
const { page, run, openNotebook, says, leave } = await person({ panel: PANEL });

await openNotebook(url, token);
await run('%load_ext exo_lab\n%exo connect\n%exo load smollm2-135m\nimport json, time');
await page.locator(`${PANEL}.jp-ExoLab-strip`).waitFor();
await run('%%exo --max-tokens 8\nHello.'); // warm
await page.evaluate(selector => {
  window.exoPainted = [];
  let seen = 0;
  let request = false;
  new MutationObserver(() => {
    const shown = document.querySelectorAll(`${selector}.jp-ExoLab-token`).length;
    request = request || shown === 1 || shown < seen; // a new answer has begun
    if (!request || shown === seen) {
      seen = shown;
      return;
    }
    const from = shown < seen ? 0 : seen;
    seen = shown;
    requestAnimationFrame(() =>
      requestAnimationFrame(() => {
        const at = performance.timeOrigin + performance.now();
        for (let i = from; i < shown; i += 1) {
          window.exoPainted[i] ??= at;
        }
      })
    );
  }).observe(document.querySelector(selector), { childList: true, subtree: true });
}, PANEL);
await run(`%%exo --max-tokens ${tokens} -o answer\nTell a very long story about a river.`);
await says('as long as was asked for');
await run(`begun = time.time() - (time.perf_counter() - answer._request.started_at)
print('ARRIVED', json.dumps([1e3 * (begun + one.at_s) for one in answer.tokens]))`);
const printed = await page.locator('.jp-OutputArea').getByText('ARRIVED').last().innerText();
const arrived = JSON.parse(printed.slice(printed.indexOf('[')));
const painted = await page.evaluate(() => window.exoPainted);
await leave();
assert.equal(painted.length, arrived.length);
const took = arrived.map((at, i) => painted[i] - at).sort((a, b) => a - b);
const at = share => Number(took[Math.min(took.length - 1, Math.floor(share * took.length))].toFixed(1));
console.log(
  JSON.stringify({ tokens: took.length, median_ms: at(0.5), p95_ms: at(0.95), max_ms: at(1), min_ms: at(0) })
);
