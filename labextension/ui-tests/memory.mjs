// Forty minutes of telemetry as fast as they can be drawn: what does the page hold after every ten?
//
//   node ui-tests/memory.mjs URL TOKEN
//
// The looks are made up (one real one, again and again) and four make a second of make-believe time, so 2400 are what a
// history holds. Prints the heap after garbage collection, in MB, as JSON.
import { launch } from './browser.mjs';

const [url, token] = process.argv.slice(2);
const LOOKS = 2400;
const ROUNDS = 4;
const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1200, height: 1200 } });
page.setDefaultTimeout(60_000);
const devtools = await page.context().newCDPSession(page);

async function run(code) {
  await page.locator('.jp-NotebookPanel .jp-CodeCell .cm-content').last().click();
  await page.keyboard.press('Control+a');
  await page.keyboard.insertText(code);
  await page.keyboard.press('Shift+Enter');
  await page.waitForTimeout(300);
  await page.waitForFunction(
    () => document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle',
    null,
    { timeout: 60_000 }
  );
}

async function drawnTo(at) {
  await page.waitForFunction(
    least =>
      window.Bokeh.documents
        .flatMap(one => [...one._all_models.values()])
        .some(one => one.type === 'ColumnDataSource' && one.data.at?.at(-1) >= least),
    at,
    { timeout: 60_000 }
  );
}

async function heap() {
  await page.waitForTimeout(1000);
  await devtools.send('HeapProfiler.collectGarbage');
  return (await devtools.send('Runtime.getHeapUsage')).usedSize / 1e6;
}

await page.goto(`${url}/lab?token=${token}&reset`);
await page.locator('.jp-LauncherCard[data-category="Notebook"]').first().click();
await page.locator('.jp-NotebookPanel .jp-CodeCell').waitFor();
await page.waitForTimeout(3000);
await run('%load_ext exo_lab\n%exo connect');
await run('view = %exo telemetry\nview');
await run(`import time
from exo_lab.front.widgets.history import Moment
view._sampler.stop()
seen, roster, at = view.history.moments[-1], view._roster(), view.history.moments[-1].at

def feed(count):
    global at
    for _ in range(count):
        at += 0.25
        view._charts.push(Moment(at, seen.readings), roster)
        time.sleep(0.004)  # the page must keep up`);
const start = await page.evaluate(() => Date.now());
const heaps = [];
for (let round = 1; round <= ROUNDS; round += 1) {
  await run(`feed(${LOOKS})`);
  await drawnTo(start + ((round * LOOKS) / 4 - 60) * 1000);
  heaps.push(await heap());
}
await browser.close();
console.log(JSON.stringify({ heap_mb_every_10_min: heaps }));
