/** The state follows what the kernel says, and nothing else. */

import {
  ClusterModel,
  EMPTY,
  isGenerating,
  Message,
  nameOf,
  reduce,
  runsOn,
  shownModel,
  stageSeconds,
  State,
  tokensPerS
} from '../src/model';
import { statusText } from '../src/statusText';
import { english } from '../src/text';
import { GenerationStats, PanelEvent, StatusEvent } from '../src/types';
import { samplePlan, sampleState, status, tokens } from './fixtures';

const plan = samplePlan();
const start: PanelEvent = {
  type: 'generation-start',
  request: 'r',
  model: plan.model,
  epoch: plan.epoch,
  devices: plan.devices,
  prompt_tokens: 3
};
const stats: GenerationStats = {
  request: 'r',
  model: plan.model,
  plan,
  prompt_tokens: 3,
  prompt_tokens_reused: 0,
  tokens: 2,
  ttft_s: 0.2,
  total_s: 0.3,
  tokens_per_s: 50,
  prefill_tokens_per_s: null,
  stage_compute_s: [],
  finish: 'stop',
  notices: ['kernel-2 was lost; the text goes on.']
};

function after(...messages: Message[]): State {
  return messages.reduce(reduce, sampleState());
}

function without(id: string): StatusEvent {
  const inner = status.status;
  return {
    ...status,
    status: inner && { ...inner, nodes: inner.nodes.filter(node => node.device.id !== id) }
  };
}

function lost(id: string): StatusEvent {
  const inner = status.status;
  const nodes = inner?.nodes.map(node =>
    node.device.id === id ? { ...node, liveness: 'lost' as const } : node
  );
  return { ...status, status: inner && { ...inner, nodes: nodes ?? [] } };
}

test('a status connects, and gives every device its mark', () => {
  const state = sampleState();
  expect(state.phase).toBe('connected');
  expect([...state.marks.keys()]).toEqual(['aaa111', 'bbb222', 'ccc333']);
  expect(shownModel(state)?.plan.epoch).toBe(3);
  expect(nameOf(state, 'ccc333')).toBe('kernel-3');
  expect(nameOf(state, '0123456789ab')).toBe('01234567');
});

test('a kernel that is in no cluster is not connected', () => {
  const state = reduce(EMPTY, { ...status, status: null });
  expect(state.phase).toBe('not-a-node');
});

test('a kernel of another protocol is not believed', () => {
  const state = reduce(EMPTY, { ...status, protocol: 99 });
  expect(state.mismatch).toBe(99);
  expect(state.status).toBeNull();
});

test('the first status announces nobody; later ones say who joined and who is gone', () => {
  expect(sampleState().notices).toEqual([]);
  expect(after(lost('bbb222')).notices.map(notice => [notice.kind, notice.text])).toEqual([
    ['lost', 'kernel-2']
  ]);
  expect(after(without('bbb222')).notices.map(notice => notice.kind)).toEqual(['lost']);
  expect(after(lost('bbb222'), without('bbb222')).notices).toHaveLength(1);
  expect(after(without('bbb222'), status).notices.map(notice => notice.kind)).toEqual(['lost', 'joined']);
});

test('the same status again changes no notice', () => {
  expect(after(status, status).notices).toEqual([]);
});

test('tokens of a generation add up, those of another are not shown', () => {
  const state = after(
    start,
    { type: 'tokens', request: 'r', tokens },
    { type: 'tokens', request: 'x', tokens }
  );
  expect(state.generation?.tokens.map(token => token.text).join('')).toBe(' Paris.');
  expect(isGenerating(state)).toBe(true);
  expect(tokensPerS(state)).toBeCloseTo(50);
});

test('stage times leave out the prompt', () => {
  const state = after(start, { type: 'tokens', request: 'r', tokens });
  expect(stageSeconds(state, plan).get('aaa111')).toBeCloseTo(0.004);
  const first = after(start, { type: 'tokens', request: 'r', tokens: tokens.slice(0, 1) });
  expect(stageSeconds(first, plan).size).toBe(0);
});

test('stage times of an answer are not those of another plan or another model', () => {
  const state = after(start, { type: 'tokens', request: 'r', tokens });
  expect(stageSeconds(state, { ...plan, epoch: plan.epoch + 1 }).size).toBe(0);
  expect(stageSeconds(state, { ...plan, model: 'another' }).size).toBe(0);
  expect(stageSeconds(state, null).size).toBe(0);
});

test('an answer that goes on over another plan runs on that one, and its stage times begin anew', () => {
  const next = { ...plan, epoch: plan.epoch + 1, devices: ['bbb222'] };
  const moved = { type: 'generation-moved', request: 'r', epoch: next.epoch, devices: next.devices } as const;
  const state = after(start, { type: 'tokens', request: 'r', tokens }, { ...moved, index: tokens.length });
  expect(runsOn(state.generation, next)).toBe(true);
  expect(runsOn(state.generation, plan)).toBe(false);
  expect(stageSeconds(state, next).size).toBe(0);
  const later = [0, 1].map(i => ({
    ...tokens[1],
    index: tokens.length + i,
    timings: [['bbb222', i === 0 ? 9 : 0.5, 9] as const]
  }));
  const went = reduce(state, { type: 'tokens', request: 'r', tokens: later });
  expect([...stageSeconds(went, next)]).toEqual([['bbb222', 0.5]]); // the first one's is the prompt's
  expect(reduce(went, { ...moved, request: 'x', index: 9 })).toBe(went);
});

test('at its end a generation has its measured figures, and so has its plan', () => {
  const state = after(start, { type: 'tokens', request: 'r', tokens }, { type: 'generation-end', stats });
  expect(isGenerating(state)).toBe(false);
  expect(tokensPerS(state)).toBe(50);
  expect(state.measured[`${plan.model} ${plan.epoch}`]).toBe(stats);
  expect(state.notices.at(-1)?.text).toContain('the text goes on');
});

test('a very long answer does not grow for ever', () => {
  const many = Array.from({ length: 10_000 }, (_, index) => ({ ...tokens[0], index }));
  const state = after(start, { type: 'tokens', request: 'r', tokens: many });
  expect(state.generation?.tokens.length).toBeLessThan(5000);
  expect(state.generation?.tokens.at(-1)?.index).toBe(9999);
});

test('an applied plan shows at once, and an older one never replaces a newer', () => {
  const next = { ...plan, epoch: 4 };
  const change = {
    type: 'plan-applied',
    before: plan,
    after: next,
    predicted: null,
    predictedBefore: null
  } as const;
  expect(shownModel(after(change))?.plan.epoch).toBe(4);
  const old = { ...change, after: { ...plan, epoch: 2 } };
  expect(shownModel(after(old))?.plan.epoch).toBe(3);
});

test('after a restart nothing of the old kernel is left', () => {
  const state = after(start, { type: 'phase', phase: 'restarting' });
  expect(state).toEqual({ ...EMPTY, phase: 'restarting' });
});

test('a message that this version does not know changes nothing', () => {
  const state = sampleState();
  expect(reduce(state, { type: 'from-the-future' } as unknown as Message)).toBe(state);
});

test('no state is ever changed in place', () => {
  const freeze = (value: unknown): void => {
    if (value !== null && typeof value === 'object' && !Object.isFrozen(value)) {
      Object.freeze(value);
      Object.values(value).forEach(freeze);
    }
  };
  let state = sampleState();
  for (const message of [
    start,
    { type: 'tokens', request: 'r', tokens },
    { type: 'load-progress', node: 'kernel-1', done: 1, total: 2, what: 'layers' },
    { type: 'generation-end', stats },
    lost('bbb222'),
    status
  ] as Message[]) {
    freeze(state);
    state = reduce(state, message);
  }
  expect(state.loading['kernel-1']).toEqual({ done: 1, total: 2, what: 'layers' });
});

test('the holder signals changes, and only changes', () => {
  const model = new ClusterModel(sampleState());
  const seen = jest.fn();
  model.changed.connect(seen);
  model.dispatch({ type: 'from-the-future' } as unknown as Message);
  expect(seen).not.toHaveBeenCalled();
  model.dispatch(start);
  expect(seen).toHaveBeenCalledTimes(1);
});

test('the status bar says what there is to say', () => {
  expect(statusText(sampleState(), english)).toBe('3 nodes \u00b7 SmolLM2-135M');
  expect(statusText(after(start, { type: 'generation-end', stats }), english)).toContain('50.0 tok/s');
});
