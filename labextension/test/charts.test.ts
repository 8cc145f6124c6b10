/** Live charts in an output: with BokehJS, wherever that is from, and a kernel that has them; else a picture with a reason. */

import { Widget } from '@lumino/widgets';

import { BokehJs } from '../src/bokehJs';
import { ChartsOutput } from '../src/chartsOutput';
import { Follower } from '../src/follower';
import { Pool } from '../src/pool';
import { english } from '../src/text';
import { BokehAnswer, CHARTS_MIME } from '../src/types';
import { settle } from './fixtures';
import { FakeKernel } from './kernel';
import { FakeHost, FakeLab, FakeRendermime } from './lab';

jest.mock('@jupyterlab/notebook', () => jest.requireActual('./lab'));

const WIDGET = 'application/vnd.jupyter.widget-view+json';
const page = window as { Bokeh?: unknown };
const served: BokehAnswer = { version: '3.9.2', script: 'window.Bokeh = { from: "server" }' };

let lab: FakeLab;
let output: ChartsOutput;
let asked: number;

beforeEach(() => {
  lab = new FakeLab();
  asked = 0;
  delete page.Bokeh;
});

afterEach(() => output.dispose());

async function shown(host: FakeHost | null, answer: BokehAnswer | Error = served): Promise<string> {
  const bokeh = new BokehJs(async () => {
    asked += 1;
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
  });
  const registry = new FakeRendermime() as never;
  output = new ChartsOutput(new Follower(new Pool(), ...lab.real), bokeh, registry, english);
  await output.renderModel({
    data: { [CHARTS_MIME]: { bokeh: '3.9.2' }, [WIDGET]: { model_id: 'w' } }
  } as never);
  if (host !== null) {
    document.body.append(host.node);
  }
  Widget.attach(output, host?.node ?? document.body);
  await settle();
  return output.node.textContent ?? '';
}

function kernelWith(...widgets: string[]): FakeKernel {
  return Object.assign(new FakeKernel(), { widgets });
}

test('a page without BokehJS gets it from the server, once', async () => {
  expect(await shown(lab.notebook('a', kernelWith('w')))).toBe(WIDGET);
  expect(page.Bokeh).toEqual({ from: 'server' });
  expect(asked).toBe(1);
});

test('a page that has it asks nobody, and does not wait for a kernel that is busy with the cell', async () => {
  page.Bokeh = {};
  const kernel = Object.assign(kernelWith(), { status: 'busy', requestCommInfo: jest.fn() });
  expect(await shown(lab.notebook('a', kernel))).toBe(WIDGET);
  expect(kernel.requestCommInfo).not.toHaveBeenCalled();
  expect(asked).toBe(0);
});

test('it is a picture until its kernel comes, and again when that is another', async () => {
  const host = lab.notebook('a', null);
  expect(await shown(host)).toContain('text/html');
  host.sessionContext.take(kernelWith('w'));
  await settle();
  expect(output.node.textContent).toBe(WIDGET);
  host.sessionContext.take(kernelWith('x'));
  await settle();
  expect(output.node.textContent).toBe('A picture of the past: the kernel that drew it is gone.text/html');
});

test.each<[BokehAnswer | Error, string]>([
  [{ ...served, version: '3.8.0' }, 'the kernel has Bokeh 3.9.2, the server 3.8.0'],
  [{ version: '', script: '' }, 'the kernel has Bokeh 3.9.2, the server none'],
  [new Error('the server has no BokehJS for this page (404)'), 'for this page (404)']
])('where the server cannot help the picture says why', async (answer, reason) => {
  const text = await shown(lab.notebook('a', kernelWith('w')), answer);
  expect(text).toContain(reason);
  expect(text).toContain('text/html');
  expect(page.Bokeh).toBeUndefined();
});

test('a view outside of a notebook finds the kernel that has the widget', async () => {
  lab.notebook('a', kernelWith('w'));
  lab.notebook('b', kernelWith('x'));
  expect(await shown(null)).toBe(WIDGET);
});
