/** The heatmap as people find it: the time of Python's heatmap, live, paused, saved. */

import * as React from 'react';
import { act } from 'react';
import { createRoot, Root } from 'react-dom/client';

import { heatCsv, heatOf, meansOf, scaleOf } from '../src/heat';
import { HeatView } from '../src/heatView';
import { Message, reduce, State } from '../src/model';
import { english } from '../src/text';
import { OutputView, TokenEvent } from '../src/types';
import { fixtures, samplePlan, sampleState, status, tokens } from './fixtures';

const PLAN = samplePlan();
const STATS = {
  request: 'r',
  model: 'SmolLM2-135M',
  plan: PLAN,
  prompt_tokens: 3,
  prompt_tokens_reused: 0,
  tokens: 4,
  ttft_s: 0.2,
  total_s: 0.3,
  tokens_per_s: 50,
  prefill_tokens_per_s: null,
  stage_compute_s: [],
  finish: 'length',
  notices: []
} as const;

function some(count: number): TokenEvent[] {
  return Array.from({ length: count }, (_, index) => ({ ...tokens[0], index, at_s: 0.2 + 0.02 * index }));
}

function output(follow: boolean, count = 4): OutputView {
  return { view: 'heatmap', snapshot: status, answer: { tokens: some(count), stats: STATS }, follow };
}

function after(...messages: Message[]): State {
  return messages.reduce(reduce, sampleState());
}

function answering(request: string, count: number): State {
  const { model, epoch, devices } = PLAN;
  return after(
    { type: 'generation-start', request, model, epoch, devices, prompt_tokens: 3 },
    { type: 'tokens', request, tokens: some(count) }
  );
}

describe('the time of tokens', () => {
  it('is split as in Python', () => {
    const heat = heatOf(tokens, fixtures.heat.devices);
    expect(heat.devices).toEqual(fixtures.heat.heat.devices);
    heat.splits.forEach((split, i) => {
      const wanted = fixtures.heat.heat.splits[i];
      expect(split.index).toBe(wanted.index);
      expect(split.total).toBeCloseTo(wanted.total_s, 12);
      expect(split.wire).toBeCloseTo(wanted.wire_s, 12);
      split.compute.forEach((value, k) => expect(value).toBeCloseTo(wanted.compute_s[k], 12));
      split.queue.forEach((value, k) => expect(value).toBeCloseTo(wanted.queue_s[k], 12));
    });
    expect(heatCsv(heat, ['aaa111', 'bbb222', 'a "third", renamed'])).toBe(fixtures.heat.csv);
  });

  it('is all there: stages and wire make up every interval', () => {
    const heat = heatOf(some(20), PLAN.devices);
    expect(heat.splits).toHaveLength(19);
    const means = meansOf(heat);
    const whole = [...means.compute, ...means.queue, means.wire].reduce((sum, value) => sum + value, 0);
    expect(whole).toBeCloseTo(0.02, 9);
  });

  it('has no negative wire where clocks disagree, and one slow token pales no others', () => {
    const hurried = some(100).map(token => ({ ...token, at_s: 0.5 }));
    expect(heatOf(hurried, PLAN.devices).splits.every(split => split.wire === 0)).toBe(true);
    const slow = some(100).map(token =>
      token.index === 50 ? { ...token, timings: [[PLAN.devices[0], 4, 4] as const] } : token
    );
    expect(scaleOf(heatOf(slow, PLAN.devices).splits, [1, 1, 1]).layer).toBeCloseTo(0.004, 9);
  });
});

describe('the view', () => {
  let host: HTMLDivElement;
  let root: Root;

  beforeEach(() => {
    jest.useFakeTimers();
    host = document.createElement('div');
    document.body.append(host);
    root = createRoot(host);
  });

  afterEach(() => {
    act(() => root.unmount());
    host.remove();
    jest.useRealTimers();
  });

  function draw(view: OutputView, state: State, live = true): void {
    act(() => root.render(<HeatView output={view} state={state} live={live} trans={english} />));
    act(() => jest.advanceTimersByTime(300));
  }

  function button(text: string): HTMLButtonElement | undefined {
    return [...host.querySelectorAll('button')].find(one => one.textContent === text);
  }

  it('follows the running answer, and stands still on Pause', () => {
    const view = output(true);
    draw(view, answering('r2', 10));
    expect(host.textContent).toContain('time of 9 tokens');
    act(() => button('Pause')?.click());
    draw(view, answering('r2', 20));
    expect(host.textContent).toContain('time of 9 tokens');
    expect(button('Go on')?.getAttribute('aria-pressed')).toBe('true');
    act(() => button('Go on')?.click());
    expect(host.textContent).toContain('time of 19 tokens');
  });

  it('is redrawn four times a second at most', () => {
    const view = output(true);
    draw(view, answering('r2', 10));
    act(() =>
      root.render(<HeatView output={view} state={answering('r2', 11)} live={true} trans={english} />)
    );
    expect(host.textContent).toContain('time of 9 tokens');
    act(() => jest.advanceTimersByTime(250));
    expect(host.textContent).toContain('time of 10 tokens');
  });

  it('of a chosen answer stays with it', () => {
    draw(output(false), answering('r2', 10));
    expect(host.textContent).toContain('time of 3 tokens');
    expect(button('Pause')).toBeUndefined();
  });

  it('is a picture with its exports where no kernel lives', () => {
    draw(output(true), sampleState(), false);
    expect(button('Pause')).toBeUndefined();
    expect(button('Save as CSV')).toBeDefined();
    expect(button('Save as PNG')).toBeDefined();
    expect(host.querySelector('svg[role=img]')?.getAttribute('aria-label')).toContain(
      'kernel-1 computes 4.00 ms and holds it 500 \u00b5s longer'
    );
    expect(host.querySelectorAll('svg title')).toHaveLength(3);
  });

  it('says that there are no tokens yet', () => {
    draw(output(true, 1), sampleState());
    expect(host.textContent).toContain('No tokens yet');
  });
});
