// Telemetry as fast as it can be drawn: what does the page hold after each history's length of it?
//
//   node ui-tests/memory.mjs URL TOKEN [LOOKS A ROUND] [ROUNDS]
//
// The looks are made up (one real one, again and again); four make a second of make-believe time, so that 2400 are ten
// minutes and what a history holds. With fewer a round the history is made as short, so that it is full after the first
// round and from then on must not grow. Prints the heap in MB after garbage collection, one figure a round, as JSON.
//
// A batch is sent when the page has drawn the one before: a whole round at once piles up in the server and the page faster
// than it is drawn, and the wait for its last look runs into its deadline.
import { person } from './person.mjs';

const [url, token, looks = '2400', rounds = '4'] = process.argv.slice(2);
const LOOKS = Number(looks);
const ROUNDS = Number(rounds);
const BATCH = 25;
const DRAWN_MS = 180_000; // a batch, on a machine that is busy
const { page, run, idle, openNotebook, leave } = await person({ viewport: { width: 1200, height: 1200 } });
const devtools = await page.context().newCDPSession(page);

const latest = () =>
  page.evaluate(() => {
    const models = window.Bokeh.documents.flatMap(one => [...one._all_models.values()]);
    return models.find(one => one.type === 'ColumnDataSource' && one.data.at !== undefined).data.at.at(-1);
  });

async function drawnTo(at) {
  await page.waitForFunction(
    least =>
      window.Bokeh?.documents
        .flatMap(one => [...one._all_models.values()])
        .some(one => one.type === 'ColumnDataSource' && one.data.at?.at(-1) >= least),
    at,
    { timeout: DRAWN_MS }
  );
}

/** The cell that feeds, run once more in its place: new cells would be memory of their own. */
async function feed() {
  const before = await latest();
  await page.keyboard.press('Control+Enter');
  await drawnTo(before + BATCH * 250 - 1);
  await idle();
}

async function heap() {
  await page.waitForTimeout(1000);
  await devtools.send('HeapProfiler.collectGarbage');
  return (await devtools.send('Runtime.getHeapUsage')).usedSize / 1e6;
}

await openNotebook(url, token);
await run('%load_ext exo_lab\n%exo connect');
await run('view = %exo telemetry\nview');
await drawnTo(1);
await run(`from exo_lab.front.widgets import charts
from exo_lab.front.widgets.history import Moment
charts.MOMENTS = ${LOOKS}
view._sampler.stop()
seen, roster, at = view.history.moments[-1], view._roster(), view.history.moments[-1].at

def feed(count):
    global at
    for _ in range(count):
        at += 0.25
        view._charts.push(Moment(at, seen.readings), roster)`);
await page.locator('.jp-NotebookPanel .jp-CodeCell .cm-content').last().click();
await page.keyboard.insertText(`feed(${BATCH})`);
const heaps = [];
for (let round = 0; round < ROUNDS; round += 1) {
  for (let fed = 0; fed < LOOKS; fed += BATCH) {
    await feed();
  }
  heaps.push(Number((await heap()).toFixed(1)));
}
await leave();
console.log(JSON.stringify({ looks_a_round: LOOKS, heap_mb: heaps }));
