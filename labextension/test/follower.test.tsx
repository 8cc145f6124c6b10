/** Whose kernel the panel shows, and in which notebook a button acts. */

import { Widget } from '@lumino/widgets';

import { Follower } from '../src/follower';
import { Pool } from '../src/pool';
import { FakeKernel } from './kernel';
import { FakeLab, NotebookActions, real } from './lab';

jest.mock('@jupyterlab/notebook', () => jest.requireActual('./lab'));

let lab: FakeLab;
let follower: Follower;

beforeEach(() => {
  lab = new FakeLab();
  follower = new Follower(new Pool(), ...lab.real);
});

const followed = (): string | undefined => follower.current?.link.model.state.subject;

test('who comes back to a notebook from a console is in the notebook', () => {
  const notebook = lab.notebook('a');
  lab.console('c');
  expect(followed()).toBe('c');
  lab.go(notebook);
  expect(followed()).toBe('a');
});

test('a dashboard or a text in the foreground leaves the last kernel followed', () => {
  const [, second] = [lab.notebook('a'), lab.notebook('b')];
  lab.go(new Widget());
  expect(followed()).toBe('b');
  second.sessionContext.take(null);
  expect(followed()).toBeUndefined();
});

test('where a shell does not say what is in the foreground, the trackers do', () => {
  const { notebooks } = lab;
  const host = lab.notebook('a');
  const still = new Follower(new Pool(), { currentWidget: null }, lab.real[1], null);
  expect(still.current?.link.model.state.subject).toBe('a');
  expect(notebooks.currentWidget).toBe(host);
});

test('a notebook that is closed hands over to what is open', () => {
  lab.console('c');
  const notebook = lab.notebook('a');
  lab.notebooks.widgets.length = 0;
  lab.notebooks.currentWidget = null;
  notebook.dispose();
  expect(followed()).toBe('c');
});

test('a kernel that comes later is followed', () => {
  const notebook = lab.notebook('a', null);
  expect(follower.current).toBeNull();
  notebook.sessionContext.take(new FakeKernel());
  expect(followed()).toBe('a');
});

test('a cell is inserted into the notebook whose button was pressed, not into the console that has the focus', async () => {
  const notebook = lab.notebook('a');
  const console = lab.console('c');
  await follower.insert('%exo connect', true, follower.notebook('a'));
  expect(NotebookActions.run).toHaveBeenCalledWith(notebook.content, notebook.sessionContext);
  expect(console.injected).toEqual([]);
  await follower.insert('%exo connect', true);
  expect(console.injected).toEqual(['%exo connect']);
  expect(await follower.insert('%exo connect', true, follower.notebook('gone'))).toBe(false);
});

test('a console on the kernel of a notebook, which takes no comms, shows what the notebook does', () => {
  const notebook = lab.notebook('a', new FakeKernel());
  const own = follower.current;
  const second = Object.assign(new FakeKernel(), { handleComms: false });
  lab.console('c', second);
  expect(follower.current).toBe(own);
  notebook.sessionContext.take(Object.assign(new FakeKernel(), { id: 'another' }));
  lab.go(notebook);
  lab.console('d', second);
  expect(follower.current).toBeNull();
});

test('an output knows the notebook or console that it stands in', () => {
  const [notebook, console] = [lab.notebook('a'), lab.console('c')];
  const output = document.createElement('div');
  expect(follower.hostAt(output)).toBeNull();
  console.node.append(output);
  expect(follower.hostAt(output)).toBe(real(console));
  notebook.node.append(output);
  expect(follower.hostAt(output)).toBe(real(notebook));
});
