// A person at a real JupyterLab with a token, real kernels and a real model: connect from the panel, watch nodes come,
// ask, stop in the middle of a cell, drag a boundary with the mouse and with keys, apply, undo, lose a node, restart.
//
//   node ui-tests/lab.mjs URL TOKEN [FOLDER FOR PICTURES]
//
// Prints one line a step and the figures that it measured as a last line of JSON; exits with 1 at the first step that
// fails. tests/labextension/test_in_a_browser.py starts the server and runs this.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { person } from './person.mjs';

const [url, token, pictures = ''] = process.argv.slice(2);
const PANEL = '#exo-lab-panel ';
const PROMPT = 'Name three rivers.';

const { page, step, idle, run, says, leave } = await person({ pictures, panel: PANEL });
const measured = {};

const slider = i => page.locator(`${PANEL}[role=slider]`).nth(i);
const layers = async i => Number(await slider(i).getAttribute('aria-valuenow'));
const figures = async () =>
  (await page.locator(`${PANEL}.jp-ExoLab-placement table`).first().innerText()).replace(/\s+/g, ' ');

async function download(button) {
  const [saved] = await Promise.all([page.waitForEvent('download'), button.click()]);
  return { name: saved.suggestedFilename(), bytes: readFileSync(await saved.path()) };
}

/** A button really gives a PNG, and one with a picture in it: an empty one of any size is some hundred bytes. */
async function savesPng(button, name) {
  const { name: given, bytes } = await download(button);
  assert.match(given, name);
  assert.deepEqual([...bytes.subarray(0, 8)], [137, 80, 78, 71, 13, 10, 26, 10]);
  assert.ok(bytes.length > 3000, `${given} has ${bytes.length} bytes`);
  if (pictures !== '') {
    writeFileSync(join(pictures, given), bytes);
  }
}

await step('open', async () => {
  await page.goto(`${url}/lab?token=${token}&reset`);
  await page.locator('[data-id="exo-lab-panel"]').waitFor();
  if (!(await page.locator(PANEL).isVisible())) {
    await page.click('[data-id="exo-lab-panel"]');
  }
  await says('Open a notebook with a Python kernel');
  // The server's extension tells what is there without a kernel.
  await says('Known nodes');
  await says('smollm2-135m');
  await page.locator('.jp-LauncherCard[data-category="Notebook"]').first().click();
  await idle();
  await says('This kernel is in no cluster yet.');
});

await step('connect from the panel', async () => {
  await page.locator(`${PANEL} >> text=Make this kernel a node`).click();
  await page.locator(`${PANEL}.jp-ExoLab-graph`).waitFor();
  assert.equal(await page.locator(`${PANEL}.jp-ExoLab-device`).count(), 1);
});

await step('nodes come', async () => {
  await run('%exo up 2');
  await says('kernel-1 joined');
  await says('kernel-2 joined');
  assert.equal(await page.locator(`${PANEL}.jp-ExoLab-device`).count(), 3);
});

await step('a model is placed', async () => {
  await run('%exo load smollm2-135m');
  await page.locator(`${PANEL}.jp-ExoLab-strip`).waitFor();
  await slider(1).waitFor();
  assert.equal(await page.locator(`${PANEL}[role=slider]`).count(), 2);
});

await step('an answer streams into the panel', async () => {
  await run(`%%exo --max-tokens 48\n${PROMPT}`);
  await says('as long as was asked for');
  assert.match(await page.locator(`${PANEL}.jp-ExoLab-text`).innerText(), /\w{3}/);
  await page.locator('#jp-main-statusbar').getByText('tok/s').waitFor();
  assert.match(await figures(), /loaded \(plan 1\).*tok\/s/);
});

await step('an answer that is read in Python comes to the panel too', async () => {
  await run(
    `import exo_lab\nfor piece in exo_lab.current().generate("${PROMPT}", max_tokens=17):\n    print(piece, end="")`
  );
  await says('17 tokens');
});

await step('stop in the middle of a cell', async () => {
  await run('%%exo --max-tokens 2000\nTell a very long story about a river.', { wait: false });
  const stop = page.locator(`${PANEL}button:has-text("Stop")`);
  await stop.waitFor();
  await page.waitForTimeout(500);
  const started = Date.now();
  await stop.click();
  await says('stopped');
  measured.stop_ms = Date.now() - started;
  await idle();
  await page.locator('.jp-OutputArea').getByText('cancelled').last().waitFor();
});

await step('drag a boundary with the mouse', async () => {
  const before = await layers(0);
  await slider(0).scrollIntoViewIfNeeded();
  const box = await slider(0).locator('.jp-ExoLab-knob').boundingBox();
  await page.evaluate(() => {
    window.exoFrames = [];
    let last = performance.now();
    const tick = now => {
      window.exoFrames.push(now - last);
      last = now;
      window.exoTick = requestAnimationFrame(tick);
    };
    window.exoTick = requestAnimationFrame(tick);
  });
  await page.mouse.move(box.x + box.width / 2, box.y + 6);
  await page.mouse.down();
  for (let i = 1; i <= 40; i += 1) {
    await page.mouse.move(box.x + box.width / 2 - i / 2, box.y + 6);
  }
  await page.mouse.up();
  const frames = await page.evaluate(() => {
    cancelAnimationFrame(window.exoTick);
    return window.exoFrames.slice(1).sort((a, b) => a - b);
  });
  measured.drag_frame_median_ms = frames[Math.floor(frames.length / 2)];
  measured.drag_frame_p95_ms = frames[Math.floor(frames.length * 0.95)];
  assert.ok((await layers(0)) < before, 'the boundary has not moved to the left');
  await page.waitForFunction(
    selector => /draft/.test(document.querySelector(selector)?.innerText ?? ''),
    `${PANEL}.jp-ExoLab-placement table`
  );
  assert.equal(await page.locator(`${PANEL}button:has-text("Apply")`).isEnabled(), true);
});

await step('move a boundary with keys', async () => {
  const before = await layers(1);
  await slider(1).focus();
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('ArrowLeft');
  assert.equal(await layers(1), before - 2);
  assert.match((await slider(1).getAttribute('aria-valuetext')) ?? '', /layers?, .*MiB; .*layers?, .*MiB/);
});

await step('apply moves the layers live', async () => {
  const wanted = [await layers(0), await layers(1)];
  const started = Date.now();
  await page.locator(`${PANEL}button:has-text("Apply")`).click();
  await says('plan 2');
  measured.apply_ms = Date.now() - started;
  assert.deepEqual([await layers(0), await layers(1)], wanted);
  await run(`%%exo --max-tokens 48\n${PROMPT}`);
  await page.waitForFunction(
    selector =>
      /loaded \(plan 2\)[^]*tok\/s[^]*tok\/s/.test(document.querySelector(selector)?.innerText ?? ''),
    `${PANEL}.jp-ExoLab-placement table`
  );
});

await step('undo brings the old plan back', async () => {
  await page.locator(`${PANEL}button:has-text("Undo")`).click();
  await says('plan 3');
});

await step('views in outputs are live', async () => {
  await run('from exo_lab.front.widgets import placement, topology\nplacement()');
  const output = page.locator('.jp-OutputArea .jp-ExoLab-output').last();
  await output.locator('[role=slider]').first().waitFor();
  await output.locator('[role=slider]').first().focus();
  const before = await layers(0);
  await page.keyboard.press('ArrowRight');
  // One draft, shown in the panel and in the output.
  assert.equal(await layers(0), before + 1);
  await run('topology()');
  await page.locator('.jp-OutputArea .jp-ExoLab-output .jp-ExoLab-device').nth(2).waitFor();
});

await step('telemetry moves, stands still on Pause, and is saved as CSV', async () => {
  const look = () =>
    page.evaluate(() => {
      const models = window.Bokeh.documents.flatMap(one => [...one._all_models.values()]);
      const source = models.find(one => one.type === 'ColumnDataSource' && one.data.at !== undefined);
      const range = models.find(one => one.type === 'Range1d' && one.start > 1e9);
      return { count: source.data.at.length, end: range.end };
    });
  const grows = count =>
    page.waitForFunction(
      least =>
        window.Bokeh.documents
          .flatMap(one => [...one._all_models.values()])
          .some(one => one.type === 'ColumnDataSource' && (one.data.at?.length ?? 0) >= least),
      count
    );
  await run('view = %exo telemetry --every 0.25\nview');
  const pause = page.getByRole('button', { name: 'Pause' });
  await pause.waitFor();
  await grows(4);
  await pause.click();
  const started = Date.now();
  const before = await look();
  await grows(before.count + 8);
  const after = await look();
  measured.telemetry_per_s = (1000 * (after.count - before.count)) / (Date.now() - started);
  assert.ok(measured.telemetry_per_s < 4.5, `${measured.telemetry_per_s} updates a second`);
  assert.equal(after.end, before.end);
  await pause.click();
  await grows(after.count + 3);
  assert.ok((await look()).end > after.end);
  const csv = await download(page.getByRole('button', { name: 'Save as CSV' }));
  assert.equal(csv.name, 'exo-lab-telemetry.csv');
  await savesPng(page.getByRole('button', { name: 'Save as PNG' }), /^exo-lab-telemetry\.png$/);
  await run('view.close()');
  // What is left is a picture that needs nobody.
  await page.locator('.jp-OutputArea').getByText('(measured)').last().waitFor();
});

await step('the heatmap follows the answers, stands still on Pause, and is saved', async () => {
  await run('%exo heatmap');
  const view = page.locator('.jp-OutputArea .jp-ExoLab-heatView').last();
  await view.getByText('time of 47 tokens').waitFor();
  await run('%%exo --max-tokens 32\nName three rivers.');
  await view.getByText('time of 31 tokens').waitFor();
  await view.getByRole('button', { name: 'Pause' }).click();
  await run('%%exo --max-tokens 24\nName three rivers.');
  await page.waitForTimeout(600); // it would have been drawn by now
  await view.getByText('time of 31 tokens').waitFor();
  await view.getByRole('button', { name: 'Go on' }).click();
  await view.getByText('time of 23 tokens').waitFor();
  const csv = await download(view.getByRole('button', { name: 'Save as CSV' }));
  assert.equal(csv.name, 'exo-lab-heatmap.csv');
  assert.equal(csv.bytes.toString().trim().split('\n').length, 24);
  await savesPng(view.getByRole('button', { name: 'Save as PNG' }), /^exo-lab-heatmap\.png$/);
});

await step('a node is lost', async () => {
  await run('%exo down kernel-2');
  await says('kernel-2 is gone');
});

await step('reload the extension', async () => {
  await run('%reload_ext exo_lab');
  await says('exo_lab is loaded in this kernel, and the kernel is in no cluster yet.');
});

await step('restart the kernel and come back', async () => {
  await page.evaluate(() => document.activeElement?.blur());
  await page
    .locator('.jp-NotebookPanel-toolbar')
    .getByTitle(/^Restart the kernel$/)
    .click();
  await page.locator('.jp-Dialog button:has-text("Restart")').click();
  await says('This kernel is in no cluster yet.');
  await page.locator(`${PANEL} >> text=Make this kernel a node`).click();
  await page.locator(`${PANEL}.jp-ExoLab-graph`).waitFor();
});

await step('the dashboard comes back after a reload of the page', async () => {
  await page.locator(`${PANEL} >> text=Open the dashboard`).click();
  await page.locator('#exo-lab-dashboard .jp-ExoLab-graph').waitFor();
  await page.waitForTimeout(1500); // the layout is saved a second after it changed
  await page.goto(`${url}/lab`);
  // And with it the connection: the kernel is a node still.
  await page.locator('#exo-lab-dashboard .jp-ExoLab-graph').waitFor();
});

await leave();
console.log(JSON.stringify(measured));
