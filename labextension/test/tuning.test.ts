/** Moving layers: local while it moves, judged by the kernel on release, refused with the reason, applied and undone. */

import { Ask, KernelProblem } from '../src/link';
import { ClusterModel } from '../src/model';
import { Tuning } from '../src/tuning';
import { PanelAnswer, Plan, PlanChange, Prediction } from '../src/types';
import { sampleModel, samplePlan, settle, status } from './fixtures';

/** A kernel that says no to more than `most` layers on the third device. */
class Kernel {
  asked: Ask[] = [];
  held: (() => void)[] = [];
  hold = false;
  gone = false;
  most = 8;

  readonly ask = async (ask: Ask): Promise<PanelAnswer> => {
    this.asked.push(ask);
    if (this.hold) {
      await new Promise<void>(resolve => this.held.push(resolve));
    }
    if (this.gone) {
      throw new KernelProblem('NotConnected', 'the kernel is not connected');
    }
    switch (ask.type) {
      case 'what-if':
        return { type: 'predicted', id: '', prediction: this.judge(ask.change) };
      case 'apply':
        return { type: 'applied', id: '', plan: planOf(ask.change) };
      default:
        throw new Error('not asked here');
    }
  };

  judge(change: PlanChange): Prediction {
    const layers = change.layers ?? [10, 10, 10];
    const fits = (change.layers?.[2] ?? 0) <= this.most;
    return {
      devices: change.devices.map((device, i) => ({
        device,
        layers: layers[i] ?? 0,
        memory_needed_bytes: 1,
        memory_available_bytes: 2,
        stage_s: null
      })),
      fits,
      reason: fits ? '' : 'kernel-3 has too little memory.',
      tokens_per_s: 10 + layers[0],
      ttft_s: null,
      prompt_tokens: null,
      strategy: change.strategy ?? 'manual',
      context_tokens: 4096,
      origin: 'assumed',
      notes: []
    };
  }

  count(type: Ask['type']): number {
    return this.asked.filter(ask => ask.type === type).length;
  }
}

function planOf(change: PlanChange): Plan {
  let at = 0;
  const used = change.devices
    .map((id, i) => [id, change.layers?.[i] ?? 0] as const)
    .filter(([, count]) => count > 0);
  const shards = used.map(([, count]) => {
    const start = at;
    at += count;
    return { model: change.model, start, end: at, n_layers: 30 };
  });
  const strategy = change.strategy ?? 'manual';
  return { ...samplePlan(), devices: used.map(([id]) => id), shards, epoch: change.epoch + 1, strategy };
}

async function tuned(): Promise<{ kernel: Kernel; model: ClusterModel; tuning: Tuning }> {
  const kernel = new Kernel();
  const model = sampleModel();
  const tuning = new Tuning(model, kernel.ask);
  await settle();
  return { kernel, model, tuning };
}

test('the loaded plan is judged once and is the first draft', async () => {
  const { kernel, tuning } = await tuned();
  expect(tuning.state.draft?.layers).toEqual([14, 10, 6]);
  expect(tuning.state.baseVerdict?.prediction?.tokens_per_s).toBe(24);
  expect(kernel.count('what-if')).toBe(1);
});

test('a move is there at once, before the kernel has said anything', async () => {
  const { kernel, tuning } = await tuned();
  kernel.hold = true;
  tuning.move(0, 15);
  expect(tuning.state.draft?.layers).toEqual([15, 9, 6]);
  expect(tuning.state.verdict).toBeNull();
  kernel.held.forEach(go => go());
});

test('while it moves one question is on its way, and the next is about the latest position', async () => {
  const { kernel, tuning } = await tuned();
  kernel.hold = true;
  for (let to = 15; to <= 20; to += 1) {
    tuning.move(0, to);
  }
  await settle();
  expect(kernel.count('what-if')).toBe(2);
  kernel.hold = false;
  kernel.held.forEach(go => go());
  await settle();
  expect(kernel.count('what-if')).toBe(3);
  const last = kernel.asked[2];
  expect(last.type === 'what-if' && last.change.layers).toEqual([20, 4, 6]);
  expect(tuning.state.verdict?.prediction?.tokens_per_s).toBe(30);
});

test('on release the draft is committed once, with the epoch that the person saw', async () => {
  const { kernel, tuning } = await tuned();
  tuning.move(0, 15);
  await settle();
  const before = kernel.asked.length;
  await tuning.release();
  await tuning.release();
  const asked = kernel.asked.slice(before).map(ask => (ask.type === 'what-if' ? ask.change : null));
  // The draft once, and the loaded plan, so that figures of one moment are compared.
  expect(asked.map(change => change?.layers)).toEqual([
    [15, 9, 6],
    [14, 10, 6]
  ]);
  expect(asked[0]?.epoch).toBe(3);
  expect(kernel.count('apply')).toBe(0);
});

test('a refused position goes back to where it was, with the reason', async () => {
  const { tuning } = await tuned();
  tuning.move(1, 16);
  await settle();
  expect(tuning.state.verdict?.kind).toBe('refused');
  await tuning.release();
  expect(tuning.state.draft?.layers).toEqual([14, 10, 6]);
  expect(tuning.state.refusal).toBe('kernel-3 has too little memory.');
  expect(tuning.state.announcement).toBe('kernel-3 has too little memory.');
  tuning.move(0, 13);
  expect(tuning.state.refusal).toBe('');
});

test('escape brings back what was there before the boundary was touched', async () => {
  const { tuning } = await tuned();
  tuning.move(0, 20);
  tuning.abandon();
  expect(tuning.state.draft?.layers).toEqual([14, 10, 6]);
  expect(tuning.state.moving).toBe(false);
});

test('a strategy gives a draft, and loads nothing', async () => {
  const { kernel, tuning } = await tuned();
  await tuning.useStrategy('uniform');
  expect(tuning.state.draft?.layers).toEqual([10, 10, 10]);
  expect(tuning.state.draft?.strategy).toBe('uniform');
  expect(kernel.count('apply')).toBe(0);
});

test('apply asks once, then shows the new plan with what was predicted for it, and can be undone', async () => {
  const { kernel, model, tuning } = await tuned();
  tuning.move(0, 16);
  await tuning.release();
  await tuning.apply();
  await settle();
  expect(kernel.count('apply')).toBe(1);
  expect(tuning.chosen?.plan.epoch).toBe(4);
  expect(tuning.state.draft?.layers).toEqual([16, 8, 6]);
  expect(model.state.changes.at(-1)?.predicted?.tokens_per_s).toBe(26);
  expect(model.state.changes.at(-1)?.predictedBefore?.tokens_per_s).toBe(24);
  expect(tuning.undoable?.before.epoch).toBe(3);

  await tuning.undo();
  await settle();
  const undo = kernel.asked.filter(ask => ask.type === 'apply').at(-1);
  expect(undo?.type === 'apply' && undo.change).toMatchObject({ epoch: 4, layers: [14, 10, 6] });
  expect(tuning.chosen?.plan.epoch).toBe(5);
});

test('a change that somebody else made in between is not undone from here', async () => {
  const { model, tuning } = await tuned();
  tuning.move(0, 16);
  await tuning.release();
  await tuning.apply();
  const inner = status.status;
  const plan = { ...samplePlan(), epoch: 9 };
  model.dispatch({ ...status, status: inner && { ...inner, models: [{ ...inner.models[0], plan }] } });
  expect(tuning.undoable).toBeNull();
});

test('a new plan of the cluster replaces a draft that was made for the old one', async () => {
  const { model, tuning } = await tuned();
  tuning.move(0, 16);
  await settle();
  const inner = status.status;
  const plan = { ...samplePlan(), epoch: 9 };
  model.dispatch({ ...status, status: inner && { ...inner, models: [{ ...inner.models[0], plan }] } });
  expect(tuning.state.draft).toMatchObject({ epoch: 9, layers: [14, 10, 6] });
});

test('a device that joins is added to the draft without undoing it', async () => {
  const { model, tuning } = await tuned();
  tuning.move(0, 16);
  await settle();
  const inner = status.status;
  const device = inner && { ...inner.nodes[1].device, id: 'ddd444', name: 'kernel-4' };
  model.dispatch({
    ...status,
    status: inner && device && { ...inner, nodes: [...inner.nodes, { ...inner.nodes[1], device }] }
  });
  expect(tuning.state.draft?.devices).toEqual(['aaa111', 'bbb222', 'ccc333', 'ddd444']);
  expect(tuning.state.draft?.layers).toEqual([16, 8, 6, 0]);
});

test('a refused apply keeps the draft and says why', async () => {
  const { kernel, tuning } = await tuned();
  tuning.move(0, 16);
  await tuning.release();
  kernel.gone = true;
  await tuning.apply();
  expect(tuning.state.applying).toBe(false);
  expect(tuning.state.draft?.layers).toEqual([16, 8, 6]);
  expect(tuning.state.refusal).toContain('not connected');
});

test('a kernel that is gone while a boundary moves ends in a refusal, not in endless asking', async () => {
  const { kernel, tuning } = await tuned();
  kernel.gone = true;
  tuning.move(0, 16);
  await settle();
  await tuning.release();
  expect(kernel.asked.length).toBeLessThan(6);
  expect(tuning.state.refusal).toContain('not connected');
  kernel.gone = false;
  tuning.move(0, 16);
  await settle();
  expect(tuning.state.verdict?.kind).toBe('fits');
});
