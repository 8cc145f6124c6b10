/** The views with sample state and a make-believe kernel, outside of JupyterLab: to look at them, and for axe. */

import * as React from 'react';
import { createRoot } from 'react-dom/client';

import fixtures from '../test/fixtures.json';
import { facts, FakeSocket } from '../test/server';
import { Ask, KernelLink, KernelProblem } from '../src/link';
import { ClusterModel } from '../src/model';
import { Empty, PanelView } from '../src/panelView';
import { ServerWatch } from '../src/serverWatch';
import { english } from '../src/text';
import { Tuning } from '../src/tuning';
import {
  ClusterStatus,
  GenerationStats,
  PanelAnswer,
  PanelEvent,
  Prediction,
  StatusEvent,
  TokenEvent
} from '../src/types';

const status = fixtures.status as unknown as StatusEvent;
const actions = { connect: note, look: note, insert: note, openDashboard: note };

function note(): void {
  document.title = 'pressed';
}

/** Answers like a kernel whose third node has little memory. The figures are made up. */
async function answer(ask: Ask): Promise<PanelAnswer> {
  if (ask.type !== 'what-if') {
    throw new KernelProblem('ConfigError', 'the harness applies nothing');
  }
  await Promise.resolve();
  const { change } = ask;
  const layers = change.layers ?? [14, 10, 6];
  const needed = layers.map(count => 3_000_000 * count + (count > 0 ? 40_000_000 : 0));
  const there = [4e9, 2e9, 96e6];
  const short = needed.findIndex((bytes, i) => bytes > there[i]);
  const prediction: Prediction = {
    devices: change.devices.map((device, i) => ({
      device,
      layers: layers[i],
      memory_needed_bytes: needed[i],
      memory_available_bytes: there[i],
      stage_s: 0.0008 * layers[i]
    })),
    fits: short < 0,
    reason: short < 0 ? '' : `node ${short + 1} needs ${needed[short]} bytes and has ${there[short]}.`,
    tokens_per_s: 41.5,
    ttft_s: 0.31,
    prompt_tokens: 256,
    strategy: change.strategy ?? 'manual',
    context_tokens: 2048,
    origin: 'assumed',
    notes: ['Only sample figures.']
  };
  return { type: 'predicted', id: '', prediction };
}

const query = new URLSearchParams(location.search);
const model = new ClusterModel();
const tuning = new Tuning(model, answer);
const link = { model, kernel: { id: 'harness' }, stop: note } as unknown as KernelLink;
const say = (event: PanelEvent): void => model.dispatch(event);

const sample = status.status;
if (sample === null) {
  throw new Error('the fixture has no status');
}
say(status);
if (query.has('alerts')) {
  say({ ...status, status: fixtures.alerts.status as unknown as ClusterStatus });
}
if (query.has('joined')) {
  const device = { ...sample.nodes[1].device, id: 'ddd444', name: 'kernel-4', memory_bytes: 16 * 2 ** 30 };
  say({
    ...status,
    status: { ...sample, nodes: [...sample.nodes, { ...sample.nodes[1], device, load: 0.95 }] }
  });
}
if (query.has('lost')) {
  const nodes = sample.nodes.map((node, i) => (i === 1 ? { ...node, liveness: 'lost' as const } : node));
  say({ ...status, status: { ...sample, nodes } });
}
if (query.has('run')) {
  const plan = sample.models[0].plan;
  const { model: name, epoch, devices } = plan;
  say({ type: 'generation-start', request: 'r', model: name, epoch, devices, prompt_tokens: 12 });
  const words = 'The capital of France is Paris . A river that flows through it is the Seine .'.split(' ');
  const tokens = words.map((word, index) => ({
    ...(fixtures.tokens[0] as unknown as TokenEvent),
    index,
    text: (index > 0 && word !== '.' ? ' ' : '') + word,
    logprob: -Math.abs(Math.sin(index * 1.7)) * 1.5,
    at_s: 0.31 + 0.024 * index,
    timings: devices.map((id, i) => [id, 0.004 + 0.006 * i, 0.005 + 0.006 * i] as const)
  }));
  say({ type: 'tokens', request: 'r', tokens });
  if (query.has('done')) {
    const stats: GenerationStats = {
      request: 'r',
      model: name,
      plan,
      prompt_tokens: 12,
      prompt_tokens_reused: 0,
      tokens: tokens.length,
      ttft_s: 0.31,
      total_s: 0.9,
      tokens_per_s: 39.2,
      prefill_tokens_per_s: null,
      stage_compute_s: [],
      finish: 'stop',
      notices: []
    };
    say({ type: 'generation-end', stats });
  }
}
if (query.has('draft')) {
  tuning.move(0, Number(query.get('draft')));
}

const host = document.getElementById('root');
if (host === null) {
  throw new Error('no root');
}
host.style.width = query.get('width') ?? '';
const server = new ServerWatch(() => {
  const socket = new FakeSocket();
  const models = query.has('bare') ? [] : ['smollm2-135m'];
  setTimeout(() => socket.say(facts(query.has('bare') ? [] : ['kernel-1', 'gpu-box'], models)), 0);
  return socket;
});
const empty = query.get('empty') as Parameters<typeof Empty>[0]['phase'] | null;
createRoot(host).render(
  empty === null ? (
    <PanelView connection={{ link, tuning }} actions={actions} trans={english} wide={query.has('wide')} />
  ) : (
    <div className="jp-ExoLab-panel">
      <Empty
        phase={empty}
        subject="Untitled.ipynb"
        language="R"
        server={server}
        actions={actions}
        trans={english}
      />
    </div>
  )
);
document.body.dataset.ready = 'yes';
