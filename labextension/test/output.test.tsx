/** A view in an output: live with the kernel of its notebook, whenever that comes, and a picture without. */

import { Widget } from '@lumino/widgets';
import { act } from 'react';

import { Follower } from '../src/follower';
import { OutputWidget } from '../src/outputView';
import { Pool } from '../src/pool';
import { english } from '../src/text';
import { OutputView, VIEW_MIME } from '../src/types';
import { frame, settle, status } from './fixtures';
import { FakeKernel } from './kernel';
import { FakeHost, FakeLab } from './lab';

jest.mock('@jupyterlab/notebook', () => jest.requireActual('./lab'));
jest.mock('@jupyterlab/ui-components', () => jest.requireActual('./lab'));

let lab: FakeLab;
let follower: Follower;
let view: OutputWidget;

beforeEach(() => {
  lab = new FakeLab();
  follower = new Follower(new Pool(), ...lab.real);
});

afterEach(() => view.dispose());

/** A view in an output of this host; in none, a view of its own. */
async function shown(host: FakeHost | null, what: OutputView['view'] = 'placement'): Promise<void> {
  view = new OutputWidget(follower, english);
  const output: OutputView = { view: what, snapshot: status, answer: null, follow: false };
  await meanwhile(() => {
    void view.renderModel({ data: { [VIEW_MIME]: output } } as never);
    if (host !== null) {
      document.body.append(host.node);
    }
    Widget.attach(view, host?.node ?? document.body);
  });
}

/** Do it, and see all that comes of it drawn. */
async function meanwhile(happens: () => void): Promise<void> {
  await act(async () => {
    happens();
    await frame();
  });
}

/** The kernel has exo_lab loaded, and says so. */
async function speaks(kernel: FakeKernel, said: object = status): Promise<void> {
  await act(settle);
  await meanwhile(() => kernel.comm.hear(said));
}

const live = (): boolean => view.node.querySelector('[role=slider]') !== null;

test.each<['notebook' | 'console']>([['notebook'], ['console']])(
  'in a %s it is live with a kernel that comes later, and with the one after that',
  async kind => {
    const host = lab[kind]('a', null);
    await shown(host);
    expect(view.node.textContent).toContain('the kernel is not connected');
    for (const kernel of [new FakeKernel(), new FakeKernel()]) {
      await meanwhile(() => host.sessionContext.take(kernel));
      expect(live()).toBe(false);
      await speaks(kernel);
      expect(live()).toBe(true);
    }
  }
);

test('once it is gone it hears of no kernel', async () => {
  const host = lab.notebook('a', null);
  await shown(host);
  view.dispose();
  const kernel = new FakeKernel();
  host.sessionContext.take(kernel);
  await settle();
  expect(kernel.comms).toHaveLength(0);
});

test('outside of a notebook it is live with the kernel that made it, also when the person goes on', async () => {
  const kernel = new FakeKernel();
  lab.notebook('a', kernel);
  follower.look();
  await shown(null);
  expect(view.node.textContent).toContain('outside of its notebook');
  await speaks(kernel);
  expect(live()).toBe(true);
  await meanwhile(() => lab.notebook('b'));
  expect(live()).toBe(true);
});

test('in a notebook that is in the background it is drawn no more, and shows what it missed afterwards', async () => {
  const kernel = new FakeKernel();
  const host = lab.notebook('a', kernel);
  const nodes = (): number => view.node.querySelectorAll('.jp-ExoLab-device').length;
  await shown(host, 'topology');
  await speaks(kernel);
  await meanwhile(() => view.hide());
  const [own] = status.status?.nodes ?? [];
  await speaks(kernel, { ...status, status: status.status && { ...status.status, nodes: [own] } });
  expect(nodes()).toBe(3);
  await meanwhile(() => view.show());
  expect(nodes()).toBe(1);
});

test('outside of a notebook it does not show another kernel\u2019s cluster as its own', async () => {
  const kernel = new FakeKernel();
  lab.notebook('b', kernel);
  follower.look();
  await shown(null);
  await speaks(kernel, { ...status, status: status.status && { ...status.status, node_id: 'ddd444' } });
  expect(live()).toBe(false);
});
