/** The side panel works while somebody looks, and rests while nobody does. */

import { Widget } from '@lumino/widgets';
import { act } from 'react';

import { Follower } from '../src/follower';
import { ExoPanel } from '../src/panel';
import { Pool } from '../src/pool';
import { ServerWatch } from '../src/serverWatch';
import { english } from '../src/text';
import { frame, samplePlan, status, tokens } from './fixtures';
import { FakeKernel } from './kernel';
import { FakeLab } from './lab';
import { FakeSocket } from './server';

jest.mock('@jupyterlab/notebook', () => jest.requireActual('./lab'));
jest.mock('@jupyterlab/ui-components', () => jest.requireActual('./lab'));

const actions = { connect: jest.fn(), look: jest.fn(), insert: jest.fn(), openDashboard: null };
let lab: FakeLab;
let sockets: FakeSocket[];
let panel: ExoPanel;

beforeEach(() => {
  lab = new FakeLab();
  sockets = [];
  const server = new ServerWatch(() => {
    sockets.push(new FakeSocket());
    return sockets[sockets.length - 1];
  });
  panel = new ExoPanel(new Follower(new Pool(), ...lab.real), server, actions, english, false);
});

afterEach(() => panel.dispose());

async function meanwhile(happens: () => void): Promise<void> {
  await act(async () => {
    happens();
    await frame();
  });
}

test('a panel that was never opened asks neither the server nor a kernel, and draws nothing', async () => {
  const kernel = new FakeKernel();
  lab.notebook('a', kernel);
  panel.hide();
  await meanwhile(() => Widget.attach(panel, document.body));
  expect(panel.node.innerHTML).toBe('');
  expect(sockets).toHaveLength(0);
  expect(kernel.comms).toHaveLength(0);
});

test('the server is asked while the panel is open, and no longer', async () => {
  await meanwhile(() => Widget.attach(panel, document.body));
  expect(sockets).toHaveLength(1);
  await meanwhile(() => panel.hide());
  expect(sockets[0].closed).toBe(true);
  await meanwhile(() => panel.show());
  expect(sockets).toHaveLength(2);
  expect(panel.node.textContent).toContain('No kernel');
});

test('in the background it is drawn no more, keeps what was chosen, and shows what it missed afterwards', async () => {
  const kernel = new FakeKernel();
  lab.notebook('a', kernel);
  await meanwhile(() => Widget.attach(panel, document.body));
  await meanwhile(() => kernel.comm.hear(status));
  const nodes = (): number => panel.node.querySelectorAll('.jp-ExoLab-topology tbody tr').length;
  await meanwhile(() =>
    [...panel.node.querySelectorAll('button')].find(one => one.textContent === 'Show as a table')?.click()
  );
  await meanwhile(() => panel.hide());
  const [own] = status.status?.nodes ?? [];
  await meanwhile(() =>
    kernel.comm.hear({ ...status, status: status.status && { ...status.status, nodes: [own] } })
  );
  expect(nodes()).toBe(3);
  await meanwhile(() => panel.show());
  expect(nodes()).toBe(1);
});

test('however many tokens come in one frame, it is drawn once', async () => {
  const kernel = new FakeKernel();
  lab.notebook('a', kernel);
  await meanwhile(() => Widget.attach(panel, document.body));
  await meanwhile(() => kernel.comm.hear(status));
  const { model, epoch, devices } = samplePlan();
  const start = { type: 'generation-start', request: 'r', model, epoch, devices, prompt_tokens: 1 };
  await meanwhile(() => kernel.comm.hear(start));
  let drawn = 0;
  const observer = new MutationObserver(() => (drawn += 1));
  observer.observe(panel.node, { childList: true, subtree: true });
  await meanwhile(() => {
    for (let index = 0; index < 40; index += 1) {
      kernel.comm.hear({ type: 'tokens', request: 'r', tokens: [{ ...tokens[1], index }] });
    }
  });
  observer.disconnect();
  expect(panel.node.querySelectorAll('.jp-ExoLab-token')).toHaveLength(40);
  expect(drawn).toBe(1);
});
