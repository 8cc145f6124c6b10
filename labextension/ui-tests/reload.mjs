// A page that is loaded again: views and charts in outputs go on live, and are pictures once their kernel is gone.
//
//   node ui-tests/reload.mjs URL TOKEN [FOLDER FOR PICTURES]
//
// Exits with 1 at the first step that fails. tests/labextension/test_in_a_browser.py starts the server and runs this.
import assert from 'node:assert/strict';

import { person } from './person.mjs';

const [url, token, pictures = ''] = process.argv.slice(2);
const { page, step, idle, run, openNotebook, leave } = await person({ pictures });
const outputs = page.locator('.jp-OutputArea-output');

const looks = () =>
  page.evaluate(() => {
    const models = (window.Bokeh?.documents ?? []).flatMap(one => [...one._all_models.values()]);
    const source = models.find(one => one.type === 'ColumnDataSource' && one.data.at !== undefined);
    return [...(source?.data.at ?? [])];
  });

async function drawn(least) {
  await page.waitForFunction(
    count =>
      (window.Bokeh?.documents ?? [])
        .flatMap(one => [...one._all_models.values()])
        .some(one => one.type === 'ColumnDataSource' && (one.data.at?.length ?? 0) >= count),
    least
  );
  return looks();
}

async function again() {
  await page.keyboard.press('Escape');
  await page.keyboard.press('Control+s');
  const named = page.locator('.jp-Dialog .jp-mod-accept'); // a notebook that was never named is asked for its name
  await named.click({ timeout: 3000 }).catch(() => undefined);
  await page.waitForTimeout(1500); // the layout is saved a second after it changed
  await page.goto(`${url}/lab`);
  await page.locator('.jp-NotebookPanel .jp-OutputArea-output').first().waitFor();
  await idle();
}

let before = [];

await step('views and charts are live', async () => {
  await openNotebook(url, token);
  await run('%load_ext exo_lab\n%exo connect');
  await run('%exo topology');
  await run('view = %exo telemetry --every 0.25\nview');
  before = await drawn(6);
});

await step('after the page is loaded again they still are, and have what was measured before', async () => {
  await again();
  const after = await drawn(before.length + 2);
  assert.deepEqual(after.slice(0, before.length), before);
  const more = await drawn(after.length + 3);
  assert.deepEqual(more.slice(0, after.length), after);
  assert.equal(await outputs.getByText('Error displaying widget').count(), 0);
  assert.equal(await outputs.getByText('A picture of the past').count(), 0);
  await page.getByRole('button', { name: 'Pause' }).scrollIntoViewIfNeeded();
});

await step('with another kernel the charts are a picture that says so', async () => {
  await page.getByTitle(/^Restart the kernel$/).click();
  await page.locator('.jp-Dialog button:has-text("Restart")').click();
  await outputs.getByText('the kernel that drew it is gone').waitFor();
  assert.equal(await outputs.getByText('Error displaying widget').count(), 0);
});

// Of a kernel that is gone, jupyter_bokeh's widget says that it cannot send to it.
await leave({ ours: complaint => complaint.includes('exo-lab') });
