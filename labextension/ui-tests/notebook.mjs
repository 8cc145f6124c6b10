// A person at a real Notebook 7 with a token, a real kernel and a real model: connect, load, ask, see the views in the
// outputs and the panel in the sidebar, stop in the middle of a cell. Light and dark.
//
//   node ui-tests/notebook.mjs URL TOKEN [FOLDER FOR PICTURES]
//
// Exits with 1 at the first step that fails. tests/labextension/test_in_a_browser.py starts the server and runs this.
import assert from 'node:assert/strict';

import { person } from './person.mjs';

const [url, token, pictures = ''] = process.argv.slice(2);
const PANEL = '#exo-lab-panel ';
const { page, step, picture, idle, run, says, leave } = await person({ pictures, panel: PANEL });
const output = page.locator('.jp-OutputArea .jp-ExoLab-output');

/** Choose a command from the palette, as a person does. */
async function command(label) {
  await page.keyboard.press('Escape');
  await page.keyboard.press('Control+Shift+c');
  await page.locator('.jp-ModalCommandPalette input').fill(label);
  await page.locator('.jp-ModalCommandPalette .lm-CommandPalette-item').getByText(label).first().waitFor();
  await page.keyboard.press('Enter');
}

async function palette(text) {
  await page.keyboard.press('Escape');
  await page.keyboard.press('Control+Shift+c');
  await page.locator('.jp-ModalCommandPalette input').fill(text);
  await page.waitForTimeout(300);
  const labels = await page.locator('.jp-ModalCommandPalette .lm-CommandPalette-itemLabel').allInnerTexts();
  await page.keyboard.press('Escape');
  return labels;
}

await step('the tree opens and nothing of ours is in the way', async () => {
  await page.goto(`${url}/tree?token=${token}`);
  await page.locator('.jp-DirListing').first().waitFor();
});

await step('open a notebook', async () => {
  const kernelspec = { name: 'python3', display_name: 'Python 3', language: 'python' };
  const content = { cells: [], metadata: { kernelspec }, nbformat: 4, nbformat_minor: 5 };
  const made = await page.request.put(`${url}/api/contents/a-person.ipynb`, {
    headers: { Authorization: `token ${token}` },
    data: { type: 'notebook', format: 'json', content }
  });
  assert.equal(made.status(), 201);
  await page.goto(`${url}/notebooks/a-person.ipynb`);
  await page.locator('.jp-NotebookPanel .jp-CodeCell').waitFor();
  await idle();
});

await step('connect with the button of the toolbar', async () => {
  // Enabled as soon as the kernel has said that it speaks Python.
  await page
    .locator('.jp-NotebookPanel-toolbar [data-command="exo-lab:connect"][aria-disabled="false"]')
    .click();
  await page.locator('.jp-OutputArea').getByText('listens on').first().waitFor();
  await idle();
});

await step('the panel opens from the palette', async () => {
  await command('Show the cluster panel');
  await page.locator(`${PANEL}.jp-ExoLab-graph`).waitFor();
  // The main area holds one notebook here: there is no place for a dashboard, and nothing offers one.
  assert.equal(await page.locator(`${PANEL} >> text=Open the dashboard`).count(), 0);
  assert.deepEqual(
    (await palette('dashboard')).filter(label => label.includes('luster')),
    []
  );
});

await step('nodes come and a model is loaded', async () => {
  await run('%exo up 2');
  await says('kernel-2 joined');
  await run('%exo load smollm2-135m');
  await page.locator(`${PANEL}[role=slider]`).nth(1).waitFor();
});

await step('an answer streams into the cell and the panel', async () => {
  await run('%%exo --max-tokens 64\nTell a long story about the city of Paris.', { wait: false });
  await page.locator(`${PANEL}button:has-text("Stop")`).waitFor(); // it is running, and seen
  await says('as long as was asked for');
  await idle();
  await page.locator('.jp-OutputArea').getByText('Paris').first().waitFor();
});

await step('views in outputs are live', async () => {
  await run('%exo topology');
  await output.last().locator('.jp-ExoLab-device').nth(2).waitFor();
  await run('%exo placement');
  const slider = output.last().locator('[role=slider]').first();
  const at = async () => Number(await slider.getAttribute('aria-valuenow'));
  await slider.focus();
  await page.locator('.jp-Notebook.jp-mod-commandMode').waitFor(); // where the notebook has shortcuts for arrows
  const before = await at();
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('ArrowLeft');
  assert.equal(await at(), before - 2);
  await page.keyboard.press('Escape');
  assert.equal(await output.getByText('A picture of the past').count(), 0);
});

await step('telemetry moves', async () => {
  await run('view = %exo telemetry --every 0.25\nview');
  await page.waitForFunction(() =>
    window.Bokeh?.documents
      .flatMap(one => [...one._all_models.values()])
      .some(one => one.type === 'ColumnDataSource' && (one.data.at?.length ?? 0) >= 5)
  );
  await page.waitForTimeout(1000); // painted
  await picture('telemetry');
  await run('view.close()');
});

await step('stop in the middle of a cell', async () => {
  await run('%%exo --max-tokens 2000\nTell a very long story about a river.', { wait: false });
  const stop = page.locator(`${PANEL}button:has-text("Stop")`);
  await stop.waitFor();
  await stop.click();
  await says('stopped');
  await idle();
});

await step('dark', async () => {
  await command('Theme: JupyterLab Dark');
  await page.locator('body[data-jp-theme-light="false"]').waitFor({ state: 'attached' });
  await page.waitForTimeout(500);
  await output.first().scrollIntoViewIfNeeded();
});

await leave({ ours: complaint => complaint.includes('exo-lab') });
