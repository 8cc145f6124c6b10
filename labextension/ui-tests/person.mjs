// A person at a page of ours: one step after the other, each with a picture and a line; the first that fails is the end.
import assert from 'node:assert/strict';
import { join } from 'node:path';

import { launch } from './browser.mjs';

const WAIT = 60_000;
const CELLS = 120_000; // a cell may load a model

/**
 * A browser with one page, and what a person does in it.
 *
 * `panel` is the selector of our panel, with a space at its end. What our own code throws is kept; `leave` complains of it.
 */
export async function person({ pictures = '', panel = '#exo-lab-panel ', viewport }) {
  const browser = await launch();
  const page = await browser.newPage({ viewport: viewport ?? { width: 1500, height: 1150 } });
  page.setDefaultTimeout(WAIT);
  const complaints = [];
  page.on('pageerror', error => complaints.push(error.stack ?? String(error)));
  page.on('console', message => {
    if (message.type() === 'error' && message.text().includes('exo-lab')) {
      complaints.push(message.text());
    }
  });

  async function picture(name) {
    if (pictures !== '') {
      await page.screenshot({ path: join(pictures, `${name}.png`) });
    }
  }

  async function step(name, work) {
    const started = Date.now();
    try {
      await work();
    } catch (error) {
      await picture('failed');
      console.log(`FAILED ${name}: ${error}`);
      const seen = page.locator(panel).innerText({ timeout: 1000 });
      console.log((await seen.catch(() => 'no panel')).slice(0, 2000));
      complaints.forEach(one => console.log(one));
      await browser.close();
      process.exit(1);
    }
    await picture(name.replaceAll(' ', '-'));
    console.log(`ok ${name} (${Date.now() - started} ms)`);
  }

  /** No cell waits or runs. The indicator alone is idle too while a kernel that cells wait for has yet to come. */
  async function idle() {
    await page.waitForFunction(
      () =>
        document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle' &&
        ![...document.querySelectorAll('.jp-InputPrompt')].some(one => one.textContent.includes('*')),
      null,
      { timeout: CELLS }
    );
  }

  /** Write code into the last cell and run it. */
  async function run(code, { wait = true } = {}) {
    await page.locator('.jp-NotebookPanel .jp-CodeCell .cm-content').last().click();
    await page.keyboard.press('Control+a');
    await page.keyboard.insertText(code);
    await page.keyboard.press('Shift+Enter');
    if (wait) {
      await page.waitForTimeout(300);
      await idle();
    }
  }

  async function says(text) {
    await page.locator(panel).getByText(text).first().waitFor({ state: 'visible' });
  }

  /** A new notebook in JupyterLab beside our panel, which knows when the kernel has come. */
  async function openNotebook(url, token) {
    await page.goto(`${url}/lab?token=${token}&reset`);
    await page.locator('[data-id="exo-lab-panel"]').waitFor();
    if (!(await page.locator(panel).isVisible())) {
      await page.click('[data-id="exo-lab-panel"]');
    }
    await page.locator('.jp-LauncherCard[data-category="Notebook"]').first().click();
    await idle();
    await says('This kernel is in no cluster yet.');
  }

  async function leave({ ours = () => true } = {}) {
    await browser.close();
    assert.deepEqual(complaints.filter(ours), []);
  }

  return { page, step, picture, idle, run, says, openNotebook, leave };
}
