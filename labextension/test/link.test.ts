/** The comm: opened for a reason, one answer a request, and back after a restart. */

import { KernelLink, KernelProblem, mentionsExo } from '../src/link';
import { Pool } from '../src/pool';
import { RENEW_S } from '../src/types';
import { samplePlan, settle, status } from './fixtures';
import { FakeKernel } from './kernel';

async function connected(): Promise<{ kernel: FakeKernel; link: KernelLink }> {
  const kernel = new FakeKernel();
  const link = new KernelLink(kernel.real, 'a.ipynb');
  await link.attach();
  kernel.comm.hear(status);
  return { kernel, link };
}

test('nothing is opened before there is a reason', async () => {
  const kernel = new FakeKernel();
  const link = new KernelLink(kernel.real, 'a.ipynb');
  await settle();
  expect(link.model.state.phase).toBe('not-loaded');
  expect(kernel.comms).toHaveLength(0);
});

test('a kernel of another language is left alone', async () => {
  const kernel = new FakeKernel('R');
  const link = new KernelLink(kernel.real, 'a.ipynb');
  await link.attach();
  expect(link.model.state.phase).toBe('other-language');
  expect(link.model.state.language).toBe('R');
  expect(kernel.comms).toHaveLength(0);
});

test('it connects, and shows what the kernel says', async () => {
  const { link, kernel } = await connected();
  expect(kernel.comm.opened).toBe(true);
  expect(link.model.state.phase).toBe('connected');
});

test('the comm is opened only when its subshell is there', async () => {
  const kernel = new FakeKernel();
  let started: () => void = () => undefined;
  const make = kernel.createComm.bind(kernel);
  kernel.createComm = () => {
    const comm = make();
    comm.subshellStarted = new Promise(resolve => (started = resolve));
    return comm;
  };
  const attaching = new KernelLink(kernel.real, 'a.ipynb').attach();
  await settle();
  expect(kernel.comm.opened).toBe(false);
  started();
  await attaching;
  expect(kernel.comm.opened).toBe(true);
});

test('a kernel without subshells is not waited for', async () => {
  const kernel = new FakeKernel();
  kernel.supportsSubshells = false;
  const make = kernel.createComm.bind(kernel);
  kernel.createComm = () => {
    const comm = make();
    comm.subshellStarted = new Promise(() => undefined);
    return comm;
  };
  await new KernelLink(kernel.real, 'a.ipynb').attach();
  expect(kernel.comm.opened).toBe(true);
});

test('where exo_lab is not loaded the kernel closes, and a cell that loads it brings us back', async () => {
  const kernel = new FakeKernel();
  kernel.loaded = false;
  const link = new KernelLink(kernel.real, 'a.ipynb');
  await link.attach();
  expect(link.model.state.phase).toBe('not-loaded');
  kernel.ran('x = 1');
  await settle();
  expect(kernel.comms).toHaveLength(1);
  kernel.loaded = true;
  kernel.ran('%load_ext exo_lab\n%exo connect');
  await settle();
  kernel.comm.hear(status);
  expect(kernel.comms).toHaveLength(2);
  expect(link.model.state.phase).toBe('connected');
});

test('a cell that loads exo_lab while the kernel is being asked is not missed', async () => {
  const kernel = new FakeKernel();
  kernel.loaded = false;
  let started: () => void = () => undefined;
  const make = kernel.createComm.bind(kernel);
  kernel.createComm = () => {
    const comm = make();
    comm.subshellStarted = new Promise(resolve => (started = resolve));
    return comm;
  };
  const link = new KernelLink(kernel.real, 'a.ipynb');
  void link.attach();
  await settle();
  kernel.ran('%load_ext exo_lab');
  await settle();
  kernel.createComm = make;
  started(); // the first question was asked too early, and is refused
  await settle();
  expect(kernel.comms).toHaveLength(2);
});

test('each question gets its own answer, in any order', async () => {
  const { kernel, link } = await connected();
  const first = link.ask({ type: 'stop', request: 'r' });
  const second = link.ask({ type: 'refresh' });
  const [a, b] = kernel.comm.sent;
  expect(a.id).not.toBe(b.id);
  kernel.comm.hear({ type: 'acknowledged', id: b.id });
  kernel.comm.hear({ type: 'stopped', id: a.id, count: 1 });
  kernel.comm.hear({ type: 'stopped', id: a.id, count: 7 }); // twice: heard once
  expect(await first).toEqual({ type: 'stopped', id: a.id, count: 1 });
  expect((await second).type).toBe('acknowledged');
});

test('a refusal keeps the name and the words of the error', async () => {
  const { kernel, link } = await connected();
  const asked = link.ask({ type: 'stop', request: null });
  kernel.comm.hear({ type: 'problem', id: kernel.comm.sent[0].id, error: 'StaleEpoch', message: 'too late' });
  await expect(asked).rejects.toMatchObject({ kind: 'StaleEpoch', message: 'too late' });
});

test('who asks a kernel that goes away is told so', async () => {
  const { kernel, link } = await connected();
  const asked = link.ask({ type: 'refresh' });
  kernel.statusChanged.emit('restarting');
  await expect(asked).rejects.toBeInstanceOf(KernelProblem);
  await expect(link.ask({ type: 'refresh' })).rejects.toMatchObject({ kind: 'NotConnected' });
});

test('who gets no answer is not left waiting for ever', async () => {
  jest.useFakeTimers();
  try {
    const { link } = await connected();
    const asked = link.ask({ type: 'refresh' });
    const judged = expect(asked).rejects.toMatchObject({ kind: 'Timeout' });
    jest.advanceTimersByTime(60_000);
    await judged;
  } finally {
    jest.useRealTimers();
  }
});

test('after a restart it says so, forgets, and connects again when exo_lab is loaded again', async () => {
  const { kernel, link } = await connected();
  kernel.statusChanged.emit('restarting');
  expect(link.model.state.phase).toBe('restarting');
  expect(link.model.state.status).toBeNull();
  kernel.statusChanged.emit('idle');
  expect(link.model.state.phase).toBe('not-loaded');
  kernel.ran('%exo connect');
  await settle();
  kernel.comm.hear(status);
  expect(link.model.state.phase).toBe('connected');
});

test('a dead kernel is called dead', async () => {
  const { kernel, link } = await connected();
  kernel.statusChanged.emit('dead');
  expect(link.model.state.phase).toBe('dead');
});

test('what is not of this protocol is ignored', async () => {
  const { kernel, link } = await connected();
  const before = link.model.state;
  for (const data of [null, 7, 'x', [], {}, { type: 7 }, { type: 'stopped', id: 'nobody', count: 1 }]) {
    kernel.comm.hear(data);
  }
  expect(link.model.state).toBe(before);
});

test('unloading closes the panel, and the cell that reloads exo_lab opens it again', async () => {
  const { kernel, link } = await connected();
  kernel.ran('%unload_ext exo_lab', () => {
    kernel.loaded = false;
    kernel.comm.closedByKernel({ reason: 'unloaded' });
  });
  await settle();
  expect(link.model.state.phase).toBe('not-loaded');
  expect(kernel.comm.opened).toBe(true); // asked once after the cell, as after any that speaks of exo_lab
  kernel.loaded = true;
  kernel.ran('%load_ext exo_lab');
  await settle();
  kernel.comm.hear(status);
  expect(link.model.state.phase).toBe('connected');
  const before = kernel.comms.length;
  kernel.ran('%reload_ext exo_lab', () => kernel.comm.closedByKernel({ reason: 'unloaded' }));
  await settle();
  kernel.comm.hear(status);
  expect(kernel.comms).toHaveLength(before + 1);
  expect(link.model.state.phase).toBe('connected');
});

test('who was let go because the kernel had not heard of them comes back at once', async () => {
  const { kernel, link } = await connected();
  kernel.comm.closedByKernel({ reason: 'silent' });
  await settle();
  kernel.comm.hear(status);
  expect(kernel.comms).toHaveLength(2);
  expect(link.model.state.phase).toBe('connected');
});

test('now and then the kernel is asked something, so that it knows that we are there', async () => {
  jest.useFakeTimers();
  try {
    const { kernel } = await connected();
    jest.setSystemTime(Date.now() + (RENEW_S - 1) * 1000);
    kernel.comm.hear(status);
    expect(kernel.comm.sent).toHaveLength(0);
    jest.setSystemTime(Date.now() + 1000);
    kernel.comm.hear(status);
    kernel.comm.hear(status);
    expect(kernel.comm.sent).toMatchObject([{ type: 'refresh' }]);
    jest.setSystemTime(Date.now() + RENEW_S * 1000);
    kernel.comm.hear(status);
    expect(kernel.comm.sent).toHaveLength(2);
  } finally {
    jest.useRealTimers();
  }
});

describe('looking again', () => {
  beforeEach(() => jest.useFakeTimers());
  afterEach(() => jest.useRealTimers());

  test('asks over the comm that is there, and keeps it when something comes', async () => {
    const { kernel, link } = await connected();
    const looking = link.lookAgain();
    expect(kernel.comm.sent).toMatchObject([{ type: 'refresh' }]);
    kernel.comm.hear(status); // a busy kernel pushes, and answers nothing
    await jest.advanceTimersByTimeAsync(60_000);
    await looking;
    expect(kernel.comms).toHaveLength(1);
    expect(link.model.state.phase).toBe('connected');
  });

  test('opens another where nothing comes', async () => {
    const { kernel, link } = await connected();
    const looking = link.lookAgain();
    await jest.advanceTimersByTimeAsync(60_000);
    await looking;
    expect(kernel.comms[0].goodbyes).toBe(1);
    expect(kernel.comms).toHaveLength(2);
    expect(kernel.comm.opened).toBe(true);
    kernel.comm.hear(status);
    expect(link.model.state.phase).toBe('connected');
  });

  test('gives up a comm whose subshell does not come', async () => {
    const kernel = new FakeKernel();
    const make = kernel.createComm.bind(kernel);
    kernel.createComm = () => {
      const comm = make();
      comm.subshellStarted = new Promise(() => undefined);
      return comm;
    };
    const link = new KernelLink(kernel.real, 'a.ipynb');
    void link.attach();
    await jest.advanceTimersByTimeAsync(1);
    kernel.createComm = make;
    await link.lookAgain();
    expect(kernel.comms[0].isDisposed).toBe(true);
    expect(kernel.comms[0].goodbyes).toBe(0); // it was never opened
    expect(kernel.comm.opened).toBe(true);
    await jest.advanceTimersByTimeAsync(60_000);
    expect(kernel.comms.map(comm => comm.opened)).toEqual([false, true]);
  });

  test('happens by itself when the connection comes back', async () => {
    const { kernel } = await connected();
    kernel.connectionStatusChanged.emit('connecting');
    kernel.connectionStatusChanged.emit('connected');
    expect(kernel.comm.sent).toMatchObject([{ type: 'refresh' }]);
    await jest.advanceTimersByTimeAsync(60_000);
    expect(kernel.comms).toHaveLength(2);
  });
});

const start = {
  type: 'generation-start',
  request: 'r7',
  model: samplePlan().model,
  epoch: 3,
  devices: samplePlan().devices,
  prompt_tokens: 1
};

test('stop names the running generation, and interrupts nothing when it is heard', async () => {
  const { kernel, link } = await connected();
  kernel.comm.hear(start);
  const stopping = link.stop(10_000);
  expect(kernel.comm.sent[0]).toMatchObject({ type: 'stop', request: 'r7' });
  kernel.comm.hear({ type: 'stopped', id: kernel.comm.sent[0].id, count: 1 });
  await stopping;
  expect(kernel.interrupt).not.toHaveBeenCalled();
});

test('stop interrupts the kernel when it is not heard in time', async () => {
  const { kernel, link } = await connected();
  kernel.comm.hear(start);
  await link.stop(1);
  expect(kernel.interrupt).toHaveBeenCalledTimes(1);
  link.dispose();
});

test('code that speaks of exo is told from code that does not', () => {
  for (const code of [
    '%exo connect',
    '%%exo\nhi',
    '%load_ext exo_lab',
    'import exo_lab',
    'x = 1\n  %exo up 3'
  ]) {
    expect(mentionsExo(code)).toBe(true);
  }
  for (const code of ['', 'x = 5 % exo', 'exotic = 1', '# exoplanet', '%expand']) {
    expect(mentionsExo(code)).toBe(false);
  }
});

test('a kernel has one connection, and it goes with the kernel', async () => {
  const kernel = new FakeKernel();
  const pool = new Pool();
  const one = pool.of(kernel.real, 'a.ipynb');
  expect(pool.of(kernel.real, 'a.ipynb')).toBe(one);
  await one.link.attach();
  kernel.dispose();
  expect(one.link.isDisposed).toBe(true);
  expect(pool.of(kernel.real, 'a.ipynb')).not.toBe(one);
  await settle();
});
