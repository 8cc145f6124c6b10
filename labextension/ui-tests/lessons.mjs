// A reader opens a lesson from the launcher: a copy in the folder, which stays as the reader leaves it.
// usage: node ui-tests/lessons.mjs URL TOKEN [FOLDER FOR PICTURES]
import assert from 'node:assert/strict';

import { person } from './person.mjs';

const [url, token, pictures] = process.argv.slice(2);
const { page, step, leave } = await person({ pictures });

await step('the launcher has a card for every lesson', async () => {
  await page.goto(`${url}/lab?token=${token}&reset`);
  const cards = page.locator('.jp-LauncherCard', { hasText: /^\s*\d · / });
  await cards.first().waitFor();
  assert.equal(await cards.count(), 6);
});

await step('a lesson opens', async () => {
  await page.locator('.jp-LauncherCard', { hasText: '2 · Prefill' }).click();
  await page.getByRole('tab', { name: '02-prefill-decode-kv-cache.ipynb' }).waitFor();
  await page.getByRole('heading', { name: /Prefill, decode and the KV cache/ }).waitFor();
});

await leave();
